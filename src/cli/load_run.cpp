#include "cli/load_run.h"

#include <chrono>
#include <deque>
#include <memory>
#include <thread>
#include <utility>

#include "base/in_flight.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

using base::InFlight;
using std::chrono::steady_clock;

class Recorder final : public server::StreamListener {
 public:
  // `due_s`: when the request is due, from the start; what it waits for this program counts too.
  Recorder(LoadSample& sample, double due_s, int32_t least_tokens, int32_t most_tokens,
           steady_clock::time_point start, InFlight& in_flight)
      : sample_(sample),
        least_tokens_(least_tokens),
        most_tokens_(most_tokens),
        start_(start),
        in_flight_(in_flight) {
    sample_.begin_s = due_s;
    in_flight_.begin();
  }
  void on_tokens(int32_t num_tokens) override {
    sample_.messages.push_back({static_cast<float>(now_s()), num_tokens});
  }
  void on_end(Result<int64_t> completion_tokens) override {
    sample_.end_s = now_s();
    if (!completion_tokens) {
      sample_.refused = completion_tokens.error().code == ErrorCode::kResourceExhausted &&
                        sample_.messages.empty();
      sample_.error = std::move(completion_tokens.error().message);
    } else {
      sample_.num_tokens = *completion_tokens;
      sample_.succeeded = *completion_tokens >= least_tokens_ && *completion_tokens <= most_tokens_;
      if (!sample_.succeeded)
        sample_.error = "a stream gave another number of tokens than it should";
    }
    in_flight_.end();
  }

 private:
  double now_s() const {
    return std::chrono::duration<double>(steady_clock::now() - start_).count();
  }

  LoadSample& sample_;
  const int32_t least_tokens_;
  const int32_t most_tokens_;
  const steady_clock::time_point start_;
  InFlight& in_flight_;
};

}  // namespace

LoadResult run_load(server::StreamClient& client, const LoadOptions& options, LoadPlan& plan,
                    bool quiet) {
  std::deque<LoadSample> samples;  // a sample stays where it is while its stream writes to it
  InFlight in_flight;
  LoadResult result;
  ProgressBar bar("load", quiet);
  const auto start = steady_clock::now();
  const auto end = start + options.duration;
  const bool is_open = options.rate > 0;
  while (true) {
    LoadPlan::Arrival arrival = plan.next();
    const auto at = start + std::chrono::duration_cast<steady_clock::duration>(
                                std::chrono::duration<double>(arrival.at_s));
    if (is_open) {
      if (at >= end) break;
      std::this_thread::sleep_until(at);
      if (in_flight.count() >= options.max_in_flight) {
        ++result.num_dropped;
        continue;
      }
    } else if (!in_flight.wait_below(options.concurrency, end) || steady_clock::now() >= end) {
      break;
    }
    const std::chrono::duration<double> now = steady_clock::now() - start;
    bar.update(static_cast<int64_t>(1e3 * now.count()), options.duration.count() / 1'000'000,
               false);
    client.generate(
        arrival.request,
        std::make_shared<Recorder>(samples.emplace_back(), is_open ? arrival.at_s : now.count(),
                                   options.ends_naturally ? 1 : arrival.output_tokens,
                                   arrival.output_tokens, start, in_flight));
  }
  if (is_open) result.arrival_seconds = std::chrono::duration<double>(options.duration).count();
  in_flight.wait_for_none();
  result.seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
  result.samples.assign(std::make_move_iterator(samples.begin()),
                        std::make_move_iterator(samples.end()));
  return result;
}

}  // namespace sluice::cli
