#pragma once

#include <string>
#include <string_view>

namespace sluice::server {

// The name of a field at the start of a validator's message: "top_p is 7, ..." has "top_p",
// "token_ids[3] is -1, ..." has "token_ids".
std::string_view leading_name(std::string_view message);

// A client's own word as an answer may repeat it: at most 64 bytes, cut between characters, control
// characters as '?'. Requires: UTF-8.
std::string echoed_name(std::string_view name);

}  // namespace sluice::server
