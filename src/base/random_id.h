#pragma once

#include <cstddef>
#include <string>

namespace sluice {

// Of a request that brings no id of its own.
inline constexpr size_t kRequestIdDigits = 32;

// `num_digits` random hexadecimal digits, of the system's source: for ids that must not meet again.
// Threads: any.
std::string random_id(size_t num_digits);

}  // namespace sluice
