#pragma once

#include <grpcpp/channel.h>

#include <cstdint>
#include <memory>
#include <string>

#include "server/grpc/generation_client.h"

namespace sluice::server {

// A channel to `target`, which does not connect yet. Channels of different `connection` have
// connections of their own.
std::shared_ptr<grpc::Channel> make_channel(const std::string& target, const ClientOptions& options,
                                            int32_t connection = 0);

// The value of the `authorization` metadata; empty without a key.
std::string bearer(const std::string& api_key);

}  // namespace sluice::server
