#pragma once

#include <array>
#include <cstdint>

namespace sluice::kernels {

// Philox4x32-10: a random function of (key, counter), with no state to carry.
//
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; constants and known
// answers from the authors' Random123.
constexpr std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter,
                                             std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

// The 64 random bits that decide which token stands at `position` of completion
// `completion_index`, whatever was drawn elsewhere.
constexpr uint64_t random_bits(uint64_t seed, uint32_t completion_index, uint32_t position) {
  const auto words = philox4x32({position, completion_index, 0, 0},
                                {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return words[0] | uint64_t{words[1]} << 32;
}

}  // namespace sluice::kernels
