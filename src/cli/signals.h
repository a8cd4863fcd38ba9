#pragma once

#include <csignal>
#include <functional>
#include <initializer_list>
#include <thread>

namespace sluice::cli {

// Hands signals to a thread of its own, so that a handler may take locks.
//
// Make it before any other thread: they inherit the blocked signals.
class SignalWatcher {
 public:
  // `on_signal` gets how many signals came so far, from 1.
  explicit SignalWatcher(std::function<void(int)> on_signal,
                         std::initializer_list<int> signals = {SIGINT, SIGTERM});
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  sigset_t set_;
  int signal_fd_;
  int stop_fd_;
  std::thread thread_;
};

}  // namespace sluice::cli
