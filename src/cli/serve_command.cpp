#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "cli/address.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/runtime_flags.h"
#include "cli/serve_options.h"
#include "cli/signals.h"
#include "cli/terminal.h"
#include "observability/metrics.h"
#include "server/admin/admin_server.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_front_end.h"
#include "server/log/log.h"
#include "server/log/request_log.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "serve";
constexpr const char* kJsonLog = "json";

int fail_with(const Error& error, int code) {
  print_error(kCommand, error.message);
  return code;
}

// Writes the log for as long as it lives.
class Log final {
 public:
  static Result<std::unique_ptr<Log>> start(const ServeOptions& options) {
    auto writer = server::start_log({.file = options.log_file,
                                     .is_json = options.log_format == kJsonLog,
                                     .level = options.quiet ? "warning" : options.log_level},
                                    *options.runtime.metrics);
    if (!writer) return std::unexpected(std::move(writer.error()));
    return std::unique_ptr<Log>(new Log(*std::move(writer), !options.log_file.empty()));
  }
  ~Log() {
    hangup_.reset();  // it logs
    server::end_log();
  }

  // Error lines of the command itself come after what was logged before.
  void flush() { writer_->flush(); }

 private:
  // Without a file SIGHUP ends the process, as it ends others whose terminal has gone.
  Log(std::unique_ptr<server::LogWriter> writer, bool has_file) : writer_(std::move(writer)) {
    if (!has_file) return;
    const auto reopen = [this](int) {
      if (const auto opened = writer_->reopen(); !opened) {
        spdlog::warn("{}: the log goes on in the old one", opened.error().message);
      }
    };
    hangup_.emplace(reopen, std::initializer_list<int>{SIGHUP});
  }

  std::unique_ptr<server::LogWriter> writer_;
  std::optional<SignalWatcher> hangup_;
};

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

void announce(const std::string& address, int port, const char* what) {
  spdlog::info("listening on {}:{} ({})", parse_host_port(address)->host, port, what);
}

// Null if there is to be none.
Result<std::unique_ptr<server::AdminServer>> start_admin(const ServeOptions& options) {
  if (options.admin_address == kNoAddress) return nullptr;
  return server::AdminServer::start(options.admin_address, *options.runtime.metrics);
}

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
  return front_ends;
}

// Tells load balancers to turn away, and serves who has not heard of it yet.
void be_lame_duck(Service& service, std::chrono::nanoseconds time) {
  service.set_not_ready();
  if (time.count() == 0) return;
  spdlog::info("not ready any more, still accepting work for {}", format_duration(time));
  std::this_thread::sleep_for(time);
}

// Ends service: new work is refused at once and sent elsewhere, streams finish for up to
// `drain_time`.
DrainEnd drain(Service& service, const FrontEnds& front_ends, std::chrono::nanoseconds drain_time) {
  if (front_ends.grpc) front_ends.grpc->set_not_serving();
  if (front_ends.http) front_ends.http->begin_drain();
  service.begin_drain();
  const ServerInfo info = service.server_info();
  spdlog::info("draining: {} requests run, {} wait, for up to {}", info.requests_running,
               info.requests_waiting, format_duration(drain_time));
  // Beyond the drain time, for the last messages of streams that have ended.
  constexpr std::chrono::seconds kLastWrites{2};
  if (front_ends.grpc) {
    front_ends.grpc->begin_shutdown(drain_time + kLastStepTime + kLastWrites);
  }
  const DrainEnd end = service.drain(drain_time);
  if (front_ends.http) front_ends.http->shutdown(kLastWrites);
  if (front_ends.grpc) front_ends.grpc->shutdown(kLastWrites);
  if (end == DrainEnd::kStuck) spdlog::error("the engine's last step did not come back");
  if (end == DrainEnd::kFinished) {
    spdlog::info("drained, bye");
  } else {
    spdlog::warn("drain time is over: what was left ended with UNAVAILABLE, bye");
  }
  return end;
}

