#pragma once

#include <chrono>
#include <string>

#include "cli/access_flags.h"
#include "cli/flags.h"
#include "server/grpc/grpc_server.h"
#include "server/http/http_front_end.h"
#include "sluice/runtime.h"

namespace sluice::cli {

// Everything that `sluice serve` can be told, with its defaults.
struct ServeOptions {
  RuntimeOptions runtime;
  server::GrpcServerOptions grpc;                // address "none": no gRPC
  server::HttpFrontEndOptions http;              // address "none": no HTTP
  std::string admin_address = "127.0.0.1:8081";  // "none": no metrics, no health over HTTP
  AccessOptions access;
  std::string served_model_name;
  std::string log_level = "info";
  std::string log_format = "text";
  std::string log_file;  // empty: stderr
  bool insecure = false;
  bool no_reflection = false;
  bool quiet = false;
  std::chrono::nanoseconds lame_duck_time{0};
  std::chrono::nanoseconds drain_time = std::chrono::seconds(30);
};

// What an address flag says to leave its listener out.
inline constexpr const char* kNoAddress = "none";

// The flags of `sluice serve`, in the order of its help.
void add_serve_flags(Flags& flags, ServeOptions& options);

// Why these options do not go together, in one line for the user; empty if they do.
std::string find_serve_conflict(const ServeOptions& options);

}  // namespace sluice::cli
