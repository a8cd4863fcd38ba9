// What a process has in use of its heap, asked from outside: for LD_PRELOAD.
//
// At SIGUSR2 it writes to the file that HEAP_PROBE_FILE names how many bytes malloc has handed
// out and not got back. Resident memory tells less: what leaks fills the heap's holes first.
// Threads: one of its own, so that nothing is asked of malloc in a signal handler.
#include <malloc.h>
#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace {

void answer(const std::string& path, const sigset_t& signals) {
  for (int signal = 0; sigwait(&signals, &signal) == 0;) {
    const struct mallinfo2 heap = mallinfo2();
    const std::string partial = path + ".partial";
    if (std::FILE* file = std::fopen(partial.c_str(), "w")) {
      std::fprintf(file, "%zu\n", heap.uordblks + heap.hblkhd);
      std::fclose(file);
      std::rename(partial.c_str(), path.c_str());
    }
  }
}

// Before main: threads that start later inherit the mask, so that the signal waits for answer().
[[gnu::constructor]] void start() {
  const char* path = std::getenv("HEAP_PROBE_FILE");
  if (path == nullptr) return;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // The thread itself takes no other: those are the program's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  std::thread([path = std::string(path), signals] { answer(path, signals); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace
