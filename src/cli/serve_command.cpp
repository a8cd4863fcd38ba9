#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <semaphore>
#include <string>
#include <utility>

#include "cli/address.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/model_path.h"
#include "cli/runtime_flags.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "server/grpc/grpc_server.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "serve";

struct Options {
  RuntimeOptions runtime;
  server::GrpcServerOptions grpc;
  std::string served_model_name;
  std::string log_level = "info";
  bool insecure = false;
  bool no_reflection = false;
  bool quiet = false;
  std::chrono::nanoseconds drain_time = std::chrono::seconds(30);
};

void add_flags(Flags& flags, Options& options) {
  flags.group("Models");
  flags.add_repeated(
      {"--model", "[NAME=]PATH",
       "A package, a Hugging Face folder or its downloaded ORG/NAME, and how requests name it",
       "the folder's name"},
      [&options](const std::string& text) -> Result<void> {
        auto source = find_model(text, true);
        if (!source) return std::unexpected(source.error());
        options.runtime.models.push_back(*std::move(source));
        return {};
      });
  flags.add_text(
      {"--served-model-name", "NAME", "How requests name the model, if there is one", ""},
      options.served_model_name);
  flags.group("Network");
  flags.add_text({"--grpc-address", "HOST:PORT", "Where gRPC listens; port 0 takes a free one", ""},
                 options.grpc.address);
  flags.add_switch(
      {"--insecure", "", "Allow an address that other machines reach, unencrypted", ""},
      options.insecure);
  flags.add_bytes({"--max-message-bytes", "SIZE", "Of a received message", ""},
                  options.grpc.max_message_bytes, 1024);
  flags.add_int({"--max-metadata-bytes", "N", "Of a call's metadata", ""},
                options.grpc.max_metadata_bytes, 1024);
  flags.add_int({"--max-concurrent-streams", "N", "Calls of one connection", ""},
                options.grpc.max_concurrent_streams, 1);
  flags.add_switch({"--no-reflection", "", "Do not tell clients the services' schema", ""},
                   options.no_reflection);
  flags.group("Process");
  flags.add_duration(
      {"--drain-time", "TIME", "After SIGTERM or SIGINT, streams may finish for this long", ""},
      options.drain_time, std::chrono::nanoseconds(0));
  flags.add_choice({"--log-level", "LEVEL", "debug, info, warning or error", ""}, options.log_level,
                   {"debug", "info", "warning", "error"});
  flags.add_switch({"--quiet", "", "No progress bar, and only warnings and errors in the log", ""},
                   options.quiet);
  add_runtime_flags(flags, options.runtime);
  add_limit_flags(flags, options.runtime.limits);
  flags.example("sluice serve --model models/llama-tiny", "one model on 127.0.0.1:50051");
  flags.example("sluice serve --model small=models/llama-tiny --model zh=models/bloom-tiny",
                "two models, with names");
}

std::string find_conflict(const Options& options) {
  if (options.runtime.models.empty()) {
    return "needs --model [NAME=]PATH; see sluice serve --help";
  }
  if (!options.served_model_name.empty() && options.runtime.models.size() > 1) {
    return "--served-model-name goes with one --model; use --model NAME=PATH";
  }
  const Result<HostPort> address = parse_host_port(options.grpc.address);
  if (!address) return "--grpc-address: " + address.error().message;
  if (!is_loopback(address->host) && !options.insecure) {
    return "--grpc-address: " + options.grpc.address +
           " is not a loopback address, and traffic to it is not encrypted; use 127.0.0.1 or add "
           "--insecure";
  }
  return "";
}

void start_log(const Options& options) {
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

// Ends service: new work is refused at once, streams finish for up to `drain_time`.
void drain(Service& service, server::GrpcServer& server, std::chrono::nanoseconds drain_time) {
  server.set_not_serving();
  service.begin_drain();
  const ServerInfo info = service.server_info();
  spdlog::info("draining: {} requests run, {} wait, for up to {}", info.requests_running,
               info.requests_waiting, format_duration(drain_time));
  const bool finished = service.drain(drain_time);
  // What is left to do is writing the last messages of streams that have ended.
  constexpr std::chrono::seconds kLastWrites{2};
  server.shutdown(kLastWrites);
  if (finished) {
    spdlog::info("drained, bye");
  } else {
    spdlog::warn("drain time is over: the streams that were left ended with UNAVAILABLE, bye");
  }
}

}  // namespace

int run_serve(Arguments arguments) {
  Options options;
  Flags flags(kCommand, "--model [NAME=]PATH ... [flags]",
              "Serves models over gRPC (sluice.v1.Generation, grpc.health.v1, reflection). Prints "
              "\"listening on\" when it is ready. SIGTERM or SIGINT drains and exits 0; a second "
              "one ends at once.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (const std::string conflict = find_conflict(options); !conflict.empty()) {
    return flags.wrong_use(conflict);
  }
  if (!options.served_model_name.empty()) {
    options.runtime.models.front().name = options.served_model_name;
  }
  options.grpc.reflection = !options.no_reflection;
  start_log(options);

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
  const auto server = server::GrpcServer::start(options.grpc, **service);
  if (!server) {
    print_error(kCommand, server.error().message);
    return kExitWrongUse;
  }
  is_loaded = true;
  const HostPort address = *parse_host_port(options.grpc.address);
  spdlog::info("listening on {}:{} (gRPC)", address.host, (*server)->port());
  stop.acquire();
  drain(**service, **server, options.drain_time);
  return kExitDone;
}

}  // namespace sluice::cli
