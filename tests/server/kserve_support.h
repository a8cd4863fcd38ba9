#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "inference/grpc_predict_v2.grpc.pb.h"
#include "tests/server/fake_service.h"
#include "tests/server/loopback.h"

namespace sluice::server {

using KserveStub = inference::GRPCInferenceService::Stub;

inline std::unique_ptr<KserveStub> stub_of(const Loopback& loopback) {
  return inference::GRPCInferenceService::NewStub(loopback.channel());
}

inline void add_input(inference::ModelInferRequest& request, const std::string& name,
                      const std::string& text) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("BYTES");
  input.add_shape(1);
  input.mutable_contents()->add_bytes_contents(text);
}
inline void add_flag(inference::ModelInferRequest& request, const std::string& name,
                     bool value = true) {
  auto& input = *request.add_inputs();
  input.set_name(name);
  input.set_datatype("BOOL");
  input.add_shape(1);
  input.mutable_contents()->add_bool_contents(value);
}

inline inference::ModelInferRequest text_request(const std::string& text = "p",
                                                 const std::string& id = "") {
  inference::ModelInferRequest request;
  request.set_model_name("tiny");
  request.set_id(id);
  add_input(request, "text_input", text);
  return request;
}
inline const inference::ModelInferResponse::InferOutputTensor* find_output(
    const inference::ModelInferResponse& response, const std::string& name) {
  for (const auto& output : response.outputs()) {
    if (output.name() == name) return &output;
  }
  return nullptr;
}
inline std::string text_of(const inference::ModelInferResponse& response,
                           const std::string& name = "text_output") {
  const auto* output = find_output(response, name);
  return output == nullptr || output->contents().bytes_contents_size() == 0
             ? ""
             : output->contents().bytes_contents(0);
}

inline grpc::Status infer(KserveStub& stub, const inference::ModelInferRequest& request,
                          inference::ModelInferResponse* response) {
  grpc::ClientContext context;
  return stub.ModelInfer(&context, request, response);
}
inline grpc::Status infer(KserveStub& stub, const inference::ModelInferRequest& request) {
  inference::ModelInferResponse response;
  return infer(stub, request, &response);
}

// A service whose call ends at once; what it got is the only thing of interest.
inline GenerateRequest got_of(const inference::ModelInferRequest& message) {
  FakeService service;
  const Loopback loopback(service);
  const grpc::Status status = infer(*stub_of(loopback), message);
  EXPECT_TRUE(status.ok()) << status.error_message();
  const auto call = service.num_calls() > 0 ? service.wait_for_call() : nullptr;
  return call ? call->request() : GenerateRequest{};
}

}  // namespace sluice::server
