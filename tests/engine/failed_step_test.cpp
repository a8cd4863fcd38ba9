// What a step that fails in LibTorch says, and to whom.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "sluice/import.h"
#include "sluice/runtime.h"
#include "tests/device/test_device.h"
#include "tests/engine/waiting_observer.h"

namespace sluice::engine {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibraryWords = "words of the model's own";

// A LLaMA that fails in a step of seven tokens.
class FailedStepTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    fs::create_directories(folder_);
    std::ostringstream text;
    text << std::ifstream(fs::path(SLUICE_SOURCE_DIR) / "models/llama.py").rdbuf();
    std::string family = text.str();
    const std::string first = "x = sluice.embed(tokens, self.embedding)";
    const size_t place = family.find(first);
    ASSERT_NE(place, std::string::npos);
    family.insert(place,
                  std::string("assert tokens.size(0) != 7, \"") + kLibraryWords + "\"\n        ");
    std::ofstream(folder_ / "llama.py") << family;
    ImportOptions options;
    options.source = fs::path(SLUICE_SOURCE_DIR) / "tests/golden/variants/llama_mha_untied_f32";
    options.package = folder_ / "package";
    options.families = folder_;
    const auto imported = import_model(options);
    ASSERT_TRUE(imported.has_value()) << imported.error().message;
  }
  void TearDown() override {
    std::error_code error;
    fs::remove_all(folder_, error);
  }

  fs::path folder_ =
      fs::temp_directory_path() / ("sluice-failed-step-" + std::to_string(::getpid()));
};

TEST_P(FailedStepTest, TheLogHasTheLibrarysWordsIfAskedAndClientsNever) {
  std::mutex mutex;
  std::string notices;
  RuntimeOptions options;
  options.models = {{"model", folder_ / "package"}};
  options.device = test_device::name();
  options.num_threads = 2;
  options.max_num_seqs = 4;
  options.kv_cache_bytes = int64_t{16} << 20;
  options.library_messages = GetParam();
  options.notice = [&](const std::string& line) {
    const std::scoped_lock lock(mutex);
    notices += line + "\n";
  };
  auto service = create_service(options);
  ASSERT_TRUE(service.has_value()) << service.error().message;
  GenerateRequest request;
  request.token_ids = std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7};
  request.max_tokens = 2;
  const auto observer = std::make_shared<WaitingObserver>();
  const auto call = (*service)->generate(request, observer);
  ASSERT_TRUE(call.has_value()) << call.error().message;
  ASSERT_FALSE(observer->wait().has_value());
  const Error& error = observer->wait().error();
  EXPECT_EQ(error.code, ErrorCode::kInternal);
  EXPECT_EQ(error.message.find(kLibraryWords), std::string::npos) << error.message;
  const std::scoped_lock lock(mutex);
  EXPECT_NE(notices.find("failed in this step"), std::string::npos) << notices;
  EXPECT_EQ(notices.find(kLibraryWords) != std::string::npos, GetParam()) << notices;
}

INSTANTIATE_TEST_SUITE_P(Asked, FailedStepTest, testing::Bool());

// Over the real runner, whose steps fail one after the other.
TEST(LostDeviceTest, EndsTheRequestsAndSaysSoOnce) {
  if (!test_device::is_slow()) GTEST_SKIP() << "only the kernels on the host can be lost at will";
  std::atomic<int> num_calls = 0;
  RuntimeOptions options;
  options.models = {
      {"model", fs::path(SLUICE_SOURCE_DIR) / "tests/golden/variants/llama_gqa_tied_bf16"}};
  options.device = test_device::name();
  options.num_threads = 2;
  options.max_num_seqs = 4;
  options.kv_cache_bytes = int64_t{16} << 20;
  options.on_device_lost = [&](const std::string& why) {
    EXPECT_EQ(why.find("cuda:0 does not answer any more"), 0u) << why;
    ++num_calls;
  };
  auto service = create_service(options);
  ASSERT_TRUE(service.has_value()) << service.error().message;
  GenerateRequest request;
  request.token_ids = std::vector<int64_t>{1, 2, 3};
  request.max_tokens = 100;
  request.ignore_eos = true;
  const auto observer = std::make_shared<WaitingObserver>();
  const auto call = (*service)->generate(request, observer);
  ASSERT_TRUE(call.has_value()) << call.error().message;
  test_device::set_lost(true);
  ASSERT_FALSE(observer->wait().has_value());
  EXPECT_EQ(observer->wait().error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE((*service)->health().live);
  service->reset();
  test_device::set_lost(false);
  EXPECT_EQ(num_calls, 1);
}

}  // namespace
}  // namespace sluice::engine
