#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::cli {

// Values as a person types them. Every function takes the whole of `text` or fails with
// kInvalidArgument and a message that starts with the quoted text.

// A whole number, decimal, with a sign if need be. No silent clamping: beyond the type is an error.
Result<int64_t> parse_int64(std::string_view text);
Result<uint64_t> parse_uint64(std::string_view text);

// A decimal number; "nan" and "inf" pass, because what is allowed is the validator's to say.
Result<double> parse_double(std::string_view text);

// "true", "false", "1", "0", "yes", "no", "on", "off".
Result<bool> parse_bool(std::string_view text);

// "1,2,3"; an empty text gives an empty list.
Result<std::vector<int64_t>> parse_int64_list(std::string_view text);

// "5=-1.5,7=2": token ids and what is added to their logits.
Result<std::vector<LogitBias>> parse_logit_bias(std::string_view text);

// "30s", "500ms", "10m", "2h"; a bare number is seconds. Not negative.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);

// "512MiB", "2GB", "1048576"; k, M, G, T are powers of 1000, with "i" powers of 1024. Not negative.
Result<int64_t> parse_bytes(std::string_view text);

// The members of `known` with the fewest edits to `word`: the closest one if it is close enough to
// be meant (at most a third of its letters differ), else empty.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

// `text` as a message may show it: quoted, control characters and what is not ASCII escaped,
// cut after 64 characters.
std::string quote(std::string_view text);

}  // namespace sluice::cli