// Every connection is a descriptor, and systems start processes with few: takes as many as it may,
// and says so where that is too few.
void raise_descriptor_limit(int64_t max_connections) {
  constexpr int64_t kOthers = 256;  // files, timers, the admin listener
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0 || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur >= static_cast<rlim_t>(max_connections + kOthers)) return;
  spdlog::warn(
      "this process may open {} files, too few for {} connections (--max-connections and "
      "--max-http-connections): what comes when none is left is refused",
      limit.rlim_cur, max_connections);
}

int serve(ServeOptions& options) {
  std::atomic<bool> is_loaded = false;
  std::atomic<bool> is_lost = false;
  std::mutex log_mutex;
  Log* log_in_use = nullptr;  // guarded by log_mutex
  std::binary_semaphore stop{0};
  const SignalWatcher watcher([&](int count) {
    if (count > 1) std::_Exit(kExitFailed);
    if (!is_loaded) {
      const std::scoped_lock lock(log_mutex);
      if (log_in_use != nullptr) {
        spdlog::info("stopped before it was ready, bye");
        log_in_use->flush();
      }
      std::_Exit(kExitDone);
    }
    stop.release();
  });
  options.runtime.metrics = std::make_shared<observability::Registry>();
  const auto log = Log::start(options);
  if (!log) return fail_with(log.error(), kExitWrongUse);
  const auto use_log = [&](Log* used) {
    const std::scoped_lock lock(log_mutex);
    log_in_use = used;
  };
  use_log(log->get());
  const std::shared_ptr<void> until_here(nullptr, [&](void*) { use_log(nullptr); });
  const auto fail = [&](const Error& error, int code) {
    (*log)->flush();
    return fail_with(error, code);
  };
  raise_descriptor_limit(int64_t{options.grpc.max_connections} +
                         options.http.server.max_connections);
  auto access = load_access(options.access);
  if (!access) return fail(access.error(), kExitWrongUse);
  options.grpc.api_keys = options.http.api_keys = access->api_keys;
  options.grpc.tls = access->tls;
  if (access->tls) {
    options.http.server.tls = [tls = access->tls] { return tls->material()->context; };
  }

  auto admin = start_admin(options);
  if (!admin) return fail(admin.error(), kExitWrongUse);
  options.runtime.notice = [](const std::string& line) { spdlog::info("{}", line); };
  options.runtime.on_device_lost = [&](const std::string& why) {
    spdlog::error("{}: every stream ended with UNAVAILABLE, and this process ends", why);
    if (!is_lost.exchange(true)) stop.release();
  };
  const auto service = load_service(options.runtime, options.quiet);
  if (!service) return fail(service.error(), load_exit_code(service.error()));
  log_models(**service);
  static const base::SteadyClock clock;
  server::LimitedService limited(**service, limits_of_clients(*access), clock);
  server::RequestLog logged(limited, options.log_format == kJsonLog);
  const auto front_ends = start_front_ends(options, logged);
  if (!front_ends) return fail(front_ends.error(), kExitWrongUse);
  if (*admin) (*admin)->set_service(service->get());
  is_loaded = true;  // from here on a signal drains; whoever reads the following may send one
  if (*admin) announce(options.admin_address, (*admin)->port(), "admin");
  if (front_ends->http) {
    announce(options.http.server.address, front_ends->http->port(), "HTTP");
  }
  if (front_ends->grpc) announce(options.grpc.address, front_ends->grpc->port(), "gRPC");
  stop.acquire();
  if (!is_lost) be_lame_duck(**service, options.lame_duck_time);
  if (drain(**service, *front_ends, options.drain_time) == DrainEnd::kStuck) {
    (*log)->flush();
    std::_Exit(kExitFailed);  // the service cannot be destroyed
  }
  admin->reset();  // before the service that it asks
  return is_lost ? kExitFailed : kExitDone;
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
  return serve(options);
}

}  // namespace sluice::cli
