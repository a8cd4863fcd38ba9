// A model through the whole engine, token ids in and out, with the core alone.
//
//   gpu_bench --model FOLDER [--device cuda] [--runs 1x128+128*3,32x1000+64] [--profile]
//             [--any-tokens]
//   gpu_bench --model FOLDER --first-token       the time from main() to the first token
//   gpu_bench --model HF_DIR --import PACKAGE    makes a package, without golden logits
//
// A run is STREAMSxPROMPT+OUTPUT[*REPETITIONS]: so many streams at once, each with a prompt of
// random token ids and so many sampled tokens (temperature 0.7, top-p 0.9). REPETITIONS follow one
// that warms up; without them it is one run, not warmed up. Prints a JSON object a line, as soon as
// it is known: the model, then every run. Ends with 1 if a request's tokens are not the same alone
// and among others, which --any-tokens leaves out, or if a stream gives another number of tokens.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/bench_run.h"
#include "cli/statistics.h"
#include "sluice/import.h"
#include "sluice/runtime.h"

namespace sluice::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kUsage =
    "usage: gpu_bench --model FOLDER [--device auto|cpu|cuda[:N]] [--kv-cache-dtype NAME]\n"
    "                 [--activation-dtype int8|fp8|auto]\n"
    "                 [--runs STREAMSxPROMPT+OUTPUT[*REPETITIONS],...] [--profile]\n"
    "                 [--any-tokens]\n"
    "                 [--max-num-batched-tokens N] [--first-token | --import PACKAGE]\n";
constexpr int32_t kCheckedStreams = 8;
constexpr cli::BenchOptions kChecked{.prompt_tokens = 33, .output_tokens = 12};
constexpr cli::BenchOptions kFirstToken{.prompt_tokens = 16, .output_tokens = 1};

struct Run {
  int32_t streams = 1;
  int32_t prompt_tokens = 128;
  int32_t output_tokens = 128;
  int32_t repetitions = 0;
};

struct Options {
  std::filesystem::path model;
  std::filesystem::path package;
  std::string device = "cuda";
  std::string kv_cache_dtype = "auto";
  std::string activation_dtype;
  std::vector<Run> runs;
  int32_t max_num_batched_tokens = 8192;
  bool profile = false;
  bool first_token = false;
  bool any_tokens = false;
};

// Takes a number and, if it is not at the end, the `separator` behind it. Nothing if they are not
// there.
std::optional<int32_t> take_number(std::string_view& text, std::string_view separator) {
  int32_t number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 1) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(rest - text.data()));
  if (!separator.empty()) {
    if (!text.starts_with(separator)) return std::nullopt;
    text.remove_prefix(separator.size());
  }
  return number;
}

std::optional<Run> parse_run(std::string_view text) {
  const auto streams = take_number(text, "x");
  const auto prompt_tokens = streams ? take_number(text, "+") : std::nullopt;
  const auto output_tokens = prompt_tokens ? take_number(text, "") : std::nullopt;
  if (!output_tokens) return std::nullopt;
  Run run{*streams, *prompt_tokens, *output_tokens, 0};
  if (text.empty()) return run;
  if (!text.starts_with('*')) return std::nullopt;
  text.remove_prefix(1);
  const auto repetitions = take_number(text, "");
  if (!repetitions || !text.empty()) return std::nullopt;
  run.repetitions = *repetitions;
  return run;
}

bool parse_runs(std::string_view text, std::vector<Run>& runs) {
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    const auto run = parse_run(text.substr(0, end));
    if (!run) return false;
    runs.push_back(*run);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return true;
}

bool set_value(Options& options, std::string_view name, const std::string& value) {
  if (name == "--model") {
    options.model = value;
  } else if (name == "--import") {
    options.package = value;
  } else if (name == "--device") {
    options.device = value;
  } else if (name == "--kv-cache-dtype") {
    options.kv_cache_dtype = value;
  } else if (name == "--activation-dtype") {
    options.activation_dtype = value;
  } else if (name == "--runs") {
    return parse_runs(value, options.runs);
  } else if (name == "--max-num-batched-tokens") {
    std::string_view text = value;
    const auto number = take_number(text, "");
    options.max_num_batched_tokens = number.value_or(0);
    return number && text.empty();
  } else {
    return false;
  }
  return true;
}

