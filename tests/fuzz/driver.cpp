// Runs a fuzz target for a while:
//
//   fuzz_NAME [--seconds N] [--seed N] [--save FOLDER] SEED_FILE_OR_FOLDER...
//
// First every seed, then seeds changed at random until N seconds of wall time are over (0: seeds
// only; of others the environment's SLUICE_FUZZ_SECONDS goes before). Inputs have at most 64 KiB.
// An input that crashes, hangs, or takes more than a second of CPU time ends the run with 1 and is
// written to fuzz-NAME-failure in the working directory; run the target on that file to see it
// again. In a build with -DSLUICE_FUZZ_COVERAGE=ON inputs that reach new code join the seeds, and
// --save keeps them.
#include "tests/fuzz/driver.h"

#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/fuzz/mutator.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace {

constexpr size_t kMaxBytes = 64 * 1024;
constexpr double kMaxSeconds = 1;
constexpr int kHangSeconds = 30;

// Which code ran, as far as the build tells: one byte a pair of places in a row.
std::array<uint8_t, 1 << 16> covered_now;
uintptr_t previous_place = 0;

std::string failure_name;
std::string current_input;

void write_failure() {
  std::FILE* file = std::fopen(failure_name.c_str(), "wb");
  if (file == nullptr) return;
  std::fwrite(current_input.data(), 1, current_input.size(), file);
  std::fclose(file);
  std::fprintf(stderr, "the input is in %s\n", failure_name.c_str());
}

extern "C" void end_by_signal(int signal_number) {
  std::fprintf(stderr, signal_number == SIGALRM ? "an input hangs\n" : "an input aborts\n");
  write_failure();
  _exit(1);
}

void watch_for_failures() {
  signal(SIGALRM, end_by_signal);
  signal(SIGABRT, end_by_signal);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_set_death_callback(write_failure);
#else
  signal(SIGSEGV, end_by_signal);
#endif
}

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void run_one(const std::string& input) {
  current_input = input;
  // A copy of the exact size, so that the sanitizer sees a read behind its end.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  alarm(kHangSeconds);
  covered_now.fill(0);
  previous_place = 0;
  const double begin = cpu_seconds();
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  const double seconds = cpu_seconds() - begin;
  alarm(0);
  if (seconds > kMaxSeconds) {
    std::fprintf(stderr, "an input of %zu bytes takes %.1f s\n", input.size(), seconds);
    write_failure();
    std::exit(1);
  }
}

// True if the last run reached code, or reached it so often, as none before.
bool is_new_coverage() {
  static std::array<uint8_t, 1 << 16> seen;
  bool is_new = false;
  for (size_t i = 0; i < covered_now.size(); ++i) {
    const unsigned count = covered_now[i];
    if (count == 0) continue;
    const int bucket =
        std::min(7, count < 4 ? static_cast<int>(count) - 1 : 33 - __builtin_clz(count));
    const auto bit = static_cast<uint8_t>(1 << bucket);
    if ((seen[i] & bit) != 0) continue;
    seen[i] |= bit;
    is_new = true;
  }
  return is_new;
}

std::string read_whole(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Options {
  double seconds = 0;
  uint64_t seed = 1;
  std::filesystem::path save;
  std::vector<std::filesystem::path> seeds;
};

Options read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool has_value = i + 1 < argc;
    if (argument == "--seconds" && has_value) {
      options.seconds = std::atof(argv[++i]);
    } else if (argument == "--seed" && has_value) {
      options.seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--save" && has_value) {
      options.save = argv[++i];
    } else if (std::filesystem::is_directory(argument)) {
      for (const auto& item : std::filesystem::directory_iterator(argument)) {
        if (item.is_regular_file()) options.seeds.push_back(item.path());
      }
    } else {
      options.seeds.emplace_back(argument);
    }
  }
  const char* const seconds = std::getenv("SLUICE_FUZZ_SECONDS");
  if (seconds != nullptr && options.seconds > 0) {
    options.seconds = std::atof(seconds);
  }
  // The order of a folder differs between machines.
  std::ranges::sort(options.seeds);
  return options;
}

void keep(const Options& options, const std::string& input) {
  if (options.save.empty()) return;
  const auto name = "input-" + std::to_string(std::hash<std::string>()(input));
  std::ofstream(options.save / name, std::ios::binary) << input;
}

}  // namespace

extern "C" __attribute__((no_sanitize("address", "undefined"))) void __sanitizer_cov_trace_pc() {
  const auto place = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  uint8_t& count = covered_now[(place ^ (previous_place >> 1)) % covered_now.size()];
  if (count < 255) ++count;
  previous_place = place;
}

namespace sluice::fuzz {

void require(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

}  // namespace sluice::fuzz

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  const Options options = read_options(argc, argv);
  failure_name = std::filesystem::path(argv[0]).filename().string() + "-failure";
  watch_for_failures();
  std::vector<std::string> corpus;
  for (const auto& path : options.seeds) {
    std::string input = read_whole(path);
    if (input.size() > kMaxBytes) continue;
    run_one(input);
    is_new_coverage();
    corpus.push_back(std::move(input));
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "no seed of at most %zu bytes\n", kMaxBytes);
    return 2;
  }
  const size_t num_seeds = corpus.size();
  size_t num_runs = 0;
  sluice::fuzz::Mutator mutator(options.seed, sluice::fuzz::dictionary(), kMaxBytes);
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                      std::chrono::duration<double>(options.seconds));
  while (Clock::now() < end) {
    const std::string input = mutator.make(corpus);
    run_one(input);
    ++num_runs;
    if (!is_new_coverage()) continue;
    keep(options, input);
    corpus.push_back(input);
  }
  std::printf("%zu seeds, %zu changed inputs (seed %llu), %zu of them reached new code\n",
              num_seeds, num_runs, static_cast<unsigned long long>(options.seed),
              corpus.size() - num_seeds);
  return 0;
}
