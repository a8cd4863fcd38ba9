#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cli/address.h"
#include "cli/bench_flags.h"
#include "cli/commands.h"
#include "cli/connection_flags.h"
#include "cli/flags.h"
#include "cli/load_plan.h"
#include "cli/load_plot.h"
#include "cli/load_report.h"
#include "cli/load_run.h"
#include "cli/parse.h"
#include "cli/terminal.h"
#include "server/stream_client.h"

namespace sluice::cli {
namespace {

constexpr const char* kCommand = "bench serve";
constexpr std::string_view kHttp = "http://";
constexpr std::string_view kHttps = "https://";

struct Options {
  std::string target = "127.0.0.1:50051";
  ConnectionOptions connection;
  int32_t num_connections = 4;
  int32_t vocabulary_size = 32000;
  std::string model;
  LoadOptions load;
  LoadGoals goals;
  std::string plot;
  bool json = false;
  bool quiet = false;
};

void add_flags(Flags& flags, Options& options) {
  LoadOptions& load = options.load;
  flags.group("Server");
  flags.add_text({"--target", "HOST:PORT",
                  "Where gRPC listens, or http[s]://HOST[:PORT][/BASE] of any server with OpenAI's "
                  "API; its paths begin with BASE, or /v1",
                  ""},
                 options.target);
  add_connection_flags(flags, options.connection);
  flags.add_int({"--connections", "N", "Of gRPC, which share the streams", ""},
                options.num_connections, 1, 1000);
  flags.add_text({"--model", "NAME", "Which of the server's models", "its only one"},
                 options.model);
  flags.add_int({"--vocabulary-size", "N",
                 "Token ids of prompts are below it, if the server does "
                 "not say its own",
                 ""},
                options.vocabulary_size, 1);
  flags.group("Load (--rate or --concurrency)");
  flags.add_number({"--rate", "R", "Requests per second, arriving at random (Poisson)", "none"},
                   load.rate, 1e-3, 1e6);
  flags.add_int({"--burst", "N", "Requests that arrive together; --rate counts all of them", ""},
                load.burst, 1, 100000);
  flags.add_int({"--concurrency", "N", "Requests always under way, instead of --rate", "none"},
                load.concurrency, 1, 100000);
  flags.add_duration({"--duration", "TIME", "Requests arrive for this long", ""}, load.duration);
  flags.add_int({"--max-in-flight", "N", "Arrivals beyond it are dropped and counted", ""},
                load.max_in_flight, 1, 100000);
  flags.add_int({"--prompt-tokens", "N", "Random token ids of each prompt", ""},
                load.mix.front().prompt_tokens, 1);
  flags.add_int({"--output-tokens", "N", "Tokens each stream generates", ""},
                load.mix.front().output_tokens, 1);
  flags.add({"--mix", "P/O*W,...",
             "Several lengths: prompt and output tokens, and how often they come", "one length"},
            [&load](const std::string& text) -> Result<void> {
              auto mix = parse_mix(text);
              if (!mix) return std::unexpected(std::move(mix.error()));
              load.mix = *std::move(mix);
              return {};
            });
  flags.add_switch(
      {"--text-prompts", "", "Prompts of words in place of token ids: one a token", ""},
      load.has_text_prompts);
  flags.add_switch({"--chat", "", "The same as a user's message: chat completions", ""},
                   load.is_chat);
  flags.add_switch({"--natural-end", "",
                    "A stream may end before --output-tokens, at its end token; servers that know "
                    "no ignore_eos need it",
                    ""},
                   load.ends_naturally);
  add_draw_flags(flags, load.bench, "Of arrivals, lengths, prompts and draws");
  flags.group("Goals (a request within both counts as goodput)");
  flags.add_duration({"--goal-ttft", "TIME", "Time to the first token", ""}, options.goals.ttft);
  flags.add_duration({"--goal-itl", "TIME", "Mean time between tokens", ""}, options.goals.itl);
  flags.group("Output");
  flags.add_text({"--plot", "FILE.svg", "A picture of the load", "none"}, options.plot);
  flags.add_switch({"--json", "", "One JSON object", ""}, options.json);
  flags.add_switch({"--quiet", "", "No progress on stderr", ""}, options.quiet);
  flags.example("sluice bench serve --rate 20 --duration 10s", "20 requests a second");
  flags.example("sluice bench serve --target http://127.0.0.1:8080 --concurrency 16",
                "16 streams at all times, over OpenAI's API");
  flags.example("sluice bench serve --target https://sluice.example:8080 --tls-ca ca.pem --rate 5",
                "a server whose certificate ca.pem has signed");
  flags.example(
      "sluice bench serve --target https://api.example/v1 --model m --chat --natural-end --rate 1",
      "chats with a server that knows only what OpenAI's own does");
  flags.example("sluice bench serve --rate 8 --burst 4 --mix '128/50*3,1024/200' --plot load.svg",
                "bursts of two lengths, with a picture");
}

// The server that is asked, and what its prompts may hold.
struct Server {
  std::unique_ptr<server::StreamClient> client;
  std::string model;
  int32_t vocabulary_size = 0;
};

// The parts of --target.
struct Target {
  std::string address;   // HOST:PORT
  std::string base;      // "/..." or empty
  bool is_http = false;  // it is a URL
  bool is_https = false;
};

Target split_target(std::string_view text) {
  Target target;
  target.is_https = text.starts_with(kHttps);
  target.is_http = target.is_https || text.starts_with(kHttp);
  if (!target.is_http) {
    target.address = text;
    return target;
  }
  text.remove_prefix(target.is_https ? kHttps.size() : kHttp.size());
  const size_t slash = std::min(text.find('/'), text.size());
  target.address = text.substr(0, slash);
  target.base = text.substr(slash);
  while (target.base.ends_with('/')) target.base.pop_back();
  const size_t host_end = target.address.starts_with('[') ? target.address.find(']') : 0;
  if (target.address.find(':', std::min(host_end, target.address.size())) == std::string::npos) {
    target.address += target.is_https ? ":443" : ":80";
  }
  return target;
}

Result<Server> connect_http(const Options& options) {
  auto credentials = client_options(options.connection);
  if (!credentials) return std::unexpected(credentials.error());
  const Target parts = split_target(options.target);
  if (parts.is_https) {
    credentials->uses_tls = true;
  } else if (credentials->uses_tls) {
    return invalid_argument("an http:// target is plain text: TLS needs https://");
  }
  const auto target =
      server::find_openai_target(parts.address + parts.base, options.model, *credentials);
  if (!target) return std::unexpected(target.error());
  auto client = server::make_openai_stream_client(*target, *credentials);
  if (!client) return std::unexpected(client.error());
  const int32_t size =
      target->vocabulary_size > 0 ? target->vocabulary_size : options.vocabulary_size;
  return Server{*std::move(client), target->model, size};
}

Result<Server> connect_grpc(const Options& options) {
  const auto credentials = client_options(options.connection);
  if (!credentials) return std::unexpected(credentials.error());
  const auto models = server::GenerationClient::create(options.target, *credentials)->list_models();
  if (!models) return std::unexpected(models.error());
  for (const ModelInfo& model : *models) {
    if (options.model.empty() ? models->size() != 1 : model.name != options.model) continue;
    return Server{
        server::make_grpc_stream_client(options.target, *credentials, options.num_connections),
        model.name, model.vocabulary_size};
  }
  return fail(ErrorCode::kNotFound, options.model.empty()
                                        ? "the server has several models: needs --model NAME"
                                        : "the server has no model " + quote(options.model));
}

std::string find_conflict(const Options& options) {
  const LoadOptions& load = options.load;
  if ((load.rate > 0) == (load.concurrency > 0)) {
    return "needs --rate R or --concurrency N, one of them; see sluice bench serve --help";
  }
  if (load.burst > 1 && load.concurrency > 0) return "--burst goes with --rate";
  const auto target = parse_host_port(split_target(options.target).address);
  return target ? "" : "--target: " + target.error().message;
}

bool write_plot(const std::string& path, const std::string& svg) {
  std::ofstream file(path, std::ios::binary);
  file << svg;
  file.close();
  return file.good();
}

}  // namespace

int run_bench_serve(Arguments arguments) {
  Options options;
  Flags flags(kCommand, "--target HOST:PORT --rate R [flags]",
              "Puts a load on a server, ours or any with OpenAI's API. With --rate requests arrive "
              "at random times that do not depend on the answers, so that a slow server shows.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (const std::string conflict = find_conflict(options); !conflict.empty()) {
    return flags.wrong_use(conflict);
  }
  const auto server =
      split_target(options.target).is_http ? connect_http(options) : connect_grpc(options);
  if (!server) {
    print_error(kCommand, server.error().message);
    return exit_code(server.error());
  }
  LoadPlan plan(options.load, server->model, server->vocabulary_size);
  const LoadResult result = run_load(*server->client, options.load, plan, options.quiet);
  const LoadFigures figures = load_figures(result, options.goals);
  const std::string report =
      options.json ? load_json(figures, options.load) : load_text(figures, options.goals);
  if (!write_stdout(report)) return kExitFailed;
  const std::string title = fmt::format("{}, {} requests", server->model, result.samples.size());
  if (!options.plot.empty() && !write_plot(options.plot, load_plot(result, figures, title))) {
    print_error(kCommand, "cannot write " + quote(options.plot));
    return kExitFailed;
  }
  if (figures.num_failed == 0) return kExitDone;
  print_error(kCommand, "requests failed; the first one: " + figures.first_error);
  return kExitFailed;
}

}  // namespace sluice::cli
