#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cli/address.h"
#include "cli/bench_run.h"
#include "cli/commands.h"
#include "cli/connection_flags.h"
#include "cli/flags.h"
#include "cli/format.h"
#include "cli/parse.h"
#include "cli/statistics.h"
#include "cli/terminal.h"
#include "server/grpc/generation_client.h"

namespace sluice::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;
using server::GenerationClient;
using std::chrono::steady_clock;

constexpr const char* kCommand = "bench serve";

struct Options {
  std::string target = "127.0.0.1:50051";
  ConnectionOptions connection;
  std::string model;
  BenchOptions bench;
  double rate = 0;  // requests per second
  std::chrono::nanoseconds duration = std::chrono::seconds(30);
  std::chrono::nanoseconds ttft_goal = std::chrono::seconds(1);
  std::chrono::nanoseconds itl_goal = std::chrono::milliseconds(100);
  int32_t max_in_flight = 512;
  bool json = false;
  bool quiet = false;
};

// What became of one request.
struct Sample {
  bool succeeded = false;
  bool in_time = false;  // met both goals
  int64_t num_tokens = 0;
  double ttft_ms = 0;
  std::vector<double> itl_ms;
  double total_ms = 0;
};

// All samples. Threads: any.
class Samples {
 public:
  void add(Sample sample, const std::string& error) {
    const std::lock_guard lock(mutex_);
    samples_.push_back(std::move(sample));
    if (first_error_.empty()) first_error_ = error;
  }
  const std::vector<Sample>& all() const { return samples_; }
  const std::string& first_error() const { return first_error_; }

 private:
  std::mutex mutex_;
  std::vector<Sample> samples_;
  std::string first_error_;
};

void add_flags(Flags& flags, Options& options) {
  BenchOptions& bench = options.bench;
  flags.group("Load");
  flags.add_text({"--target", "HOST:PORT", "Where the server listens", ""}, options.target);
  add_connection_flags(flags, options.connection);
  flags.add_text({"--model", "NAME", "Which of the server's models", "its only one"},
                 options.model);
  flags.add_number({"--rate", "R", "Requests per second, arriving at random (Poisson)", "none"},
                   options.rate, 1e-3, 1e6);
  flags.add_duration({"--duration", "TIME", "Requests arrive for this long", ""}, options.duration);
  flags.add_int({"--max-in-flight", "N", "Arrivals beyond it are dropped and counted", ""},
                options.max_in_flight, 1, 10000);
  flags.add_int({"--prompt-tokens", "N", "Random token ids of each prompt", ""},
                bench.prompt_tokens, 1);
  flags.add_int({"--output-tokens", "N", "Tokens each stream generates, past any end token", ""},
                bench.output_tokens, 1);
  add_draw_flags(flags, bench, "Of arrivals, prompts and draws");
  flags.group("Goals (a request within both counts as goodput)");
  flags.add_duration({"--goal-ttft", "TIME", "Time to the first token", ""}, options.ttft_goal);
  flags.add_duration({"--goal-itl", "TIME", "Mean time between tokens", ""}, options.itl_goal);
  flags.group("Output");
  flags.add_switch({"--json", "", "One JSON object", ""}, options.json);
  flags.add_switch({"--quiet", "", "No progress on stderr", ""}, options.quiet);
  flags.example("sluice bench serve --target 127.0.0.1:50051 --rate 20 --duration 10s",
                "20 requests a second for 10 seconds");
}

