#pragma once

#include <span>
#include <string>

namespace sluice::cli {

// The commands. Each takes the words after its name, and returns the process's exit code.
using Arguments = std::span<const std::string>;

int run_import(Arguments arguments);
int run_generate(Arguments arguments);
int run_serve(Arguments arguments);
int run_client(Arguments arguments);
int run_chat(Arguments arguments);
int run_bench_offline(Arguments arguments);
int run_bench_serve(Arguments arguments);
int run_doctor(Arguments arguments);

// Finds the command in the words of the command line ("bench offline" has two) and runs it.
int run(Arguments arguments);

}  // namespace sluice::cli
