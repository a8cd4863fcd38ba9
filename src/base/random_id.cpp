#include "base/random_id.h"

#include <cstdint>
#include <random>

namespace sluice {

std::string random_id(size_t num_digits) {
  static thread_local std::random_device device;
  constexpr const char* kDigits = "0123456789abcdef";
  constexpr size_t kDigitsPerDraw = 8;
  std::string id;
  id.reserve(num_digits);
  uint32_t bits = 0;
  while (id.size() < num_digits) {
    bits = id.size() % kDigitsPerDraw == 0 ? device() : bits >> 4;
    id += kDigits[bits & 15];
  }
  return id;
}

}  // namespace sluice
