#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench_flags.h"
#include "cli/bench_run.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/machine.h"
#include "cli/model_path.h"
#include "cli/parse.h"
#include "cli/runtime_flags.h"
#include "cli/signals.h"
#include "cli/statistics.h"
#include "cli/step_profile.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kCommand = "bench offline";

struct Options {
  RuntimeOptions runtime;
  BenchOptions bench;
  std::string model;
  std::vector<int32_t> concurrency{1, 16};
  bool json = false;
  bool quiet = false;
};

// All repetitions at one concurrency.
struct Level {
  int32_t concurrency = 0;
  Spread prefill, decode;
  std::vector<double> ttft_ms, itl_ms;
  Spread step_ms_p50, step_ms_p99, engine_us_p50, engine_us_p99;
  int64_t steps = 0;                  // of one repetition, the median's
  int64_t tokens = 0;                 // likewise: rows that were computed
  std::vector<StepProfile> profiles;  // of all repetitions, with --profile
};

Result<void> set_concurrency(std::vector<int32_t>& target, const std::string& text) {
  const auto values = parse_int64_list(text);
  if (!values) return std::unexpected(values.error());
  target.clear();
  constexpr int64_t kMost = 65536;
  for (const int64_t value : *values) {
    if (value < 1 || value > kMost) {
      return invalid_argument(fmt::format("{} is not in the range 1 to {}", value, kMost));
    }
    target.push_back(static_cast<int32_t>(value));
  }
  if (target.empty()) return invalid_argument("the list is empty");
  return {};
}

void add_flags(Flags& flags, Options& options) {
  BenchOptions& bench = options.bench;
  flags.group("What to measure");
  flags.add_text(
      {"--model", "PATH",
       "A package, a Hugging Face folder, or null: no model, which shows what the engine "
       "itself costs",
       ""},
      options.model);
  flags.add_int({"--prompt-tokens", "N", "Random token ids of each prompt", ""},
                bench.prompt_tokens, 1);
  flags.add_int({"--output-tokens", "N", "Tokens each stream generates, past any end token", ""},
                bench.output_tokens, 1);
  flags.add(
      {"--concurrency", "N,N,...", "Streams at once, one run after another", "1,16"},
      [&options](const std::string& text) { return set_concurrency(options.concurrency, text); });
  flags.add_int({"--repetitions", "N", "Measured runs of each; medians are shown", ""},
                bench.repetitions, 1, 10000);
  add_draw_flags(flags, bench, "Of prompts and draws");
  flags.add_switch({"--profile", "",
                    "Time every part of a step, operator by operator; slows small models down", ""},
                   options.runtime.profile);
  flags.group("Output");
  flags.add_switch({"--json", "", "One JSON object", ""}, options.json);
  flags.add_switch({"--quiet", "", "No progress and no notices on stderr", ""}, options.quiet);
  add_runtime_flags(flags, options.runtime);
  flags.example("sluice bench offline --model models/llama-tiny --concurrency 1,16",
                "rates and latencies of a model");
  flags.example(
      "sluice bench offline --model null --prompt-tokens 16 --output-tokens 4000 "
      "--concurrency 64 --greedy",
      "engine time per step at 64 sequences");
}

Spread step_figure(const std::vector<StepStatistics>& steps, double StepStatistics::* member) {
  std::vector<double> values;
  for (const StepStatistics& step : steps) values.push_back(step.*member);
  return spread(values);
}

