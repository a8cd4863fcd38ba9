#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

namespace sluice::scheduler {

// Gives requests their turns, so that clients share the engine's work evenly and each client's own
// requests stay in order of arrival.
//
// A turn is a moment of virtual time, which is counted in tokens of work: a request's turn comes
// when its client's work before it is done, but not before the turn of the newest request that has
// started. So a client with many requests has them spread over the time to come, and a client with
// one request has its turn next. Who starts in order of turns serves clients that always have
// something waiting with amounts of work that differ by no more than one request of each.
// One client alone: turns never go down, which is first come, first served.
//
// A completion's length is not known when it arrives: kAssumedTokens of it are charged at most, and
// the difference is settled against the client's later requests when it ends.
// Threads: the engine's.
// Source:  start-time fair queueing, Goyal, Vin and Cheng 1996; in tokens as Sheng et al. 2024,
//          arXiv:2401.00588.
class FairOrder final {
 public:
  static constexpr int64_t kAssumedTokens = 256;
  // Tokens charged for one completion when it arrives.
  static int64_t charge(int64_t prompt_tokens, int64_t max_tokens);

  // The turn of a client's next request, of `completions` sequences that are charged `tokens` in
  // all. Each of them settles once.
  uint64_t next_turn(const std::string& client, int32_t completions, int64_t tokens);
  // A request of this turn has started.
  void started(uint64_t turn);
  // One of the client's sequences has ended, was charged `charged` tokens and took `taken`.
  void settle(const std::string& client, int64_t charged, int64_t taken);
  // Nobody waits or runs: what was is forgotten.
  void clear();

 private:
  struct Share {
    uint64_t last_turn = 0;  // of its newest request
    uint64_t end = 0;        // of its work so far, where its next request would begin
    int64_t num_live = 0;    // sequences that have not settled
  };
  std::unordered_map<std::string, Share> shares_;  // of clients with something live, or owing work
  uint64_t now_ = 0;                               // the latest turn that has started
};

}  // namespace sluice::scheduler
