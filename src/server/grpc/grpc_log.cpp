#include "server/grpc/grpc_log.h"

#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <string_view>

namespace sluice::server {

void route_grpc_log() {
  gpr_set_log_function([](gpr_log_func_args* line) {
    if (std::string_view(line->message).starts_with("assertion failed")) {
      std::fprintf(stderr, "gRPC: %s:%d: %s\n", line->file, line->line, line->message);
    } else {
      spdlog::debug("gRPC: {}", line->message);
    }
  });
}

}  // namespace sluice::server
