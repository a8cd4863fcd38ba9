#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "inference/grpc_predict_v2.grpc.pb.h"
#include "server/access/api_keys.h"
#include "server/grpc/failed_calls.h"
#include "sluice/service.h"

namespace sluice::server {

class KserveStream;

// All methods raw: wire.h says why.
using RawInference = inference::GRPCInferenceService::WithRawCallbackMethod_ServerLive<
    inference::GRPCInferenceService::WithRawCallbackMethod_ServerReady<
        inference::GRPCInferenceService::WithRawCallbackMethod_ModelReady<
            inference::GRPCInferenceService::WithRawCallbackMethod_ServerMetadata<
                inference::GRPCInferenceService::WithRawCallbackMethod_ModelMetadata<
                    inference::GRPCInferenceService::WithRawCallbackMethod_ModelInfer<
                        inference::GRPCInferenceService::WithRawMethod_ModelStreamInfer<
                            inference::GRPCInferenceService::Service>>>>>>>;

// The open inference protocol (KServe v2) over a Service. All but Triton's ModelStreamInfer, whose
// calls KserveStream takes.
//
// ServerLive and ServerReady are for everybody, as health checks are; the rest is for whoever has a
// key of `keys` (null: for everybody).
// Threads: any; gRPC's call the methods. `service` must outlive it.
class KserveService final : public RawInference {
 public:
  KserveService(sluice::Service& service, std::shared_ptr<const ApiKeys> keys)
      : service_(service), keys_(std::move(keys)), failed_(service.metrics()) {}

  // Not ready from now on, whatever the service says.
  void set_not_ready();
  // Ends streams that have no open request, now or later, with UNAVAILABLE: clients keep them open
  // for their next request, and a server that waits for its calls to end must not wait for these.
  void drain_streams();
  // A stream that has begun, which drain_streams() is for.
  void add_stream(const std::shared_ptr<KserveStream>& stream);

  using Context = grpc::CallbackServerContext;
  using Bytes = grpc::ByteBuffer;
  grpc::ServerUnaryReactor* ServerLive(Context* context, const Bytes* request,
                                       Bytes* response) override;
  grpc::ServerUnaryReactor* ServerReady(Context* context, const Bytes* request,
                                        Bytes* response) override;
  grpc::ServerUnaryReactor* ModelReady(Context* context, const Bytes* request,
                                       Bytes* response) override;
  grpc::ServerUnaryReactor* ServerMetadata(Context* context, const Bytes* request,
                                           Bytes* response) override;
  grpc::ServerUnaryReactor* ModelMetadata(Context* context, const Bytes* request,
                                          Bytes* response) override;
  grpc::ServerUnaryReactor* ModelInfer(Context* context, const Bytes* request,
                                       Bytes* response) override;

 private:
  bool is_ready() const;
  Result<inference::ModelMetadataResponse> metadata_of(
      const inference::ModelMetadataRequest& request) const;

  sluice::Service& service_;
  const std::shared_ptr<const ApiKeys> keys_;
  FailedCalls failed_;
  mutable std::mutex mutex_;
  bool is_not_ready_ = false;
  bool is_draining_ = false;
  std::list<std::weak_ptr<KserveStream>> streams_;
};

}  // namespace sluice::server