// One warm-up, then the repetitions. The first warm-up stream is the same at every concurrency, and
// must give the same tokens there: `expected` holds them after the first call.
Result<Level> measure(Service& service, const Options& options, int32_t concurrency,
                      std::vector<int32_t>& expected, ProgressBar& bar) {
  const auto warm = run_streams(service, options.bench, concurrency, 0);
  if (!warm) return std::unexpected(warm.error());
  if (expected.empty()) expected = warm->streams.front().token_ids;
  if (expected != warm->streams.front().token_ids) {
    return fail(
        ErrorCode::kInternal,
        fmt::format("the same request gave other tokens among {} streams: the result is wrong",
                    concurrency));
  }
  Level level;
  level.concurrency = concurrency;
  std::vector<double> prefill, decode;
  std::vector<StepStatistics> steps;
  for (int32_t repetition = 0; repetition < options.bench.repetitions; ++repetition) {
    bar.set_label(fmt::format("{} streams", concurrency));
    bar.update(repetition, options.bench.repetitions, false);
    // Prompts that no run had before, so that nothing can come from a cache.
    const uint64_t first_stream =
        (static_cast<uint64_t>(concurrency) << 40) | (static_cast<uint64_t>(repetition + 1) << 20);
    const auto run = run_streams(service, options.bench, concurrency, first_stream);
    if (!run) return std::unexpected(run.error());
    const BenchFigures found = figures(*run, options.bench.prompt_tokens);
    prefill.push_back(found.prefill_tokens_per_s);
    decode.push_back(found.decode_tokens_per_s);
    level.ttft_ms.insert(level.ttft_ms.end(), found.ttft_ms.begin(), found.ttft_ms.end());
    level.itl_ms.insert(level.itl_ms.end(), found.itl_ms.begin(), found.itl_ms.end());
    steps.push_back(run->steps);
    add_profiles(level.profiles, run->steps.profiles);
  }
  bar.clear();
  level.prefill = spread(prefill);
  level.decode = spread(decode);
  level.step_ms_p50 = step_figure(steps, &StepStatistics::step_ms_p50);
  level.step_ms_p99 = step_figure(steps, &StepStatistics::step_ms_p99);
  level.engine_us_p50 = step_figure(steps, &StepStatistics::engine_us_p50);
  level.engine_us_p99 = step_figure(steps, &StepStatistics::engine_us_p99);
  level.steps = steps[steps.size() / 2].steps;
  level.tokens = steps[steps.size() / 2].tokens;
  return level;
}

OrderedJson percentiles(const std::vector<double>& samples) {
  return {{"p50", quantile(samples, 0.5)}, {"p99", quantile(samples, 0.99)}};
}

OrderedJson level_json(const Level& level) {
  OrderedJson json = {
      {"concurrency", level.concurrency},
      {"prefill_tokens_per_s", level.prefill.median},
      {"decode_tokens_per_s", level.decode.median},
      {"ttft_ms", percentiles(level.ttft_ms)},
      {"itl_ms", percentiles(level.itl_ms)},
      {"step_ms", {{"p50", level.step_ms_p50.median}, {"p99", level.step_ms_p99.median}}},
      {"engine_us", {{"p50", level.engine_us_p50.median}, {"p99", level.engine_us_p99.median}}},
      {"steps", level.steps},
      {"rows", level.tokens},
      {"prefill_tokens_per_s_range", {level.prefill.min, level.prefill.max}},
      {"decode_tokens_per_s_range", {level.decode.min, level.decode.max}}};
  if (!level.profiles.empty()) json["profile"] = profile_json(level.profiles);
  return json;
}

