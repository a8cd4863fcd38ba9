#pragma once

#include <grpcpp/server_context.h>

#include <memory>
#include <string>

#include "inference/grpc_predict_v2.pb.h"
#include "server/grpc/kserve_answer.h"
#include "server/grpc/kserve_request.h"
#include "sluice/error.h"
#include "sluice/service.h"

namespace sluice::server {

// A request that has been read, and what makes its answers. The client and the earlier of the
// call's deadline and the request's `timeout` are in it.
struct KserveSubmission {
  KserveCall call;
  KserveAnswer answer;
};

// Errors: read_kserve_call's; kDeadlineExceeded if the call's deadline has passed.
Result<KserveSubmission> prepare_kserve_call(const inference::ModelInferRequest& message,
                                             const grpc::ServerContextBase& context,
                                             const std::string& client, const Service& service);

// Service::generate() with errors under the client's names. The request is moved out of the call.
Result<std::shared_ptr<GenerateCall>> submit_kserve_call(KserveCall& call, Service& service,
                                                         std::shared_ptr<GenerateObserver> to);

}  // namespace sluice::server
