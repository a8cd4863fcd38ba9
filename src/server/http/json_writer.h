#pragma once

#include <string>
#include <string_view>

namespace sluice::server {

// Appends `text` as a JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, so that
// the result is JSON whatever comes.
void append_json_string(std::string_view text, std::string& out);

// Appends the shortest decimal that reads back as `value`; a value that JSON cannot hold (infinite,
// not a number) becomes the largest or smallest double, or null.
void append_json_number(double value, std::string& out);
void append_json_number(float value, std::string& out);

}  // namespace sluice::server