std::optional<Options> parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--profile") {
      options.profile = true;
    } else if (name == "--first-token") {
      options.first_token = true;
    } else if (name == "--any-tokens") {
      options.any_tokens = true;
    } else if (i + 1 >= argc || !set_value(options, name, argv[++i])) {
      return std::nullopt;
    }
  }
  if (options.model.empty()) return std::nullopt;
  return options;
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void print_line(const OrderedJson& json) {
  std::printf("%s\n", json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace).c_str());
  (void)std::fflush(stdout);
}

int report(const Error& error) {
  (void)std::fprintf(stderr, "gpu_bench: %s\n", error.message.c_str());
  return 1;
}

OrderedJson json_of(const cli::Spread& spread) {
  return {{"median", spread.median}, {"min", spread.min}, {"max", spread.max}};
}

OrderedJson percentiles(const std::vector<double>& samples) {
  return {{"p50", cli::quantile(samples, 0.5)}, {"p99", cli::quantile(samples, 0.99)}};
}

// Milliseconds of a step by its parts, of all shapes together.
OrderedJson json_of(const StepProfile& profile) {
  const auto steps = static_cast<double>(std::max<int64_t>(profile.steps, 1));
  OrderedJson parts = OrderedJson::object();
  for (const StepPart& part : profile.parts) {
    parts[part.name] = parts.value(part.name, 0.0) + part.ms / steps;
  }
  return {{"kind", profile.kind},
          {"steps", profile.steps},
          {"rows", static_cast<double>(profile.tokens) / steps},
          {"ms", profile.ms / steps},
          {"parts_ms", parts}};
}

// What all repetitions of a run gave.
struct Figures {
  std::vector<double> prefill, decode, ttft_ms, itl_ms, step_ms_p50, step_ms_p99, engine_us_p50,
      engine_us_p99;

  void add(const cli::BenchRun& run, int32_t prompt_tokens) {
    const cli::BenchFigures found = cli::figures(run, prompt_tokens);
    prefill.push_back(found.prefill_tokens_per_s);
    decode.push_back(found.decode_tokens_per_s);
    ttft_ms.insert(ttft_ms.end(), found.ttft_ms.begin(), found.ttft_ms.end());
    itl_ms.insert(itl_ms.end(), found.itl_ms.begin(), found.itl_ms.end());
    step_ms_p50.push_back(run.steps.step_ms_p50);
    step_ms_p99.push_back(run.steps.step_ms_p99);
    engine_us_p50.push_back(run.steps.engine_us_p50);
    engine_us_p99.push_back(run.steps.engine_us_p99);
  }

  OrderedJson json() const {
    return {
        {"prefill_tokens_per_s", json_of(cli::spread(prefill))},
        {"decode_tokens_per_s", json_of(cli::spread(decode))},
        {"ttft_ms", percentiles(ttft_ms)},
        {"itl_ms", percentiles(itl_ms)},
        {"step_ms",
         {{"p50", cli::spread(step_ms_p50).median}, {"p99", cli::spread(step_ms_p99).median}}},
        {"engine_us",
         {{"p50", cli::spread(engine_us_p50).median}, {"p99", cli::spread(engine_us_p99).median}}}};
  }
};

// Prompts that no run had before: nothing may come from the prefix cache.
uint64_t first_stream_of(size_t run_idx, int32_t repetition) {
  return (static_cast<uint64_t>(run_idx + 1) << 40) | (static_cast<uint64_t>(repetition) << 20);
}

Result<OrderedJson> measure(Service& service, const Run& run, size_t run_idx) {
  const cli::BenchOptions options{.prompt_tokens = run.prompt_tokens,
                                  .output_tokens = run.output_tokens};
  Figures figures;
  OrderedJson profiles = OrderedJson::array();
  const int32_t first = run.repetitions == 0 ? 1 : 0;  // the one that warms up is the 0th
  for (int32_t i = first; i <= std::max(run.repetitions, 1); ++i) {
    const auto done = cli::run_streams(service, options, run.streams, first_stream_of(run_idx, i));
    if (!done) return std::unexpected(done.error());
    if (i == 0) continue;
    figures.add(*done, run.prompt_tokens);
    profiles.clear();  // the last one's
    for (const StepProfile& profile : done->steps.profiles) profiles.push_back(json_of(profile));
  }
  OrderedJson json = {{"run",
                       {{"streams", run.streams},
                        {"prompt_tokens", run.prompt_tokens},
                        {"output_tokens", run.output_tokens},
                        {"repetitions", run.repetitions}}}};
  json.update(figures.json());
  if (!profiles.empty()) json["profiles"] = profiles;
  return json;
}

