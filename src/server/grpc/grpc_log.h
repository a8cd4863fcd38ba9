#pragma once

namespace sluice::server {

// gRPC writes to stderr what it thinks of its peers, such as every handshake that fails, in a form
// of its own. From now on it is a line of the log, at level debug: who asks for that sees it. A
// failed assertion of gRPC's, which ends the process, goes to stderr as before.
//
// Threads: one, before gRPC is used.
void route_grpc_log();

}  // namespace sluice::server
