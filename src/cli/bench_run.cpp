#include "cli/bench_run.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <variant>

#include "cli/event_queue.h"

namespace sluice::cli {
namespace {

using std::chrono::steady_clock;

double seconds(steady_clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

std::vector<int64_t> random_prompt(uint64_t seed, uint64_t stream, int32_t num_tokens,
                                   int32_t vocabulary_size) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                         static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  std::mt19937_64 random(sequence);
  std::vector<int64_t> ids(num_tokens);
  // The bias of the remainder is below 2^-44; std::uniform_int_distribution differs by library.
  for (int64_t& id : ids)
    id = static_cast<int64_t>(random() % static_cast<uint64_t>(vocabulary_size));
  return ids;
}

GenerateRequest bench_request(const BenchOptions& options, uint64_t stream,
                              int32_t vocabulary_size) {
  GenerateRequest request;
  request.token_ids = random_prompt(options.seed, stream, options.prompt_tokens, vocabulary_size);
  request.max_tokens = options.output_tokens;
  request.ignore_eos = true;
  request.temperature = options.greedy ? 0 : options.temperature;
  if (!options.greedy) request.top_p = options.top_p;
  request.seed = options.seed + stream;
  return request;
}

Result<BenchRun> run_streams(Service& service, const BenchOptions& options, int32_t concurrency,
                             uint64_t first_stream) {
  const int32_t vocabulary_size = service.models().front().vocabulary_size;
  std::vector<GenerateRequest> requests;
  for (int32_t i = 0; i < concurrency; ++i) {
    requests.push_back(bench_request(options, first_stream + i, vocabulary_size));
  }
  const auto queue = std::make_shared<EventQueue>();
  BenchRun run;
  run.streams.resize(concurrency);
  std::vector<std::shared_ptr<GenerateCall>> calls;
  take_step_statistics(service);
  run.start = steady_clock::now();
  for (int32_t i = 0; i < concurrency; ++i) {
    auto call = service.generate(std::move(requests[i]), std::make_shared<QueueObserver>(queue, i));
    if (!call) return std::unexpected(call.error());
    calls.push_back(*std::move(call));
  }
  for (int32_t num_running = concurrency; num_running > 0;) {
    const std::optional<Event> event = queue->pop();
    if (!event) continue;
    if (const auto* chunk = std::get_if<GenerateChunk>(&event->what)) {
      StreamTimes& stream = run.streams[event->request];
      stream.tokens.insert(stream.tokens.end(), chunk->token_ids.size(), event->at);
      stream.token_ids.insert(stream.token_ids.end(), chunk->token_ids.begin(),
                              chunk->token_ids.end());
      calls[event->request]->delivered(static_cast<int32_t>(chunk->token_ids.size()));
      continue;
    }
    const auto& end = std::get<Result<GenerateSummary>>(event->what);
    if (!end) return std::unexpected(end.error());
    --num_running;
  }
  run.steps = take_step_statistics(service);
  for (const StreamTimes& stream : run.streams) {
    if (std::ssize(stream.token_ids) != options.output_tokens) {
      return fail(ErrorCode::kInternal, "a stream gave " + std::to_string(stream.token_ids.size()) +
                                            " tokens instead of " +
                                            std::to_string(options.output_tokens) +
                                            ": the result is wrong");
    }
  }
  return run;
}

BenchFigures figures(const BenchRun& run, int32_t prompt_tokens) {
  BenchFigures out;
  auto last_first = steady_clock::time_point::min();
  auto first_last = steady_clock::time_point::max();
  for (const StreamTimes& stream : run.streams) {
    const auto& tokens = stream.tokens;
    last_first = std::max(last_first, tokens.front());
    first_last = std::min(first_last, tokens.back());
    out.ttft_ms.push_back(seconds(tokens.front() - run.start) * 1e3);
    // Tokens that came together share the time since the ones before.
    for (size_t i = 1; i < tokens.size();) {
      const auto same = static_cast<size_t>(
          std::upper_bound(tokens.begin() + i, tokens.end(), tokens[i]) - tokens.begin());
      out.itl_ms.insert(out.itl_ms.end(), same - i,
                        seconds(tokens[i] - tokens[i - 1]) * 1e3 / static_cast<double>(same - i));
      i = same;
    }
  }
  const auto num_prompt_tokens =
      static_cast<double>(prompt_tokens) * static_cast<double>(run.streams.size());
  out.prefill_tokens_per_s = num_prompt_tokens / seconds(last_first - run.start);
  if (first_last > last_first) {
    int64_t count = 0;
    for (const StreamTimes& stream : run.streams) {
      count += std::count_if(stream.tokens.begin(), stream.tokens.end(),
                             [&](auto at) { return at > last_first && at <= first_last; });
    }
    out.decode_tokens_per_s = static_cast<double>(count) / seconds(first_last - last_first);
  }
  return out;
}

}  // namespace sluice::cli
