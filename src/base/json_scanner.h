#pragma once

#include <string_view>

#include "base/json.h"
#include "sluice/error.h"

namespace sluice {

// What scan_json finds, in the order of the text. An error of any call ends the scan.
//
// Strings live until the call returns. Keys may come twice: whoever keeps them sees it at once.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  virtual Result<void> begin(char bracket) = 0;  // '{' or '['
  virtual Result<void> end() = 0;                // of the last one begun
  virtual Result<void> key(std::string_view name) = 0;
  virtual Result<void> text(std::string_view value) = 0;
  virtual Result<void> scalar(Json value) = 0;  // null, true, false or a number
};

// Reads JSON (RFC 8259, UTF-8) without building it: linear time, memory for one string.
// kInvalidArgument with the offset of the first wrong byte, and for nesting above `max_depth`.
Result<void> scan_json(std::string_view text, int max_depth, JsonHandler* handler);

// Builds what it is handed.
class JsonBuilder final : public JsonHandler {
 public:
  Result<void> begin(char bracket) override;
  Result<void> end() override;
  Result<void> key(std::string_view name) override;  // kInvalidArgument if it is there already
  Result<void> text(std::string_view value) override;
  Result<void> scalar(Json value) override;

  Json take() { return std::move(result_); }

 private:
  Json* place(Json value);

  Json result_;
  std::vector<Json*> open_;  // arrays and objects not ended yet
  Json* value_ = nullptr;    // of the last key
};

// The error for a key that an object has twice.
Error duplicate_key();

}  // namespace sluice
