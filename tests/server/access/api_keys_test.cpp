#include "server/access/api_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>

#include "base/sha256.h"
#include "tests/server/access/notices.h"
#include "tests/server/access/temporary_folder.h"

namespace sluice::server {
namespace {

std::string line(const std::string& key, const std::string& rest) {
  return sha256_hex(key) + " " + rest + "\n";
}

std::string parse_error(const std::string& text) {
  const auto keys = KeySet::parse(text);
  EXPECT_FALSE(keys.has_value());
  return keys ? "" : keys.error().message;
}

TEST(KeySet, ReadsNamesLimitsAndComments) {
  const auto keys =
      KeySet::parse("# keys of the office\n\n" +
                    line("k1", "alice requests_per_minute=60\tconcurrent_requests=2") + "  " +
                    line("k2", "bob-2.x_y") + line("k3", "bob-2.x_y"));
  ASSERT_TRUE(keys.has_value()) << keys.error().message;
  EXPECT_EQ(keys->size(), 3u);
  ASSERT_NE(keys->find("k1"), nullptr);
  EXPECT_EQ(keys->find("k1")->name, "alice");
  EXPECT_EQ(keys->find("k1")->limits.requests_per_minute, 60);
  EXPECT_EQ(keys->find("k1")->limits.tokens_per_minute, std::nullopt);
  EXPECT_EQ(keys->find("k1")->limits.concurrent_requests, 2);
  EXPECT_EQ(keys->find("k2")->name, "bob-2.x_y");
  EXPECT_EQ(keys->find("k3"), keys->find("k2"));
  EXPECT_EQ(keys->limits_of("alice"), keys->find("k1")->limits);
  EXPECT_EQ(keys->limits_of("nobody"), ClientLimits{});
}

TEST(KeySet, TakesUpperCaseDigitsAndWindowsLineEnds) {
  std::string digest = sha256_hex("k");
  std::ranges::transform(digest, digest.begin(), ::toupper);
  const auto keys = KeySet::parse(digest + " a\r\n");
  ASSERT_TRUE(keys.has_value()) << keys.error().message;
  EXPECT_NE(keys->find("k"), nullptr);
}

TEST(KeySet, FindsWholeKeysOnly) {
  const std::string longest(KeySet::kMaxKeyBytes, 'k');
  std::string text = line("secret", "a") + line(longest, "b");
  for (int i = 0; i < 300; ++i) text += line("other" + std::to_string(i), "c");
  const auto keys = KeySet::parse(text);
  ASSERT_TRUE(keys.has_value());
  EXPECT_NE(keys->find("secret"), nullptr);
  EXPECT_NE(keys->find(longest), nullptr);
  EXPECT_EQ(keys->find("other299")->name, "c");
  for (const std::string& wrong : {std::string(), std::string("secre"), std::string("secret "),
                                   std::string("secreT"), std::string("secret\0", 7), longest + "k",
                                   sha256_hex("secret"), std::string(1 << 16, 'x')}) {
    EXPECT_EQ(keys->find(wrong), nullptr) << wrong.size();
  }
}

TEST(KeySet, AnEmptyKeyIsNobodys) {
  const auto keys = KeySet::parse(line("", "a"));
  ASSERT_TRUE(keys.has_value());
  EXPECT_EQ(keys->find(""), nullptr);
}

TEST(KeySet, NamesTheLineAndWhatIsWrong) {
  const std::string good = line("k", "a");
  EXPECT_EQ(parse_error(""), "it has no key");
  EXPECT_EQ(parse_error("# nothing\n\n"), "it has no key");
  EXPECT_EQ(parse_error(good + "secret a\n"),
            "line 2: the first word is not the 64 hexadecimal digits of a SHA-256");
  EXPECT_EQ(parse_error(std::string(64, 'g') + " a"),
            "line 1: the first word is not the 64 hexadecimal digits of a SHA-256");
  for (const std::string& name : {std::string(), std::string("a/b"), std::string("a=b"),
                                  std::string("\x1b[0m"), std::string(65, 'a')}) {
    EXPECT_EQ(parse_error(line("k", name)),
              "line 1: the second word is not a name of 1 to 64 letters, digits, '.', '_' and '-'");
  }
  EXPECT_EQ(parse_error(line("k", "a b")),
            "line 1: what follows the name is not requests_per_minute=N, tokens_per_minute=N or "
            "concurrent_requests=N");
  for (const char* limit : {"0", "-1", "1.5", "", "1e3", "1000000000001", "99999999999999999999"}) {
    EXPECT_EQ(parse_error(line("k", "a tokens_per_minute=" + std::string(limit))),
              "line 1: tokens_per_minute is not a whole number from 1 to 1000000000000");
  }
  EXPECT_EQ(parse_error(line("k", "a concurrent_requests=1 concurrent_requests=1")),
            "line 1: concurrent_requests stands twice");
  EXPECT_EQ(parse_error(good + good), "line 2: the same key stood above");
  EXPECT_EQ(parse_error(good + line("k2", "a requests_per_minute=1")),
            "line 2: the same name stood above with other limits");
}

TEST(KeySet, HoldsTenThousandKeysAndNoMore) {
  std::string text;
  for (size_t i = 0; i < KeySet::kMaxKeys; ++i) {
    text += line("key" + std::to_string(i), "n" + std::to_string(i % 100));
  }
  EXPECT_TRUE(KeySet::parse(text).has_value());
  EXPECT_EQ(parse_error(text + line("more", "n0")), "line 10001: more than 10000 keys");
}

TEST(ApiKeys, AnswersEveryWrongHeaderAlike) {
  const TemporaryFolder folder;
  folder.write("keys", line("secret", "alice"));
  const auto keys = ApiKeys::load(folder / "keys", [](const std::string&) {});
  ASSERT_TRUE(keys.has_value()) << keys.error().message;
  for (const char* right : {"Bearer secret", "bearer secret", "BEARER  secret "}) {
    const auto client = (*keys)->authenticate(right);
    ASSERT_TRUE(client.has_value()) << right;
    EXPECT_EQ(client->name, "alice");
  }
  const auto missing = (*keys)->authenticate(std::nullopt);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::kUnauthenticated);
  for (const char* wrong : {"", "secret", "Bearer", "Bearer ", "Bearersecret", "Basic secret",
                            "Bearer secrex", "Bearer secret2", "Bearer secret secret"}) {
    const auto client = (*keys)->authenticate(wrong);
    ASSERT_FALSE(client.has_value()) << wrong;
    EXPECT_EQ(client.error().code, ErrorCode::kUnauthenticated);
    EXPECT_EQ(client.error().message, missing.error().message);
  }
  EXPECT_EQ(authenticate(nullptr, "Bearer x")->name, "");
  EXPECT_FALSE(authenticate(keys->get(), "Bearer x").has_value());
}

TEST(ApiKeys, WithoutAGoodFileThereIsNoServer) {
  const TemporaryFolder folder;
  folder.write("empty", "");
  folder.write("large", std::string(KeySet::kMaxFileBytes + 1, '\n'));
  const auto error = [&](const std::string& name) {
    const auto keys = ApiKeys::load(folder / name, [](const std::string&) {});
    return keys ? "" : keys.error().message;
  };
  EXPECT_EQ(error("absent"), "there is no such file");
  EXPECT_EQ(error(""), "it is no regular file");
  EXPECT_EQ(error("empty"), "it has no key");
  EXPECT_EQ(error("large"), "it has more than 4194304 bytes");
}

TEST(ApiKeys, FollowsTheFileAndKeepsTheOldKeysWhenItIsBroken) {
  const TemporaryFolder folder;
  folder.write("keys", line("one", "alice"));
  Notices notices;
  const auto loaded = ApiKeys::load(folder / "keys", notices.sink(), std::chrono::milliseconds(10));
  ASSERT_TRUE(loaded.has_value());
  const ApiKeys& keys = **loaded;
  const auto is_known = [&](const std::string& key) {
    return keys.authenticate("Bearer " + key).has_value();
  };
  EXPECT_TRUE(is_known("one"));

  folder.write("new", line("two", "alice"));  // replaced, as an editor or a secret's mount does it
  std::filesystem::rename(folder / "new", folder / "keys");
  EXPECT_EQ(notices.wait_for(0), "the file of --api-keys has changed: 1 keys");
  EXPECT_FALSE(is_known("one"));
  EXPECT_TRUE(is_known("two"));

  folder.write("keys", "no hash\n");  // in place
  EXPECT_EQ(notices.wait_for(1),
            "the file of --api-keys has changed and is not used, the old keys stay: line 1: the "
            "first word is not the 64 hexadecimal digits of a SHA-256");
  EXPECT_TRUE(is_known("two"));

  std::filesystem::remove(folder / "keys");
  EXPECT_EQ(notices.wait_for(2),
            "the file of --api-keys has changed and is not used, the old keys stay: there is no "
            "such file");
  EXPECT_TRUE(is_known("two"));

  folder.write("keys", line("three", "bob") + line("four", "bob"));
  EXPECT_EQ(notices.wait_for(3), "the file of --api-keys has changed: 2 keys");
  EXPECT_FALSE(is_known("two"));
  EXPECT_EQ(keys.authenticate("Bearer four")->name, "bob");
}

// No key's place and no half-right key is to be told from the time. What can be asked of a shared
// machine is that a scan of 10,000 keys which met its key early is not faster than one that never
// did: an early exit would make it so by orders of magnitude.
TEST(ApiKeys, ARightKeyAtTheTopIsNotFoundSoonerThanAWrongOne) {
  std::string text = line("first", "a");
  for (size_t i = 1; i < KeySet::kMaxKeys; ++i) text += line("key" + std::to_string(i), "b");
  const auto keys = KeySet::parse(text);
  ASSERT_TRUE(keys.has_value());
  const auto fastest = [&](const std::string& key) {
    auto best = std::chrono::steady_clock::duration::max();
    for (int i = 0; i < 200; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const Client* const found = keys->find(key);
      best = std::min(best, std::chrono::steady_clock::now() - start);
      EXPECT_EQ(found != nullptr, key == "first");
    }
    return best;
  };
  const auto right = fastest("first");
  const auto wrong = fastest("wrong");
  EXPECT_GT(right * 3, wrong);
  EXPECT_GT(wrong * 3, right);
}

}  // namespace
}  // namespace sluice::server
