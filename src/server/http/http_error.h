#pragma once

#include <string>

#include "server/http/http_server.h"
#include "sluice/error.h"

namespace sluice::server {

// The HTTP status of an error, as google.rpc.Code maps it; kCancelled is 499, the client's own
// closing of the connection.
int http_status(ErrorCode code);

// OpenAI's error object: {"error": {"message", "type", "param", "code"}}. `param` may be empty.
std::string error_json(int status, const std::string& message, const std::string& param = "");

// The answer to a failed request. 429 and 503 carry Retry-After.
HttpResponse error_response(const Error& error, const std::string& param = "");
HttpResponse error_response(int status, const std::string& message, const std::string& param = "");

}  // namespace sluice::server