// The same request alone and among others: other tokens would be a wrong result.
Result<void> check(Service& service) {
  const auto alone = cli::run_streams(service, kChecked, 1, 0);
  if (!alone) return std::unexpected(alone.error());
  const auto crowd = cli::run_streams(service, kChecked, kCheckedStreams, 0);
  if (!crowd) return std::unexpected(crowd.error());
  if (alone->streams.front().token_ids == crowd->streams.front().token_ids) return {};
  return fail(ErrorCode::kInternal, "the same request gave other tokens among " +
                                        std::to_string(kCheckedStreams) +
                                        " streams: the result is wrong");
}

// Places and context for the runs that come. `notices` gets what it says, as long as it lives.
RuntimeOptions runtime_options(const Options& options, std::vector<std::string>& notices) {
  RuntimeOptions runtime;
  runtime.models = {{"", options.model}};
  runtime.device = options.device;
  runtime.kv_cache_dtype = options.kv_cache_dtype;
  runtime.activation_dtype = options.activation_dtype;
  runtime.profile = options.profile;
  runtime.library_messages = true;
  runtime.max_num_seqs = kCheckedStreams;
  int32_t longest = kChecked.prompt_tokens + kChecked.output_tokens;
  for (const Run& run : options.runs) {
    runtime.max_num_seqs = std::max(runtime.max_num_seqs, run.streams);
    longest = std::max(longest, run.prompt_tokens + run.output_tokens);
  }
  runtime.max_model_len = longest + 1;
  runtime.max_num_batched_tokens = std::max(options.max_num_batched_tokens, runtime.max_num_seqs);
  runtime.limits.max_queued_requests =
      std::max(runtime.limits.max_queued_requests, runtime.max_num_seqs);
  runtime.limits.max_request_age = std::chrono::hours(1);
  runtime.notice = [&notices](const std::string& line) {
    (void)std::fprintf(stderr, "gpu_bench: %s\n", line.c_str());
    notices.push_back(line);
  };
  return runtime;
}

OrderedJson about(Service& service, double load_s, const std::vector<std::string>& notices) {
  const ModelInfo model = service.models().front();
  const ServerInfo server = service.server_info();
  return {{"model",
           {{"name", model.name},
            {"family", model.family},
            {"dtype", model.dtype},
            {"num_parameters", model.num_parameters},
            {"vocabulary_size", model.vocabulary_size},
            {"kv_bytes_per_token", model.kv_bytes_per_token},
            {"kv_capacity_tokens", model.kv_capacity_tokens}}},
          {"device", server.device},
          {"profile", model.profile},
          {"num_threads", server.num_threads},
          {"load_s", load_s},
          {"notices", notices}};
}

int import_package(const Options& options) {
  ImportOptions import;
  import.source = options.model;
  import.package = options.package;
  import.golden = false;
  const auto begin = Clock::now();
  if (const auto done = import_model(import); !done) return report(done.error());
  print_line({{"import_s", seconds_since(begin)}});
  return 0;
}

int run(const Options& options) {
  const auto begin = Clock::now();
  if (!options.package.empty()) return import_package(options);
  std::vector<std::string> notices;
  auto service = create_service(runtime_options(options, notices));
  if (!service) return report(service.error());
  const double load_s = seconds_since(begin);
  if (options.first_token) {
    const auto first = cli::run_streams(**service, kFirstToken, 1, 0);
    if (!first) return report(first.error());
    print_line({{"first_token_s", seconds_since(begin)}, {"load_s", load_s}});
    return 0;
  }
  print_line(about(**service, load_s, notices));
  if (!options.any_tokens) {
    if (const auto checked = check(**service); !checked) return report(checked.error());
  }
  for (size_t i = 0; i < options.runs.size(); ++i) {
    const auto measured = measure(**service, options.runs[i], i);
    if (!measured) return report(measured.error());
    print_line(*measured);
  }
  return 0;
}

}  // namespace
}  // namespace sluice::benchmarks

int main(int argc, char** argv) {
  const auto options = sluice::benchmarks::parse(argc, argv);
  if (!options) {
    (void)std::fputs(sluice::benchmarks::kUsage, stderr);
    return 2;
  }
  return sluice::benchmarks::run(*options);
}
