#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include "sluice/service.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice::server {

// All methods raw: wire.h says why.
using RawGeneration = v1::Generation::WithRawCallbackMethod_Generate<
    v1::Generation::WithRawCallbackMethod_Tokenize<v1::Generation::WithRawCallbackMethod_Detokenize<
        v1::Generation::WithRawCallbackMethod_GetModel<
            v1::Generation::WithRawCallbackMethod_ListModels<
                v1::Generation::WithRawCallbackMethod_GetServerInfo<
                    v1::Generation::WithRawCallbackMethod_RenderChat<v1::Generation::Service>>>>>>>;

// sluice.v1.Generation over a Service. Threads: gRPC's. `service` must outlive it.
class GenerationService final : public RawGeneration {
 public:
  explicit GenerationService(sluice::Service& service) : service_(service) {}

  using Context = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;
  grpc::ServerWriteReactor<Bytes>* Generate(Context* context, const Bytes* request) override;
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
  sluice::Service& service_;
};

}  // namespace sluice::server
