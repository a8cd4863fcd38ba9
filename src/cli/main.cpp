#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "server/grpc/grpc_log.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that left is an error of the write, not our end
  sluice::server::route_grpc_log();
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    return sluice::cli::run(arguments);
  } catch (const std::exception& error) {  // memory ran out, or a bug of ours
    sluice::cli::print_error("", std::string("failed: ") + error.what());
    return sluice::cli::kExitFailed;
  }
}
