#include "server/grpc/kserve_service.h"

#include <algorithm>
#include <string>
#include <vector>

#include "server/grpc/caller.h"
#include "server/grpc/kserve_infer.h"
#include "server/grpc/kserve_request.h"
#include "server/grpc/kserve_stream.h"
#include "server/grpc/unary_answer.h"
#include "server/model_lookup.h"

namespace sluice::server {
namespace {

// There is one version of every model.
const ModelInfo* find_version(const std::vector<ModelInfo>& models, const std::string& name,
                              const std::string& version) {
  return version.empty() || version == "1" ? find_model(models, name) : nullptr;
}

void add_tensor(const KserveTensor& tensor,
                inference::ModelMetadataResponse::TensorMetadata& added) {
  added.set_name(std::string(tensor.name));
  added.set_datatype(std::string(tensor.datatype));
  added.add_shape(tensor.size);
}

}  // namespace

void KserveService::set_not_ready() {
  const std::scoped_lock lock(mutex_);
  is_not_ready_ = true;
}

void KserveService::drain_streams() {
  std::list<std::weak_ptr<KserveStream>> streams;
  {
    const std::scoped_lock lock(mutex_);
    is_not_ready_ = true;
    is_draining_ = true;
    streams.swap(streams_);
  }
  for (const auto& weak : streams) {
    if (const auto stream = weak.lock()) stream->drain();
  }
}

void KserveService::add_stream(const std::shared_ptr<KserveStream>& stream) {
  {
    const std::scoped_lock lock(mutex_);
    std::erase_if(streams_, [](const auto& weak) { return weak.expired(); });
    if (!is_draining_) {
      streams_.push_back(stream);
      return;
    }
  }
  stream->drain();
}

bool KserveService::is_ready() const {
  {
    const std::scoped_lock lock(mutex_);
    if (is_not_ready_) return false;
  }
  const Health health = service_.health();
  return health.live && health.ready;
}

grpc::ServerUnaryReactor* KserveService::ServerLive(Context* context, const Bytes* request,
                                                    Bytes* response) {
  return answer_unary<inference::ServerLiveRequest>(
      context, *request, *response, failed_, Result<void>(),
      [this](const auto&) -> Result<inference::ServerLiveResponse> {
        inference::ServerLiveResponse live;
        live.set_live(service_.health().live);
        return live;
      });
}

grpc::ServerUnaryReactor* KserveService::ServerReady(Context* context, const Bytes* request,
                                                     Bytes* response) {
  return answer_unary<inference::ServerReadyRequest>(
      context, *request, *response, failed_, Result<void>(),
      [this](const auto&) -> Result<inference::ServerReadyResponse> {
        inference::ServerReadyResponse ready;
        ready.set_ready(is_ready());
        return ready;
      });
}

grpc::ServerUnaryReactor* KserveService::ModelReady(Context* context, const Bytes* request,
                                                    Bytes* response) {
  return answer_unary<inference::ModelReadyRequest>(
      context, *request, *response, failed_, client_of(*context, keys_.get()),
      [this](const auto& message) -> Result<inference::ModelReadyResponse> {
        const std::vector<ModelInfo> models = service_.models();
        const bool is_known = find_version(models, message.name(), message.version()) != nullptr;
        inference::ModelReadyResponse ready;
        ready.set_ready(is_known && is_ready());
        return ready;
      });
}

grpc::ServerUnaryReactor* KserveService::ServerMetadata(Context* context, const Bytes* request,
                                                        Bytes* response) {
  return answer_unary<inference::ServerMetadataRequest>(
      context, *request, *response, failed_, client_of(*context, keys_.get()),
      [this](const auto&) -> Result<inference::ServerMetadataResponse> {
        inference::ServerMetadataResponse metadata;
        metadata.set_name("sluice");
        metadata.set_version(service_.server_info().version);
        metadata.add_extensions("parameters");
        return metadata;
      });
}

grpc::ServerUnaryReactor* KserveService::ModelMetadata(Context* context, const Bytes* request,
                                                       Bytes* response) {
  return answer_unary<inference::ModelMetadataRequest>(
      context, *request, *response, failed_, client_of(*context, keys_.get()),
      [this](const auto& message) { return metadata_of(message); });
}

Result<inference::ModelMetadataResponse> KserveService::metadata_of(
    const inference::ModelMetadataRequest& request) const {
  const std::vector<ModelInfo> models = service_.models();
  const ModelInfo* model = find_version(models, request.name(), request.version());
  if (model == nullptr) return fail(ErrorCode::kNotFound, "unknown model or version");
  inference::ModelMetadataResponse metadata;
  metadata.set_name(model->name);
  metadata.add_versions("1");
  metadata.set_platform("sluice_torchscript");
  for (const KserveTensor& input : kserve_inputs()) add_tensor(input, *metadata.add_inputs());
  for (const KserveTensor& output : kserve_outputs()) add_tensor(output, *metadata.add_outputs());
  auto& properties = *metadata.mutable_properties();
  properties["family"] = model->family;
  properties["dtype"] = model->dtype;
  properties["profile"] = model->profile;
  properties["digest"] = model->digest;
  properties["context_length"] = std::to_string(model->context_length);
  properties["vocabulary_size"] = std::to_string(model->vocabulary_size);
  return metadata;
}

grpc::ServerUnaryReactor* KserveService::ModelInfer(Context* context, const Bytes* request,
                                                    Bytes* response) {
  return KserveInfer::start(context, *request, response, service_, keys_.get(), failed_);
}

}  // namespace sluice::server
