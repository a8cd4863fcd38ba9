#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/access/api_keys.h"
#include "server/grpc/failed_calls.h"

namespace sluice::server {

using RawBidiReactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

// One ServerReflectionInfo call, which is gRPC's from now on. `failed` must outlive it.
RawBidiReactor* answer_reflection(const grpc::CallbackServerContext& context, bool is_on,
                                  const ApiKeys* keys, FailedCalls& failed);

// gRPC's server reflection, from which tools learn the schema of the services, for whoever has a
// key of `keys` (null: for everybody). Off, it answers PERMISSION_DENIED to them too. (gRPC's own
// knows of no keys.)
//
// `RawMethods` is the service of v1, or of v1alpha, which is an older name for it and not listed.
// Threads: gRPC's.
template <typename RawMethods>
class ReflectionService final : public RawMethods {
 public:
  ReflectionService(bool is_on, std::shared_ptr<const ApiKeys> keys,
                    observability::Registry& registry)
      : is_on_(is_on), keys_(std::move(keys)), failed_(registry) {}

  RawBidiReactor* ServerReflectionInfo(grpc::CallbackServerContext* context) override {
    return answer_reflection(*context, is_on_, keys_.get(), failed_);
  }

 private:
  const bool is_on_;
  const std::shared_ptr<const ApiKeys> keys_;
  FailedCalls failed_;
};

using ReflectionV1 = ReflectionService<
    grpc::reflection::v1::ServerReflection::WithRawCallbackMethod_ServerReflectionInfo<
        grpc::reflection::v1::ServerReflection::Service>>;
using ReflectionV1Alpha = ReflectionService<
    grpc::reflection::v1alpha::ServerReflection::WithRawCallbackMethod_ServerReflectionInfo<
        grpc::reflection::v1alpha::ServerReflection::Service>>;

}  // namespace sluice::server
