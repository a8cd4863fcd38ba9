#include "cli/serve_options.h"

#include <utility>

#include "cli/address.h"
#include "cli/model_path.h"
#include "cli/runtime_flags.h"

namespace sluice::cli {
namespace {

// Empty if `flag` may have this value. `remedy`: what else would make an address right that other
// machines reach.
std::string find_address_problem(const std::string& flag, const std::string& text,
                                 bool may_be_reached, const std::string& remedy) {
  if (text == kNoAddress) return "";
  const Result<HostPort> address = parse_host_port(text);
  if (!address) return flag + ": " + address.error().message;
  if (is_loopback(address->host) || may_be_reached) return "";
  return flag + ": " + text +
         " is not a loopback address, and traffic to it is not encrypted; use 127.0.0.1" + remedy +
         " or add --insecure";
}

}  // namespace

void add_serve_flags(Flags& flags, ServeOptions& options) {
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
  flags.add_text({"--grpc-address", "HOST:PORT",
                  "Where gRPC listens, or \"none\"; port 0 takes a free one", options.grpc.address},
                 options.grpc.address);
  flags.add_text({"--http-address", "HOST:PORT", "Where OpenAI's HTTP listens, or \"none\"",
                  options.http.server.address},
                 options.http.server.address);
  flags.add_text({"--admin-address", "HOST:PORT",
                  "Where metrics and health checks listen, or \"none\"", options.admin_address},
                 options.admin_address);
  flags.add_switch(
      {"--insecure", "", "Allow an address that other machines reach, unencrypted", ""},
      options.insecure);
  flags.add_bytes({"--max-message-bytes", "SIZE", "Of a received message or body", ""},
                  options.grpc.max_message_bytes, 1024);
  flags.add_int({"--max-metadata-bytes", "N", "Of a call's metadata", ""},
                options.grpc.max_metadata_bytes, 1024);
  flags.add_int64({"--max-connections", "N", "Of gRPC at once; more are closed", ""},
                  options.grpc.max_connections, 1);
  flags.add_duration({"--max-connection-age", "TIME",
                      "Of gRPC; an older one is told to go elsewhere for its next calls, so that "
                      "clients find replicas that are new. 0: never",
                      ""},
                     options.grpc.max_connection_age, std::chrono::nanoseconds(0));
  flags.add_int({"--max-concurrent-streams", "N", "Calls of one connection", ""},
                options.grpc.max_concurrent_streams, 1);
  flags.add_int({"--max-http-connections", "N", "More are turned away with status 503", ""},
                options.http.server.max_connections, 1);
  flags.add_switch({"--no-reflection", "", "Do not tell clients the services' schema", ""},
                   options.no_reflection);
  add_access_flags(flags, options.access);
  flags.group("Process");
  flags.add_duration({"--lame-duck-time", "TIME",
                      "After SIGTERM or SIGINT, not ready but still accepting for this long", ""},
                     options.lame_duck_time, std::chrono::nanoseconds(0));
  flags.add_duration({"--drain-time", "TIME",
                      "Then streams may finish for this long, and new work is refused", ""},
                     options.drain_time, std::chrono::nanoseconds(0));
  flags.add_duration({"--live-within", "TIME",
                      "Live turns off while a step takes longer: more than the longest one, less "
                      "than you would wait for one that hangs",
                      ""},
                     options.runtime.live_within, std::chrono::seconds(1));
  flags.add_choice({"--log-level", "LEVEL", "debug, info, warning or error", ""}, options.log_level,
                   {"debug", "info", "warning", "error"});
  flags.add_choice({"--log-format", "FORMAT", "text, or json: one object a line", ""},
                   options.log_format, {"text", "json"});
  flags.add_text({"--log-file", "FILE", "Where the log goes; opened anew on SIGHUP", "stderr"},
                 options.log_file);
  flags.add_switch(
      {"--log-library-messages", "",
       "Errors of failed steps in LibTorch's words too; they may name the model's parts", ""},
      options.runtime.library_messages);
  flags.add_switch({"--quiet", "", "No progress bar, and only warnings and errors in the log", ""},
                   options.quiet);
  add_runtime_flags(flags, options.runtime);
  add_limit_flags(flags, options.runtime.limits);
  flags.example("sluice serve --model models/llama-tiny", "one model on 127.0.0.1:50051");
  flags.example("sluice serve --model small=models/llama-tiny --model zh=models/bloom-tiny",
                "two models, with names");
}

std::string find_serve_conflict(const ServeOptions& options) {
  if (options.runtime.models.empty()) {
    return "needs --model [NAME=]PATH; see sluice serve --help";
  }
  if (!options.served_model_name.empty() && options.runtime.models.size() > 1) {
    return "--served-model-name goes with one --model; use --model NAME=PATH";
  }
  if (options.grpc.address == kNoAddress && options.http.server.address == kNoAddress) {
    return "--grpc-address and --http-address are both none: nothing would listen";
  }
  if (auto conflict = find_access_conflict(options.access); !conflict.empty()) return conflict;
  const bool has_tls = !options.access.tls.certificate.empty();
  constexpr const char* kRemedy = ", give --tls-cert and --tls-key,";
  const bool is_open = has_tls || options.insecure;
  for (const auto& [flag, address] : {std::pair("--grpc-address", options.grpc.address),
                                      std::pair("--http-address", options.http.server.address)}) {
    if (auto why = find_address_problem(flag, address, is_open, kRemedy); !why.empty()) return why;
  }
  return find_address_problem("--admin-address", options.admin_address, options.insecure, "");
}

}  // namespace sluice::cli
