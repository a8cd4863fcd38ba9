#include "cli/load_report.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/format.h"
#include "cli/statistics.h"

namespace sluice::cli {
namespace {

using OrderedJson = nlohmann::ordered_json;

double to_ms(std::chrono::nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

// Mean time between the tokens that came after the first message, in milliseconds; 0 if none did.
double mean_token_ms(const LoadSample& sample) {
  const auto& messages = sample.messages;
  int64_t num_tokens = 0;
  for (size_t i = 1; i < messages.size(); ++i) num_tokens += messages[i].num_tokens;
  if (num_tokens == 0) return 0;
  return 1e3 * (messages.back().at_s - messages.front().at_s) / static_cast<double>(num_tokens);
}

}  // namespace

LoadFigures load_figures(const LoadResult& result, const LoadGoals& goals) {
  LoadFigures figures;
  figures.num_dropped = result.num_dropped;
  figures.seconds = result.seconds;
  int64_t num_tokens = 0;
  int64_t num_in_time = 0;
  for (const LoadSample& sample : result.samples) {
    num_tokens += sample.num_tokens;
    if (!sample.succeeded) {
      ++figures.num_failed;
      if (sample.refused) {
        ++figures.num_refused;
        figures.refusal_ms.push_back(1e3 * (sample.end_s - sample.begin_s));
      }
      if (figures.first_error.empty()) figures.first_error = sample.error;
      continue;
    }
    ++figures.num_succeeded;
    if (sample.messages.empty()) continue;  // only its end token, which is no output
    const double ttft_ms = 1e3 * (sample.messages.front().at_s - sample.begin_s);
    const double token_ms = mean_token_ms(sample);
    figures.ttft_ms.push_back(ttft_ms);
    figures.token_ms.push_back(token_ms);
    figures.total_ms.push_back(1e3 * (sample.end_s - sample.begin_s));
    for (size_t i = 1; i < sample.messages.size(); ++i) {
      figures.gap_ms.push_back(1e3 * (sample.messages[i].at_s - sample.messages[i - 1].at_s));
    }
    if (ttft_ms <= to_ms(goals.ttft) && token_ms <= to_ms(goals.itl)) ++num_in_time;
  }
  const auto arrived = std::ssize(result.samples) + result.num_dropped;
  // The time until the last answer is no time in which requests came.
  const double arriving = result.arrival_seconds > 0 ? result.arrival_seconds : result.seconds;
  figures.arrived_per_s = static_cast<double>(arrived) / arriving;
  figures.goodput_per_s = static_cast<double>(num_in_time) / arriving;
  figures.tokens_per_s = static_cast<double>(num_tokens) / result.seconds;
  return figures;
}

std::string load_text(const LoadFigures& figures, const LoadGoals& goals) {
  const auto row = [](const char* name, const std::vector<double>& values) {
    return std::vector<std::string>{name, format_milliseconds(quantile(values, 0.5)),
                                    format_milliseconds(quantile(values, 0.9)),
                                    format_milliseconds(quantile(values, 0.99))};
  };
  std::vector<std::vector<std::string>> rows = {{"", "p50", "p90", "p99"},
                                                row("time to first token", figures.ttft_ms),
                                                row("between messages", figures.gap_ms),
                                                row("a token, mean of a request", figures.token_ms),
                                                row("whole request", figures.total_ms)};
  if (figures.num_refused > 0) rows.push_back(row("until refused", figures.refusal_ms));
  return fmt::format(
             "{:.1f} s: {} requests answered, {} failed ({} refused), {} dropped; {} tokens/s\n"
             "goodput {:.1f} of {:.1f} requests/s (first token within {}, then {} a token)\n\n",
             figures.seconds, figures.num_succeeded, figures.num_failed, figures.num_refused,
             figures.num_dropped, format_rate(figures.tokens_per_s), figures.goodput_per_s,
             figures.arrived_per_s, format_duration(goals.ttft), format_duration(goals.itl)) +
         table(rows);
}

std::string load_json(const LoadFigures& figures, const LoadOptions& options) {
  const auto percentiles = [](const std::vector<double>& values) -> OrderedJson {
    return {{"p50", quantile(values, 0.5)},
            {"p90", quantile(values, 0.9)},
            {"p99", quantile(values, 0.99)}};
  };
  const OrderedJson json = {{"rate", options.rate},
                            {"burst", options.burst},
                            {"concurrency", options.concurrency},
                            {"seconds", figures.seconds},
                            {"arrived_requests_per_s", figures.arrived_per_s},
                            {"succeeded", figures.num_succeeded},
                            {"failed", figures.num_failed},
                            {"refused", figures.num_refused},
                            {"dropped", figures.num_dropped},
                            {"goodput_requests_per_s", figures.goodput_per_s},
                            {"tokens_per_s", figures.tokens_per_s},
                            {"ttft_ms", percentiles(figures.ttft_ms)},
                            {"itl_ms", percentiles(figures.gap_ms)},
                            {"token_ms", percentiles(figures.token_ms)},
                            {"total_ms", percentiles(figures.total_ms)},
                            {"refusal_ms", percentiles(figures.refusal_ms)}};
  return json.dump() + "\n";
}

}  // namespace sluice::cli
