#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/load_plan.h"
#include "server/stream_client.h"

namespace sluice::cli {

// What became of one request; times in seconds from the start of the load.
struct LoadSample {
  struct Message {
    float at_s = 0;
    int32_t num_tokens = 0;
  };
  double begin_s = 0;  // when it was due
  double end_s = 0;
  std::vector<Message> messages;  // in order
  int64_t num_tokens = 0;         // as the server counts them
  bool succeeded = false;         // it gave all the tokens that were due
  bool refused = false;           // the server had no room for it: RESOURCE_EXHAUSTED or 429
  std::string error;              // why not
};

struct LoadResult {
  std::vector<LoadSample> samples;  // in the order in which they began
  int64_t num_dropped = 0;
  double seconds = 0;          // from the start to the last answer
  double arrival_seconds = 0;  // of an open loop: how long requests arrived; else 0
};

// Puts the load on `client` and waits for all answers. Open loop: requests begin at their time,
// whatever became of the others, so that a slow server shows. Closed loop: as many as
// `concurrency` are under way until `duration` is over.
LoadResult run_load(server::StreamClient& client, const LoadOptions& options, LoadPlan& plan,
                    bool quiet);

}  // namespace sluice::cli
