#include "server/grpc/kserve_submit.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "server/grpc/caller.h"

namespace sluice::server {

using std::chrono::steady_clock;

Result<KserveSubmission> prepare_kserve_call(const inference::ModelInferRequest& message,
                                             const grpc::ServerContextBase& context,
                                             const std::string& client, const Service& service) {
  Result<KserveCall> call = read_kserve_call(message);
  if (!call) return std::unexpected(std::move(call.error()));
  GenerateRequest& request = call->request;
  request.client = client;
  request.traceparent = metadata_value(context, "traceparent");
  const auto now = steady_clock::now();
  request.deadline = deadline_of(context);
  if (request.deadline && *request.deadline <= now) {
    return fail(ErrorCode::kDeadlineExceeded, "the deadline had passed before the request came");
  }
  if (call->timeout) {
    const auto end = now + *call->timeout;
    request.deadline = request.deadline ? std::min(*request.deadline, end) : end;
  }
  std::string model_name = request.model;
  if (const std::vector<ModelInfo> models = service.models();
      model_name.empty() && models.size() == 1) {
    model_name = models.front().name;
  }
  KserveAnswer answer(*call, std::move(model_name), message.id());
  return KserveSubmission{*std::move(call), std::move(answer)};
}

Result<std::shared_ptr<GenerateCall>> submit_kserve_call(KserveCall& call, Service& service,
                                                         std::shared_ptr<GenerateObserver> to) {
  auto started = service.generate(std::move(call.request), std::move(to));
  if (!started) return std::unexpected(name_input(call, std::move(started.error())));
  return started;
}

}  // namespace sluice::server