double to_ms(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// One request from its arrival to its end.
void run_request(GenerationClient& client, const Options& options, const GenerateRequest& request,
                 Samples& samples) {
  const auto start = steady_clock::now();
  std::vector<steady_clock::time_point> times;
  const auto summary = client.generate(request, [&times](const GenerateChunk& chunk) {
    times.insert(times.end(), chunk.token_ids.size(), steady_clock::now());
    return true;
  });
  Sample sample;
  sample.total_ms = to_ms(steady_clock::now() - start);
  sample.num_tokens = std::ssize(times);
  sample.succeeded = summary.has_value() && sample.num_tokens == options.bench.output_tokens;
  if (!times.empty()) {
    BenchRun one{start, {{times, {}}}, {}};
    BenchFigures found = figures(one, options.bench.prompt_tokens);
    sample.ttft_ms = found.ttft_ms.front();
    sample.itl_ms = std::move(found.itl_ms);
    const double mean_itl_ms =
        times.size() > 1 ? to_ms(times.back() - times.front()) / (times.size() - 1.0) : 0;
    sample.in_time = sample.succeeded && sample.ttft_ms <= to_ms(options.ttft_goal) &&
                     mean_itl_ms <= to_ms(options.itl_goal);
  }
  const std::string error = !summary           ? summary.error().message
                            : sample.succeeded ? ""
                                               : "a stream gave too few tokens";
  samples.add(std::move(sample), error);
}

struct Outcome {
  int64_t num_dropped = 0;
  double seconds = 0;  // from the first arrival to the last answer
};

// Open loop: arrivals do not wait for answers. A thread a request that is in flight.
Outcome run_load(GenerationClient& client, const Options& options, int32_t vocabulary_size,
                 Samples& samples) {
  std::mt19937_64 random(options.bench.seed);
  std::exponential_distribution<double> gap(options.rate);
  std::atomic<int32_t> in_flight = 0;
  std::vector<std::jthread> threads;
  Outcome outcome;
  ProgressBar bar("load", options.quiet);
  const auto start = steady_clock::now();
  double arrival_s = gap(random);
  for (uint64_t stream = 0; arrival_s < std::chrono::duration<double>(options.duration).count();
       ++stream, arrival_s += gap(random)) {
    GenerateRequest request = bench_request(options.bench, stream, vocabulary_size);
    request.model = options.model;
    std::this_thread::sleep_until(start + std::chrono::duration_cast<steady_clock::duration>(
                                              std::chrono::duration<double>(arrival_s)));
    bar.update(static_cast<int64_t>(arrival_s * 1000), options.duration.count() / 1000000, false);
    if (in_flight >= options.max_in_flight) {
      ++outcome.num_dropped;
      continue;
    }
    ++in_flight;
    threads.emplace_back([&, request = std::move(request)] {
      run_request(client, options, request, samples);
      --in_flight;
    });
  }
  threads.clear();  // joins
  outcome.seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
  return outcome;
}

std::string report(const Options& options, const Outcome& outcome, const Samples& samples) {
  std::vector<double> ttft_ms, itl_ms, total_ms;
  int64_t num_succeeded = 0, num_in_time = 0, num_tokens = 0;
  for (const Sample& sample : samples.all()) {
    num_tokens += sample.num_tokens;
    num_succeeded += sample.succeeded ? 1 : 0;
    num_in_time += sample.in_time ? 1 : 0;
    if (!sample.succeeded) continue;
    ttft_ms.push_back(sample.ttft_ms);
    total_ms.push_back(sample.total_ms);
    itl_ms.insert(itl_ms.end(), sample.itl_ms.begin(), sample.itl_ms.end());
  }
  const int64_t num_failed = std::ssize(samples.all()) - num_succeeded;
  const double goodput = static_cast<double>(num_in_time) / outcome.seconds;
  // Of what really came: arrivals are random, so their number is not rate times duration.
  const double arrived =
      static_cast<double>(std::ssize(samples.all()) + outcome.num_dropped) / outcome.seconds;
  const double tokens_per_s = static_cast<double>(num_tokens) / outcome.seconds;
  if (options.json) {
    const auto percentiles = [](const std::vector<double>& values) -> OrderedJson {
      return {{"p50", quantile(values, 0.5)},
              {"p90", quantile(values, 0.9)},
              {"p99", quantile(values, 0.99)}};
    };
    const OrderedJson json = {{"rate", options.rate},
                              {"seconds", outcome.seconds},
                              {"arrived_requests_per_s", arrived},
                              {"succeeded", num_succeeded},
                              {"failed", num_failed},
                              {"dropped", outcome.num_dropped},
                              {"goodput_requests_per_s", goodput},
                              {"tokens_per_s", tokens_per_s},
                              {"ttft_ms", percentiles(ttft_ms)},
                              {"itl_ms", percentiles(itl_ms)},
                              {"total_ms", percentiles(total_ms)}};
    return json.dump() + "\n";
  }
  const auto row = [](const char* name, const std::vector<double>& values) {
    return std::vector<std::string>{name, format_milliseconds(quantile(values, 0.5)),
                                    format_milliseconds(quantile(values, 0.9)),
                                    format_milliseconds(quantile(values, 0.99))};
  };
  std::string text = fmt::format(
      "{:.1f} s: {} requests answered, {} failed, {} dropped; {} tokens/s\n"
      "goodput {:.1f} of {:.1f} requests/s (first token within {}, then {} a token)\n\n",
      outcome.seconds, num_succeeded, num_failed, outcome.num_dropped, format_rate(tokens_per_s),
      goodput, arrived, format_duration(options.ttft_goal), format_duration(options.itl_goal));
  return text + table({{"", "p50", "p90", "p99"},
                       row("time to first token", ttft_ms),
                       row("between tokens", itl_ms),
                       row("whole request", total_ms)});
}

Result<int32_t> vocabulary_size(GenerationClient& client, const Options& options) {
  const auto models = client.list_models();
  if (!models) return std::unexpected(models.error());
  for (const ModelInfo& model : *models) {
    if (options.model.empty() ? models->size() == 1 : model.name == options.model) {
      return model.vocabulary_size;
    }
  }
  return fail(ErrorCode::kNotFound, options.model.empty()
                                        ? "the server has several models: needs --model NAME"
                                        : "the server has no model " + quote(options.model));
}

}  // namespace

int run_bench_serve(Arguments arguments) {
  Options options;
  Flags flags(kCommand, "--target HOST:PORT --rate R [flags]",
              "Puts an open-loop load on a server: requests arrive at random times that do not "
              "depend on the answers, so that a slow server shows.");
  add_flags(flags, options);
  if (const auto code = flags.parse(arguments)) return *code;
  if (options.rate <= 0) return flags.wrong_use("needs --rate R; see sluice bench serve --help");
  if (const auto target = parse_host_port(options.target); !target) {
    return flags.wrong_use("--target: " + target.error().message);
  }
  const auto client = make_client(options.target, options.connection);
  if (!client) return flags.wrong_use(client.error().message);
  const Result<int32_t> size = vocabulary_size(**client, options);
  if (!size) {
    print_error(kCommand, size.error().message);
    return exit_code(size.error());
  }
  Samples samples;
  const Outcome outcome = run_load(**client, options, *size, samples);
  if (!write_stdout(report(options, outcome, samples))) return kExitFailed;
  if (samples.first_error().empty()) return kExitDone;
  print_error(kCommand, "requests failed; the first one: " + samples.first_error());
  return kExitFailed;
}

}  // namespace sluice::cli
