#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "cli/flags.h"
#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::cli {

// Fields of GenerateRequest::chat, which any of them brings into being. A JSON text is a file or
// the text itself on the command line, and the value in an --input line.
using ChatJson = std::string ChatPrompt::*;
using ChatChoice = std::optional<bool> ChatPrompt::*;
using ChatSwitch = bool ChatPrompt::*;

// Where a field of a request lives in GenerateRequest.
using RequestMember = std::variant<ChatJson, ChatChoice, ChatSwitch,                            //
                                   std::string GenerateRequest::*,                              //
                                   std::optional<std::string> GenerateRequest::*,               //
                                   std::optional<std::vector<int64_t>> GenerateRequest::*,      //
                                   std::vector<int64_t> GenerateRequest::*,                     //
                                   std::vector<std::string> GenerateRequest::*,                 //
                                   std::vector<LogitBias> GenerateRequest::*,                   //
                                   std::optional<int64_t> GenerateRequest::*,                   //
                                   std::optional<uint64_t> GenerateRequest::*,                  //
                                   std::optional<double> GenerateRequest::*,                    //
                                   std::optional<std::chrono::nanoseconds> GenerateRequest::*,  //
                                   bool GenerateRequest::*>;

// One field of a request, under its proto name: the JSON key of an --input line, and with dashes
// the flag of `generate` and `client`. This table is the only place that knows the names.
struct RequestField {
  std::string_view name;         // "max_tokens"
  std::string_view group;        // heading in the help
  std::string_view placeholder;  // "N"
  std::string_view help;
  std::string_view default_text;
  RequestMember member;
};
std::span<const RequestField> request_fields();

// Adds a flag for every field, except for those named in `without`. What is out of range is left
// to the service's validator; only what is not of the field's type is refused here.
void add_request_flags(Flags& flags, GenerateRequest& request,
                       std::span<const std::string_view> without);

// True if the request has messages; flags of a chat alone are defaults for --input lines.
bool has_messages(const GenerateRequest& request);

// Reads one line of an --input file over `defaults` (what the command line said). kInvalidArgument
// names the key: an unknown one (with the nearest known), or a value of the wrong type.
Result<GenerateRequest> request_from_json(std::string_view line, const GenerateRequest& defaults);

}  // namespace sluice::cli