std::string json_report(const Options& options, const ModelInfo& model, const ServerInfo& server,
                        const std::vector<Level>& levels) {
  const BenchOptions& bench = options.bench;
  OrderedJson machine = machine_json(inspect_machine());
  machine["num_threads"] = server.num_threads;
  machine["device"] = server.device;
  OrderedJson runs = OrderedJson::array();
  for (const Level& level : levels) runs.push_back(level_json(level));
  const OrderedJson report = {{"runs", runs},
                              {"machine", machine},
                              {"profile", model.profile},
                              {"model",
                               {{"name", model.name},
                                {"family", model.family},
                                {"dtype", model.dtype},
                                {"digest", model.digest},
                                {"num_parameters", model.num_parameters}}},
                              {"settings",
                               {{"prompt_tokens", bench.prompt_tokens},
                                {"output_tokens", bench.output_tokens},
                                {"repetitions", bench.repetitions},
                                {"seed", bench.seed},
                                {"temperature", bench.greedy ? 0 : bench.temperature},
                                {"top_p", bench.greedy ? 1 : bench.top_p}}}};
  return report.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string text_report(const Options& options, const ModelInfo& model, const ServerInfo& server,
                        const std::vector<Level>& levels) {
  const BenchOptions& bench = options.bench;
  std::string text = fmt::format(
      "{}: {}, {} parameters, {}, kernels {}, {}, {} threads\n"
      "{} prompt tokens, {} output tokens, {}, median of {} runs (min to max)\n\n",
      model.name, model.family, format_count(model.num_parameters), model.dtype, model.profile,
      server.device, server.num_threads, bench.prompt_tokens, bench.output_tokens,
      bench.greedy ? std::string("greedy")
                   : fmt::format("temperature {} top-p {}", bench.temperature, bench.top_p),
      bench.repetitions);
  std::vector<std::vector<std::string>> rows{{"streams", "prefill tokens/s", "decode tokens/s",
                                              "(min to max)", "TTFT p50", "p99", "ITL p50", "p99",
                                              "step p50", "engine p50", "rows/step"}};
  for (const Level& level : levels) {
    rows.push_back(
        {std::to_string(level.concurrency), format_rate(level.prefill.median),
         level.decode.median > 0 ? format_rate(level.decode.median) : "-",
         fmt::format("({} to {})", format_rate(level.decode.min), format_rate(level.decode.max)),
         format_milliseconds(quantile(level.ttft_ms, 0.5)),
         format_milliseconds(quantile(level.ttft_ms, 0.99)),
         format_milliseconds(quantile(level.itl_ms, 0.5)),
         format_milliseconds(quantile(level.itl_ms, 0.99)),
         format_milliseconds(level.step_ms_p50.median),
         fmt::format("{:.1f} us", level.engine_us_p50.median),
         fmt::format("{:.1f}", static_cast<double>(level.tokens) /
                                   static_cast<double>(std::max<int64_t>(1, level.steps)))});
  }
  text += table(rows);
  for (const Level& level : levels) {
    if (level.profiles.empty()) continue;
    text += fmt::format("\n{} streams, mean of a step's parts\n", level.concurrency) +
            profile_text(level.profiles);
  }
  return text;
}

int report_failure(const Error& error, int code) {
  print_error(kCommand, error.message);
  return code;
}

}  // namespace

int run_bench_offline(Arguments arguments) {
  Options options;
  Flags flags(
      kCommand, "--model PATH [flags]",
      "Measures a model without a server: every stream starts at once with a prompt of "
      "random token ids. A warm-up run comes first, and its tokens must be the same at "
      "every concurrency. decode counts the tokens of all streams while all of them decode; "
      "engine is the time of a step without model and sampling.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (options.model.empty()) return flags.wrong_use("needs --model PATH; see --help");

  const SignalWatcher watcher([](int) { std::_Exit(kExitFailed); });
  const int32_t most = *std::max_element(options.concurrency.begin(), options.concurrency.end());
  auto source = find_model(options.model);
  if (!source) return flags.wrong_use("--model: " + source.error().message);
  options.runtime.models = {*std::move(source)};
  options.runtime.limits.max_queued_requests =
      std::max(options.runtime.limits.max_queued_requests, most);
  options.runtime.limits.max_request_age = std::chrono::hours(24);
  auto service = load_service(options.runtime, options.quiet);
  if (!service) return report_failure(service.error(), load_exit_code(service.error()));
  ProgressBar bar("", options.quiet);
  std::vector<Level> levels;
  std::vector<int32_t> expected;
  for (const int32_t concurrency : options.concurrency) {
    auto level = measure(**service, options, concurrency, expected, bar);
    bar.clear();
    if (!level) return report_failure(level.error(), exit_code(level.error()));
    levels.push_back(*std::move(level));
  }
  const ModelInfo model = (*service)->models().front();
  const ServerInfo server = (*service)->server_info();
  service->reset();  // its thread ends before another one computes the machine's product
  return write_stdout(options.json ? json_report(options, model, server, levels)
                                   : text_report(options, model, server, levels))
             ? kExitDone
             : kExitFailed;
}

}  // namespace sluice::cli
