#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

// What a fuzz target gives to the driver, or to libFuzzer, whose interface this is.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sluice::fuzz {

// Words of the target's format, put into inputs now and then. One definition a target.
std::span<const std::string_view> dictionary();

inline std::string_view as_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the process if what must always hold does not.
void require(bool holds, std::string_view what);

}  // namespace sluice::fuzz
