#include "server/http/http_error.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "server/http/json_writer.h"

namespace sluice::server {
namespace {

constexpr const char* kRetryAfterSeconds = "1";

const char* error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

}  // namespace

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kCancelled:
      return 499;
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kFailedPrecondition:
      return 400;
    case ErrorCode::kDeadlineExceeded:
      return 504;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kAlreadyExists:
      return 409;
    case ErrorCode::kPermissionDenied:
      return 403;
    case ErrorCode::kResourceExhausted:
      return 429;
    case ErrorCode::kUnimplemented:
      return 501;
    case ErrorCode::kUnavailable:
      return 503;
    case ErrorCode::kUnauthenticated:
      return 401;
    case ErrorCode::kInternal:
    case ErrorCode::kDataLoss:
      return 500;
  }
  return 500;
}

std::string error_json(int status, const std::string& message, const std::string& param) {
  std::string json = R"({"error":{"message":)";
  append_json_string(message, json);
  json += R"(,"type":")";
  json += error_type(status);
  json += R"(","param":)";
  if (param.empty()) {
    json += "null";
  } else {
    append_json_string(param, json);
  }
  json += R"(,"code":)" + std::to_string(status) + "}}";
  return json;
}

HttpResponse error_response(int status, const std::string& message, const std::string& param) {
  HttpResponse response;
  response.status = status;
  response.body = error_json(status, message, param);
  if (status == 429 || status == 503) {
    response.headers.push_back({"Retry-After", kRetryAfterSeconds});
  }
  if (status == 401) response.headers.push_back({"WWW-Authenticate", "Bearer"});
  return response;
}

HttpResponse error_response(const Error& error, const std::string& param) {
  HttpResponse response = error_response(http_status(error.code), error.message, param);
  if (error.retry_after) {
    const auto seconds = std::chrono::ceil<std::chrono::seconds>(*error.retry_after).count();
    for (auto& [name, value] : response.headers) {
      if (name == "Retry-After") value = std::to_string(std::max<int64_t>(1, seconds));
    }
  }
  return response;
}

}  // namespace sluice::server
