#include "cli/bench_flags.h"

#include "cli/parse.h"

namespace sluice::cli {

void add_draw_flags(Flags& flags, BenchOptions& bench, const std::string& seed_help) {
  flags.add({"--seed", "S", seed_help, "1"}, [&bench](const std::string& text) -> Result<void> {
    const auto value = parse_uint64(text);
    if (!value) return std::unexpected(value.error());
    bench.seed = *value;
    return {};
  });
  flags.add_switch({"--greedy", "", "Take the likeliest token instead of sampling", ""},
                   bench.greedy);
  flags.add_number({"--temperature", "T", "Of the sampling", ""}, bench.temperature, 0, 1e6);
  flags.add_number({"--top-p", "P", "Of the sampling", ""}, bench.top_p, 1e-6, 1);
}

}  // namespace sluice::cli
