#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "server/grpc/generation_client.h"
#include "sluice/error.h"

namespace sluice::cli {

// How a command shows a server who it is; where the server is, is the command's own flag.
struct ConnectionOptions {
  std::string api_key;  // empty: none
  bool tls = false;
  std::string tls_ca;  // paths; empty: none. Any of them turns TLS on
  std::string tls_cert;
  std::string tls_key;
};

void add_connection_flags(Flags& flags, ConnectionOptions& options);

// What the flags say. kInvalidArgument: the value of a flag, which the message names.
Result<server::ClientOptions> client_options(const ConnectionOptions& options);

// Does not connect yet. kInvalidArgument: the value of a flag, which the message names.
Result<std::unique_ptr<server::GenerationClient>> make_client(const std::string& target,
                                                              const ConnectionOptions& options);

}  // namespace sluice::cli
