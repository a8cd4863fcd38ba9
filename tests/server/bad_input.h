#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "inference/grpc_predict_v2.grpc.pb.h"
#include "server/grpc/status.h"
#include "server/http/http_front_end.h"
#include "sluice/runtime.h"
#include "tests/server/loopback.h"

namespace sluice::server {

// The name of the gRPC code that an HTTP status stands for.
inline std::string code_of(int http_status) {
  static const std::map<int, std::string> codes = {{200, "OK"},
                                                   {400, "INVALID_ARGUMENT"},
                                                   {401, "UNAUTHENTICATED"},
                                                   {403, "PERMISSION_DENIED"},
                                                   {404, "NOT_FOUND"},
                                                   {409, "ALREADY_EXISTS"},
                                                   {429, "RESOURCE_EXHAUSTED"},
                                                   {500, "INTERNAL"},
                                                   {501, "UNIMPLEMENTED"},
                                                   {503, "UNAVAILABLE"},
                                                   {504, "DEADLINE_EXCEEDED"}};
  const auto found = codes.find(http_status);
  return found == codes.end() ? "HTTP " + std::to_string(http_status) : found->second;
}

// Bad input through every front end of one real model. After every case the server is alive, and a
// stream that ran beside it has the bits of an undisturbed one.
class BadInput : public ::testing::Test {
 protected:
  static constexpr int64_t kMaxMessageBytes = 4 << 20;
  static inline const std::string kGeneratePath = "/sluice.v1.Generation/Generate";

  // Token ids and the bits of their logprobs.
  using Trace = std::vector<std::pair<int32_t, uint32_t>>;

  static void SetUpTestSuite() {
    RuntimeOptions options;
    options.models = {{"llama-tiny", std::string(SLUICE_SOURCE_DIR) + "/models/llama-tiny"}};
    options.device = "cpu";
    options.num_threads = 1;
    options.kv_cache_bytes = int64_t{64} << 20;
    auto created = create_service(options);
    ASSERT_TRUE(created) << created.error().message;
    service_ = created->release();
    loopback_ = new Loopback(*service_, {.max_message_bytes = kMaxMessageBytes});
    HttpFrontEndOptions http;
    http.server.address = "127.0.0.1:0";
    http.server.max_body_bytes = kMaxMessageBytes;
    auto front_end = HttpFrontEnd::start(http, *service_);
    ASSERT_TRUE(front_end) << front_end.error().message;
    http_ = front_end->release();
    kserve_ = inference::GRPCInferenceService::NewStub(loopback_->channel()).release();
    model_ = new ModelInfo(service_->models().front());
    grpc::ClientContext context;
    undisturbed_ = new Trace(finish_neighbour(*start_neighbour(context)));
    ASSERT_EQ(undisturbed_->size(), 24u);
  }
  static void TearDownTestSuite() {
    // What the cases left behind ends by itself.
    if (service_ != nullptr) {
      EXPECT_EQ(service_->drain(kTestPatience), DrainEnd::kFinished);
    }
    delete undisturbed_;
    delete kserve_;
    delete http_;
    delete model_;
    delete loopback_;
    delete service_;
    std::printf("%d bad inputs\n", num_cases_);
  }
  void SetUp() override { ASSERT_TRUE(undisturbed_ != nullptr); }

  static std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> start_neighbour(
      grpc::ClientContext& context) {
    v1::GenerateRequest request = prompt_request("The weather");
    request.set_max_tokens(24);
    request.set_temperature(0.9);
    request.set_seed(7);
    request.set_ignore_eos(true);
    request.set_logprobs(1);
    return loopback_->stub().Generate(&context, request);
  }
  static Trace finish_neighbour(grpc::ClientReader<v1::GenerateResponse>& reader) {
    Trace trace;
    const Stream stream = read_all(reader);
    EXPECT_TRUE(stream.status.ok()) << stream.status.error_message();
    for (const auto& message : stream.messages) append(message, trace);
    return trace;
  }
  static void append(const v1::GenerateResponse& message, Trace& trace) {
    for (const auto& at : message.logprobs()) {
      trace.emplace_back(at.token().token_id(), std::bit_cast<uint32_t>(at.token().logprob()));
    }
  }

  // Runs one case while a neighbour is streaming.
  static void beside_a_neighbour(const std::string& name, const std::function<void()>& run_case) {
    SCOPED_TRACE(name);
    ++num_cases_;
    grpc::ClientContext context;
    const auto neighbour = start_neighbour(context);
    Trace trace;
    v1::GenerateResponse first;
    ASSERT_TRUE(neighbour->Read(&first));
    append(first, trace);
    run_case();
    const Trace rest = finish_neighbour(*neighbour);
    trace.insert(trace.end(), rest.begin(), rest.end());
    EXPECT_EQ(trace, *undisturbed_) << "the neighbour's bits changed";
  }

  static void expect_error(const grpc::Status& status, ErrorCode code, const std::string& words) {
    ASSERT_FALSE(status.ok());
    const Error error = from_status(status);
    EXPECT_STREQ(to_string(error.code), to_string(code)) << error.message;
    EXPECT_THAT(error.message, ::testing::HasSubstr(words));
  }

  static inline Service* service_ = nullptr;
  static inline Loopback* loopback_ = nullptr;
  static inline HttpFrontEnd* http_ = nullptr;
  static inline inference::GRPCInferenceService::Stub* kserve_ = nullptr;
  static inline ModelInfo* model_ = nullptr;
  static inline Trace* undisturbed_ = nullptr;
  static inline int num_cases_ = 0;
};

}  // namespace sluice::server
