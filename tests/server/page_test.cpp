// The page's files, as a plain client gets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/http/page_files.h"
#include "tests/server/http_fixture.h"

namespace sluice::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

using PageTest = HttpFixture;

TEST_F(PageTest, EveryFileIsThereAndLocked) {
  start_with_keys();  // the page itself asks for none
  ASSERT_GE(page_files().size(), 3u);
  for (const PageFile& file : page_files()) {
    const bool is_index = file.name == "index.html";
    const RawResponse response = get(is_index ? "/" : "/page/" + std::string(file.name));
    ASSERT_EQ(response.status, 200) << file.name;
    EXPECT_EQ(response.body, file.content) << file.name;
    if (file.name.ends_with(".js")) {
      EXPECT_EQ(response.headers.at("content-type"), "text/javascript; charset=utf-8");
    }
    const std::string policy = response.headers.at("content-security-policy");
    EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
    EXPECT_THAT(policy, HasSubstr("script-src 'self';"));
    EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'"));
    EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
    EXPECT_EQ(response.headers.at("x-content-type-options"), "nosniff");
    EXPECT_EQ(response.headers.at("cache-control"), "no-cache");
  }
  EXPECT_EQ(get("/page/").status, 404);
  EXPECT_EQ(get("/page/../page.js").status, 404);
  EXPECT_EQ(http_post(port(), "/", "{}").status, 405);
}

TEST_F(PageTest, NoFileNamesAnotherServer) {
  for (const PageFile& file : page_files()) {
    std::string content(file.content);
    // The name of a language, which nobody fetches.
    for (const std::string_view name = "http://www.w3.org/2000/svg"; content.contains(name);) {
      content.erase(content.find(name), name.size());
    }
    EXPECT_THAT(content, Not(HasSubstr("//www."))) << file.name;
    EXPECT_THAT(content, Not(HasSubstr("http://"))) << file.name;
    EXPECT_THAT(content, Not(HasSubstr("https://"))) << file.name;
  }
}

}  // namespace
}  // namespace sluice::server
