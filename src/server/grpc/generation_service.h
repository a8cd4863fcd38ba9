#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <utility>

#include "server/access/api_keys.h"
#include "server/grpc/failed_calls.h"
#include "sluice/service.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::server {

// All methods raw: wire.h says why.
using RawGeneration = v1::Generation::WithRawMethod_Generate<
    v1::Generation::WithRawCallbackMethod_Tokenize<v1::Generation::WithRawCallbackMethod_Detokenize<
        v1::Generation::WithRawCallbackMethod_GetModel<
            v1::Generation::WithRawCallbackMethod_ListModels<
                v1::Generation::WithRawCallbackMethod_GetServerInfo<
                    v1::Generation::WithRawCallbackMethod_RenderChat<v1::Generation::Service>>>>>>>;

// sluice.v1.Generation over a Service, for whoever has a key of `keys` (null: for everybody). All
// but Generate, whose calls GenerateStream takes.
//
// Who has none learns nothing but that: the key is looked at before the message.
// Threads: gRPC's. `service` must outlive it.
class GenerationService final : public RawGeneration {
 public:
  GenerationService(sluice::Service& service, std::shared_ptr<const ApiKeys> keys)
      : service_(service), keys_(std::move(keys)), failed_(service.metrics()) {}

  using Context = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;
  grpc::ServerUnaryReactor* Tokenize(Context* context, const Bytes* request,
                                     Bytes* response) override;
  grpc::ServerUnaryReactor* RenderChat(Context* context, const Bytes* request,
                                       Bytes* response) override;
  grpc::ServerUnaryReactor* Detokenize(Context* context, const Bytes* request,
                                       Bytes* response) override;
  grpc::ServerUnaryReactor* GetModel(Context* context, const Bytes* request,
                                     Bytes* response) override;
  grpc::ServerUnaryReactor* ListModels(Context* context, const Bytes* request,
                                       Bytes* response) override;
  grpc::ServerUnaryReactor* GetServerInfo(Context* context, const Bytes* request,
                                          Bytes* response) override;

 private:
  // Answers a unary call: `handle` turns a Request& into a Result of the answer's message.
  template <typename Request, typename Handle>
  grpc::ServerUnaryReactor* answer(Context* context, const Bytes& request, Bytes& response,
                                   Handle handle);

  sluice::Service& service_;
  const std::shared_ptr<const ApiKeys> keys_;
  FailedCalls failed_;
};

}  // namespace sluice::server
