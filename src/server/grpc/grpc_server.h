#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "server/access/api_keys.h"
#include "server/access/tls_files.h"
#include "sluice/error.h"
#include "sluice/service.h"

namespace sluice::server {

struct GrpcServerOptions {
  std::string address = "127.0.0.1:50051";  // host:port; port 0 takes a free one
  int64_t max_message_bytes = 4 << 20;      // of one received message
  int32_t max_metadata_bytes = 16 << 10;
  int32_t max_concurrent_streams = 1024;             // per connection
  int64_t max_connections = 4096;                    // what comes beyond is closed at once
  std::chrono::milliseconds handshake_time{10'000};  // until a client's first HTTP/2 frames
  // A connection older than this (give or take a tenth) is told to go elsewhere for its next calls;
  // those under way finish. 0: never.
  std::chrono::nanoseconds max_connection_age{0};
  bool reflection = true;
  // Null: everybody may call. Otherwise every method but those that ask for health needs a key.
  std::shared_ptr<const ApiKeys> api_keys = nullptr;
  std::shared_ptr<const TlsFiles> tls = nullptr;  // null: nothing is encrypted
};

// sluice.v1.Generation, inference.GRPCInferenceService (KServe v2), grpc.health.v1 and reflection
// over one Service.
//
// One thread has all streaming calls (call_loop.h), gRPC's own threads the rest. Threads: any.
class GrpcServer {
 public:
  virtual ~GrpcServer() = default;
  // Binds and serves. kUnavailable if the address cannot be bound (busy, not ours, no permission);
  // kInvalidArgument if it is not host:port. `service` must outlive the server.
  static Result<std::unique_ptr<GrpcServer>> start(const GrpcServerOptions& options,
                                                   Service& service);
  virtual int port() const = 0;
  // Turns the health answer to NOT_SERVING, while calls still run.
  virtual void set_not_serving() = 0;
  // Sends clients and load balancers elsewhere: no new connections, GOAWAY on those there are, so
  // that their next calls go to another server. Running calls have until `grace` is over. Does not
  // block; shutdown() waits for the end.
  virtual void begin_shutdown(std::chrono::nanoseconds grace) = 0;
  // Refuses new calls, lets running ones finish until `grace` is over (that of begin_shutdown() if
  // it came first), then cancels them. Blocks.
  virtual void shutdown(std::chrono::nanoseconds grace) = 0;
};

}  // namespace sluice::server
