#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <string>
#include <utility>

#include "cli/address.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/runtime_flags.h"
#include "cli/serve_options.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_front_end.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "serve";

void start_log(const ServeOptions& options) {
  auto logger =
      std::make_shared<spdlog::logger>("sluice", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l: %v");
  logger->set_level(options.quiet ? spdlog::level::warn
                                  : spdlog::level::from_str(options.log_level));
  spdlog::set_default_logger(std::move(logger));
}

void log_models(const Service& service) {
  for (const ModelInfo& model : service.models()) {
    spdlog::info("model {}: {}, {} parameters, {}, kernels {}, context {}", model.name,
                 model.family, format_count(model.num_parameters), model.dtype, model.profile,
                 format_count(model.context_length));
  }
}

// What listens for clients.
struct FrontEnds {
  std::unique_ptr<server::GrpcServer> grpc;
  std::unique_ptr<server::HttpFrontEnd> http;
};

Result<FrontEnds> start_front_ends(const ServeOptions& options, Service& service) {
  FrontEnds front_ends;
  if (options.grpc.address != kNoAddress) {
    auto grpc = server::GrpcServer::start(options.grpc, service);
    if (!grpc) return std::unexpected(std::move(grpc.error()));
    front_ends.grpc = *std::move(grpc);
  }
  if (options.http.server.address != kNoAddress) {
    auto http = server::HttpFrontEnd::start(options.http, service);
    if (!http) return std::unexpected(std::move(http.error()));
    front_ends.http = *std::move(http);
  }
  const auto announce = [](const std::string& address, int port, const char* protocol) {
    spdlog::info("listening on {}:{} ({})", parse_host_port(address)->host, port, protocol);
  };
  if (front_ends.http) announce(options.http.server.address, front_ends.http->port(), "HTTP");
  if (front_ends.grpc) announce(options.grpc.address, front_ends.grpc->port(), "gRPC");
  return front_ends;
}

// Ends service: new work is refused at once and sent elsewhere, streams finish for up to
// `drain_time`.
void drain(Service& service, const FrontEnds& front_ends, std::chrono::nanoseconds drain_time) {
  if (front_ends.grpc) front_ends.grpc->set_not_serving();
  if (front_ends.http) front_ends.http->begin_drain();
  service.begin_drain();
  const ServerInfo info = service.server_info();
  spdlog::info("draining: {} requests run, {} wait, for up to {}", info.requests_running,
               info.requests_waiting, format_duration(drain_time));
  // Beyond the drain time, for the last messages of streams that have ended.
  constexpr std::chrono::seconds kLastWrites{2};
  if (front_ends.grpc) front_ends.grpc->begin_shutdown(drain_time + kLastWrites);
  const bool finished = service.drain(drain_time);
  if (front_ends.http) front_ends.http->shutdown(kLastWrites);
  if (front_ends.grpc) front_ends.grpc->shutdown(kLastWrites);
  if (finished) {
    spdlog::info("drained, bye");
  } else {
    spdlog::warn("drain time is over: the streams that were left ended with UNAVAILABLE, bye");
  }
}

}  // namespace

int run_serve(Arguments arguments) {
  ServeOptions options;
  Flags flags(kCommand, "--model [NAME=]PATH ... [flags]",
              "Serves models over gRPC (sluice.v1.Generation, grpc.health.v1, reflection) and "
              "OpenAI's HTTP. Prints \"listening on\" when it is ready. SIGTERM or SIGINT drains "
              "and exits 0; a second one ends at once.");
  add_serve_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (const std::string conflict = find_serve_conflict(options); !conflict.empty()) {
    return flags.wrong_use(conflict);
  }
  if (!options.served_model_name.empty()) {
    options.runtime.models.front().name = options.served_model_name;
  }
  options.grpc.reflection = !options.no_reflection;
  options.http.server.max_body_bytes = options.grpc.max_message_bytes;
  start_log(options);

  auto access = load_access(options.access);
  if (!access) return flags.wrong_use(access.error().message);
  options.grpc.api_keys = options.http.api_keys = access->api_keys;

  std::atomic<bool> is_loaded = false;
  std::binary_semaphore stop{0};
  const SignalWatcher watcher([&](int count) {
    if (!is_loaded || count > 1) std::_Exit(kExitFailed);
    stop.release();
  });
  options.runtime.notice = [](const std::string& line) { spdlog::info("{}", line); };
  const auto service = load_service(options.runtime, options.quiet);
  if (!service) {
    print_error(kCommand, service.error().message);
    return load_exit_code(service.error());
  }
  log_models(**service);
  const auto front_ends = start_front_ends(options, **service);
  if (!front_ends) {
    print_error(kCommand, front_ends.error().message);
    return kExitWrongUse;
  }
  is_loaded = true;
  stop.acquire();
  drain(**service, *front_ends, options.drain_time);
  return kExitDone;
}

}  // namespace sluice::cli
