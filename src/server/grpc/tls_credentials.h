#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "server/access/tls_files.h"

namespace sluice::server {

// Credentials of a listener that asks `files` at every handshake, so that changed files count for
// new connections while the listener and the open ones stay. With a client CA, a client without a
// certificate that it has signed does not get past the handshake.
//
// gRPC's own file watcher would also take a key and a certificate that do not belong together, or
// that have expired; and its C++ interface has no other way to change what is served. So this is
// the C interface's certificate config fetcher under the C++ class.
std::shared_ptr<grpc::ServerCredentials> make_tls_credentials(
    std::shared_ptr<const TlsFiles> files);

}  // namespace sluice::server
