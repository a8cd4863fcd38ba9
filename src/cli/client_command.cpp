#include <spdlog/fmt/fmt.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/address.h"
#include "cli/commands.h"
#include "cli/connection_flags.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/printer.h"
#include "cli/request_fields.h"
#include "cli/terminal.h"
#include "server/grpc/generation_client.h"

namespace sluice::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
using server::GenerationClient;

constexpr const char* kCommand = "client";

struct Options {
  GenerateRequest request;
  OutputOptions output;
  std::string target = "127.0.0.1:50051";
  ConnectionOptions connection;
  std::chrono::nanoseconds timeout{0};
  bool list_models = false;
  bool info = false;
  bool health = false;
};

void add_flags(Flags& flags, Options& options) {
  flags.group("Server");
  flags.add_text({"--target", "HOST:PORT", "Where the server listens", ""}, options.target);
  add_connection_flags(flags, options.connection);
  flags.add_duration({"--timeout", "TIME", "Deadline of the call", "none"}, options.timeout);
  flags.add_switch({"--list-models", "", "Show the server's models instead", ""},
                   options.list_models);
  flags.add_switch({"--info", "", "Show the server's version, device and load instead", ""},
                   options.info);
  flags.add_switch({"--health", "", "Tell whether the server is serving instead (exit 0 or 1)", ""},
                   options.health);
  add_request_flags(flags, options.request, {});
  add_output_flags(flags, options.output);
  flags.example("sluice client --prompt \"Once upon a time\" --max-tokens 50 --temperature 0.7",
                "stream from the server on 127.0.0.1:50051");
  flags.example("sluice client --list-models", "which models there are");
}

std::string find_conflict(const Options& options) {
  const int num_actions = (options.request.prompt ? 1 : 0) + (options.request.token_ids ? 1 : 0) +
                          (has_messages(options.request) ? 1 : 0) + (options.list_models ? 1 : 0) +
                          (options.info ? 1 : 0) + (options.health ? 1 : 0);
  constexpr const char* kActions =
      "one of --prompt, --token-ids, --messages, --list-models, --info and --health";
  if (num_actions == 0) return fmt::format("needs {}", kActions);
  if (num_actions > 1) return fmt::format("takes only {}", kActions);
  const Result<HostPort> target = parse_host_port(options.target);
  if (!target) return "--target: " + target.error().message;
  return "";
}

int report(const Error& error) {
  print_error(kCommand, error.message);
  return exit_code(error);
}

int show(const std::string& text) {
  return write_stdout(text) ? kExitDone : kExitFailed;
}

int list_models(GenerationClient& client, bool json) {
  const auto models = client.list_models();
  if (!models) return report(models.error());
  std::vector<std::vector<std::string>> rows{
      {"model", "family", "parameters", "dtype", "context", "KV tokens", "kernels", "digest"}};
  OrderedJson list = OrderedJson::array();
  for (const ModelInfo& model : *models) {
    rows.push_back({model.name, model.family, format_count(model.num_parameters), model.dtype,
                    format_count(model.context_length), format_count(model.kv_capacity_tokens),
                    model.profile, model.digest.substr(0, 12)});
    list.push_back({{"name", model.name},
                    {"family", model.family},
                    {"digest", model.digest},
                    {"dtype", model.dtype},
                    {"profile", model.profile},
                    {"num_parameters", model.num_parameters},
                    {"vocabulary_size", model.vocabulary_size},
                    {"context_length", model.context_length},
                    {"has_tokenizer", model.has_tokenizer},
                    {"has_chat_template", model.has_chat_template},
                    {"end_token_ids", model.end_token_ids},
                    {"kv_capacity_tokens", model.kv_capacity_tokens},
                    {"kv_bytes_per_token", model.kv_bytes_per_token}});
  }
  return show(json ? OrderedJson{{"models", list}}.dump() + "\n" : table(rows));
}

int show_info(GenerationClient& client, bool json) {
  const auto info = client.server_info();
  if (!info) return report(info.error());
  const double uptime_s = std::chrono::duration<double>(info->uptime).count();
  if (json) {
    const OrderedJson line = {{"version", info->version},
                              {"device", info->device},
                              {"num_threads", info->num_threads},
                              {"uptime_s", uptime_s},
                              {"requests_running", info->requests_running},
                              {"requests_waiting", info->requests_waiting},
                              {"kv_blocks_used", info->kv_blocks_used},
                              {"kv_blocks_total", info->kv_blocks_total},
                              {"prefix_cache_queries", info->prefix_cache_queries},
                              {"prefix_cache_hits", info->prefix_cache_hits},
                              {"preemptions", info->preemptions}};
    return show(line.dump() + "\n");
  }
  return show(table({{"version", info->version},
                     {"device", fmt::format("{}, {} threads", info->device, info->num_threads)},
                     {"uptime", fmt::format("{:.0f} s", uptime_s)},
                     {"requests", fmt::format("{} running, {} waiting", info->requests_running,
                                              info->requests_waiting)},
                     {"KV blocks", fmt::format("{} of {} used", format_count(info->kv_blocks_used),
                                               format_count(info->kv_blocks_total))},
                     {"prefix cache", fmt::format("{} of {} prompt tokens found",
                                                  format_count(info->prefix_cache_hits),
                                                  format_count(info->prefix_cache_queries))},
                     {"preemptions", format_count(info->preemptions)}}));
}

int show_health(GenerationClient& client, bool json) {
  const auto healthy = client.healthy();
  if (!healthy) return report(healthy.error());
  const char* word = *healthy ? "SERVING" : "NOT_SERVING";
  const int code =
      show(json ? fmt::format("{{\"status\":\"{}\"}}\n", word) : fmt::format("{}\n", word));
  return *healthy ? code : kExitFailed;
}

// Whether the model that will answer has text; if the server does not say, the text shows it.
bool model_has_text(GenerationClient& client, const std::string& name) {
  const auto models = client.list_models();
  if (!models) return true;
  for (const ModelInfo& model : *models) {
    if (name.empty() || model.name == name) return model.has_tokenizer;
  }
  return true;
}

int generate(GenerationClient& client, Options& options) {
  const bool has_text = options.output.json || model_has_text(client, options.request.model);
  if (options.timeout.count() > 0) {
    options.request.deadline = std::chrono::steady_clock::now() + options.timeout;
  }
  AnswerPrinter printer(options.output, options.request, has_text);
  const auto summary = client.generate(
      options.request, [&printer](const GenerateChunk& chunk) { return printer.add(chunk); });
  if (!summary) {
    printer.break_line();
    return report(summary.error());
  }
  return printer.finish(*summary);
}

}  // namespace

int run_client(Arguments arguments) {
  Options options;
  Flags flags(kCommand, "[--target HOST:PORT] (--prompt TEXT | --messages FILE | ...) [flags]",
              "Asks a running server and streams its answer to the terminal.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (const std::string conflict = find_conflict(options); !conflict.empty()) {
    return flags.wrong_use(conflict);
  }
  const auto client = make_client(options.target, options.connection);
  if (!client) return flags.wrong_use(client.error().message);
  if (options.list_models) return list_models(**client, options.output.json);
  if (options.info) return show_info(**client, options.output.json);
  if (options.health) return show_health(**client, options.output.json);
  return generate(**client, options);
}

}  // namespace sluice::cli
