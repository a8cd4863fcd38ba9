#include <gtest/gtest.h>

#include "sluice/runtime.h"
#include "tests/engine/waiting_observer.h"

namespace sluice::engine {
namespace {

struct Load {
  int32_t num_streams;
  int64_t num_tokens;  // of each: so many that nearly all steps hold all streams
  double goal_us;      // that the engine may need for half of the steps
};

// How much slower than the machines of the goals a host may be; `sluice bench offline --model null`
// measures it.
constexpr double kSlowHost = 2;

class NullModelTest : public testing::TestWithParam<Load> {};

TEST_P(NullModelTest, ManyStreamsEndAndTheEngineIsFast) {
  const Load load = GetParam();
  RuntimeOptions options;
  options.models = {{"", "null"}};
  options.device = "cpu";
  options.max_num_seqs = load.num_streams;
  options.max_num_batched_tokens = 4 * load.num_streams;
  options.limits.max_queued_requests = load.num_streams;
  options.limits.max_undelivered_tokens = static_cast<int32_t>(2 * load.num_tokens);
  auto service = create_service(options);
  ASSERT_TRUE(service.has_value()) << service.error().message;
  EXPECT_EQ((*service)->models()[0].name, "null");
  std::vector<std::shared_ptr<WaitingObserver>> observers;
  for (int32_t i = 0; i < load.num_streams; ++i) {
    GenerateRequest request;
    request.token_ids = {1, 2, i};
    request.max_tokens = load.num_tokens;
    observers.push_back(std::make_shared<WaitingObserver>());
    ASSERT_TRUE((*service)->generate(request, observers.back()).has_value());
  }
  for (const auto& observer : observers) {
    ASSERT_TRUE(observer->wait().has_value());
    EXPECT_EQ(observer->wait()->usage.completion_tokens, load.num_tokens);
  }
  const StepStatistics statistics = take_step_statistics(**service);
  EXPECT_GE(statistics.steps, load.num_tokens);
  EXPECT_GT(statistics.engine_us_p50, 0);
  EXPECT_LT(statistics.engine_us_p50, kSlowHost * load.goal_us);
  RecordProperty("engine_us_p50", std::to_string(statistics.engine_us_p50));
  printf("engine time of a step with %d sequences: p50 %.1f us, p99 %.1f us\n", load.num_streams,
         statistics.engine_us_p50, statistics.engine_us_p99);
}

INSTANTIATE_TEST_SUITE_P(Loads, NullModelTest,
                         testing::Values(Load{64, 5000, 50}, Load{1024, 1500, 400}),
                         [](const auto& info) {
                           return std::to_string(info.param.num_streams) + "_streams";
                         });

TEST(RuntimeTest, RefusesWhatItCannotDo) {
  RuntimeOptions options;
  options.models = {{"", "null"}};
  options.device = "cuda:63";
  EXPECT_EQ(create_service(options).error().code, ErrorCode::kFailedPrecondition);
  options.device = "tpu";
  EXPECT_EQ(create_service(options).error().code, ErrorCode::kInvalidArgument);
  options.device = "cpu";
  options.models.push_back({"null", "elsewhere"});
  EXPECT_EQ(create_service(options).error().code, ErrorCode::kInvalidArgument);
  options.models = {{"", "/no/such/folder"}};
  const auto refused = create_service(options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().message.find("/no/such"), std::string::npos);
  options.models.clear();
  EXPECT_EQ(create_service(options).error().code, ErrorCode::kInvalidArgument);
  options.models = {{"", "null"}};
  options.max_num_batched_tokens = 3;
  EXPECT_EQ(create_service(options).error().code, ErrorCode::kInvalidArgument);
}

TEST(RuntimeTest, LooksAtTheMachine) {
  const MachineReport report = inspect_machine();
  EXPECT_GE(report.num_cores, 1);
  ASSERT_FALSE(report.devices.empty());
  const DeviceReport& cpu = report.devices.front();
  EXPECT_EQ(cpu.error, "");
  EXPECT_GT(cpu.matmul_gflops, 0);
  EXPECT_GT(cpu.memory_bytes, cpu.free_memory_bytes);
  EXPECT_GT(cpu.free_memory_bytes, 0);
  EXPECT_EQ(report.gpu_note.empty(), report.devices.size() > 1);
}

TEST(RuntimeTest, PlansMemory) {
  const auto plan = plan_memory(std::filesystem::path(SLUICE_SOURCE_DIR) /
                                "tests/golden/variants/llama_mha_untied_f32");
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->kv_bytes_per_token, 2 * 2 * 3 * 16 * 4);  // K and V, layers, heads, size, f32
  const int64_t rope_table_bytes = 256 * 8 * 2 * 4;         // positions, pairs, (cos, sin), f32
  EXPECT_EQ(plan->weight_bytes, plan->num_parameters * 4 + rope_table_bytes);
  EXPECT_GT(plan->kv_capacity_tokens, 0);
}

TEST(RuntimeTest, PlansMemoryForAnInt8Cache) {
  const auto folder =
      std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden/variants/llama_mha_untied_f32";
  const auto plan = plan_memory(folder, "int8");
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->kv_bytes_per_token, 2 * 3 * (2 * 16 + 8));  // two scales a head and layer
  const auto refused = plan_memory(folder, "bf16");
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("\"bf16\", the model's is f32"), std::string::npos);
}

}  // namespace
}  // namespace sluice::engine
