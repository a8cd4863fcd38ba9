#pragma once

#include <grpcpp/support/status.h>

#include "observability/error_counter.h"
#include "server/grpc/status.h"

namespace sluice::server {

// Counts calls of our methods but health's, and requests of KServe's streams, that end with an
// error: those that the engine never heard of too. What gRPC itself refuses does not come here. All
// of one registry count together. Threads: any.
class FailedCalls final {
 public:
  // `registry` must outlive this.
  explicit FailedCalls(observability::Registry& registry)
      : by_code_(registry, "sluice_grpc_failed_calls_total",
                 "Calls of Generation, KServe and reflection, and requests of KServe streams, that "
                 "ended with an error, by code.") {}

  void count(const Error& error) { by_code_.add(error.code); }
  // What a call ends with.
  grpc::Status end(const Error& error) {
    count(error);
    return to_status(error);
  }

 private:
  observability::ErrorCounter by_code_;
};

}  // namespace sluice::server
