#include "cli/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <utility>

namespace sluice::cli {
SignalWatcher::SignalWatcher(std::function<void(int)> on_signal,
                             std::initializer_list<int> signals) {
  sigemptyset(&set_);
  for (const int signal : signals) sigaddset(&set_, signal);
  ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  signal_fd_ = ::signalfd(-1, &set_, SFD_CLOEXEC);
  stop_fd_ = ::eventfd(0, EFD_CLOEXEC);
  // The thread itself takes no signal, not even one that only a later watcher blocks.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this, on_signal = std::move(on_signal)] {
    std::array<pollfd, 2> fds{{{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}}};
    int count = 0;
    while (true) {
      if (::poll(fds.data(), fds.size(), -1) < 0) continue;
      if (fds[1].revents != 0) return;
      signalfd_siginfo info;
      if (::read(signal_fd_, &info, sizeof(info)) == sizeof(info)) on_signal(++count);
    }
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

SignalWatcher::~SignalWatcher() {
  ::eventfd_write(stop_fd_, 1);
  thread_.join();
  ::close(signal_fd_);
  ::close(stop_fd_);
  ::pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
}

}  // namespace sluice::cli
