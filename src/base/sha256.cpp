#include "base/sha256.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace sluice {
namespace {

alignas(16) constexpr std::array<uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

// Lanes of a way at most.
constexpr size_t kMostLanes = 8;

uint32_t load_big_endian(const std::byte* data) {
  uint32_t word = 0;
  std::memcpy(&word, data, sizeof(word));
  return __builtin_bswap32(word);
}

void compress_portable(uint32_t* state, const std::byte* data, size_t blocks) {
  for (size_t block = 0; block < blocks; ++block, data += 64) {
    std::array<uint32_t, 64> w;
    for (size_t i = 0; i < 16; ++i) w[i] = load_big_endian(data + 4 * i);
    for (size_t i = 16; i < 64; ++i) {
      const uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
      const uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = std::to_array(
        {state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7]});
    for (size_t i = 0; i < 64; ++i) {
      const uint32_t s1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
      const uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
      const uint32_t s0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
      const uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    const std::array<uint32_t, 8> after = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < 8; ++i) state[i] += after[i];
  }
}

#if defined(__x86_64__)
// The instructions want the state as (A B E F) and (C D G H).
struct ShaState {
  __m128i abef;
  __m128i cdgh;
};

__attribute__((target("sha,sse4.1,ssse3"), always_inline)) inline ShaState load_state(
    const uint32_t* state) {
  const __m128i abcd = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state));
  const __m128i efgh = _mm_loadu_si128(reinterpret_cast<const __m128i*>(state + 4));
  const __m128i cdab = _mm_shuffle_epi32(abcd, 0xB1);
  const __m128i hgfe = _mm_shuffle_epi32(efgh, 0x1B);
  return {_mm_alignr_epi8(cdab, hgfe, 8), _mm_blend_epi16(hgfe, cdab, 0xF0)};
}

__attribute__((target("sha,sse4.1,ssse3"), always_inline)) inline void store_state(
    const ShaState& from, uint32_t* state) {
  const __m128i feba = _mm_shuffle_epi32(from.abef, 0x1B);
  const __m128i dchg = _mm_shuffle_epi32(from.cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

// One block of each of N texts, four rounds an iteration; a message schedule lives in four
// registers of four words.
template <size_t N>
__attribute__((target("sha,sse4.1,ssse3"), always_inline)) inline void compress_block(
    ShaState* states, const std::byte* const* data) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  ShaState before[N];
  __m128i words[N][4];
  for (size_t n = 0; n < N; ++n) {
    before[n] = states[n];
    for (int i = 0; i < 4; ++i) {
      words[n][i] = _mm_shuffle_epi8(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(data[n] + 16 * i)), swap);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    const __m128i round = _mm_load_si128(reinterpret_cast<const __m128i*>(kRound.data() + 4 * i));
#pragma GCC unroll 2
    for (size_t n = 0; n < N; ++n) {
      ShaState& state = states[n];
      const __m128i current = words[n][i & 3];
      const __m128i sum = _mm_add_epi32(current, round);
      state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, sum);
      state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, _mm_shuffle_epi32(sum, 0x0E));
      if (i < 12) {  // words of round 16 + 4 i: from the ones 16, 15, 7 and 2 rounds before
        const __m128i shifted = _mm_alignr_epi8(words[n][(i + 3) & 3], words[n][(i + 2) & 3], 4);
        __m128i next = _mm_sha256msg1_epu32(current, words[n][(i + 1) & 3]);
        next = _mm_add_epi32(next, shifted);
        words[n][i & 3] = _mm_sha256msg2_epu32(next, words[n][(i + 3) & 3]);
      }
    }
  }
  for (size_t n = 0; n < N; ++n) {
    states[n].abef = _mm_add_epi32(states[n].abef, before[n].abef);
    states[n].cdgh = _mm_add_epi32(states[n].cdgh, before[n].cdgh);
  }
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress_sha_ni(uint32_t* state,
                                                                 const std::byte* data,
                                                                 size_t blocks) {
  ShaState loaded = load_state(state);
  for (size_t block = 0; block < blocks; ++block, data += 64) {
    compress_block<1>(&loaded, &data);
  }
  store_state(loaded, state);
}

__attribute__((target("sha,sse4.1,ssse3"))) void compress_pair_sha_ni(uint32_t* const* states,
                                                                      const std::byte* const* data,
                                                                      size_t blocks) {
  ShaState loaded[2] = {load_state(states[0]), load_state(states[1])};
  const std::byte* at[2] = {data[0], data[1]};
  for (size_t block = 0; block < blocks; ++block) {
    compress_block<2>(loaded, at);
    at[0] += 64;
    at[1] += 64;
  }
  store_state(loaded[0], states[0]);
  store_state(loaded[1], states[1]);
}

// A word of each of eight texts.
using Words = uint32_t __attribute__((vector_size(32)));
constexpr size_t kVectorLanes = 8;
static_assert(kVectorLanes <= kMostLanes);

__attribute__((target("avx2"), always_inline)) inline Words rotated(Words x, int bits) {
  return x >> bits | x << (32 - bits);
}

// words[i] = word i, of eight, of what lies `offset` bytes behind each of `data`.
__attribute__((target("avx2"), always_inline)) inline void load_words(const std::byte* const* data,
                                                                      size_t offset, Words* words) {
  const __m256i swap =
      _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL));
  __m256i row[8], pair[8];
  for (int i = 0; i < 8; ++i) {
    row[i] = _mm256_shuffle_epi8(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data[i] + offset)), swap);
  }
  for (int i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
    pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    row[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
    row[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
    row[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
    row[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    words[i] = reinterpret_cast<Words>(_mm256_permute2x128_si256(row[i], row[i + 4], 0x20));
    words[i + 4] = reinterpret_cast<Words>(_mm256_permute2x128_si256(row[i], row[i + 4], 0x31));
  }
}

// Sixteen rounds of the portable code, which stays apart as what the tests compare with. The
// message schedule is a ring of sixteen words, which the first rounds take as they are.
template <bool kIsFirst>
__attribute__((target("avx2"), always_inline)) inline void sixteen_rounds(const uint32_t* rounds,
                                                                          Words* w, Words* state) {
  auto [a, b, c, d] = std::to_array({state[0], state[1], state[2], state[3]});
  auto [e, f, g, h] = std::to_array({state[4], state[5], state[6], state[7]});
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) {
    if constexpr (!kIsFirst) {
      const Words x = w[(i + 1) & 15];   // 15 rounds before
      const Words y = w[(i + 14) & 15];  // 2 rounds before
      w[i] += (rotated(x, 7) ^ rotated(x, 18) ^ (x >> 3)) + w[(i + 9) & 15] +
              (rotated(y, 17) ^ rotated(y, 19) ^ (y >> 10));
    }
    const Words s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
    const Words t1 = h + s1 + (g ^ (e & (f ^ g))) + (w[i] + rounds[i]);
    const Words s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
    const Words t2 = s0 + ((a & b) | (c & (a | b)));
    h = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  const auto after = std::to_array({a, b, c, d, e, f, g, h});
  std::copy(after.begin(), after.end(), state);
}

__attribute__((target("avx2"), always_inline)) inline void compress_vectors(
    uint32_t* const* states, const std::byte* const* data, size_t blocks) {
  Words state[8];
  const std::byte* at[kVectorLanes];
  for (size_t lane = 0; lane < kVectorLanes; ++lane) {
    at[lane] = data[lane];
    for (size_t i = 0; i < 8; ++i) state[i][lane] = states[lane][i];
  }
  for (size_t block = 0; block < blocks; ++block) {
    Words w[16];
    load_words(at, 0, w);
    load_words(at, 32, w + 8);
    for (const std::byte*& lane : at) lane += 64;
    Words after[8];
    std::copy(std::begin(state), std::end(state), after);
    sixteen_rounds<true>(kRound.data(), w, after);
    for (size_t i = 16; i < 64; i += 16) sixteen_rounds<false>(kRound.data() + i, w, after);
    for (size_t i = 0; i < 8; ++i) state[i] += after[i];
  }
  for (size_t lane = 0; lane < kVectorLanes; ++lane) {
    for (size_t i = 0; i < 8; ++i) states[lane][i] = state[i][lane];
  }
}

__attribute__((target("avx2"))) void compress_avx2(uint32_t* const* states,
                                                   const std::byte* const* data, size_t blocks) {
  compress_vectors(states, data, blocks);
}

// Rotates in one instruction, and joins three words in one.
__attribute__((target("avx2,avx512f,avx512vl"))) void compress_avx512(uint32_t* const* states,
                                                                      const std::byte* const* data,
                                                                      size_t blocks) {
  compress_vectors(states, data, blocks);
}

bool has_sha_ni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (ebx & (1U << 29)) != 0 && __builtin_cpu_supports("sse4.1");
}
#endif

void compress_portable_lane(uint32_t* const* states, const std::byte* const* data, size_t blocks) {
  compress_portable(states[0], data[0], blocks);
}

std::vector<detail::Sha256Way> find_ways() {
  std::vector<detail::Sha256Way> ways;
#if defined(__x86_64__)
  if (has_sha_ni()) ways.push_back({"sha-ni", 2, compress_pair_sha_ni});
  if (__builtin_cpu_supports("avx2")) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) {
      ways.push_back({"avx512", kVectorLanes, compress_avx512});
    }
    ways.push_back({"avx2", kVectorLanes, compress_avx2});
  }
#endif
  ways.push_back({"portable", 1, compress_portable_lane});
  return ways;
}

const detail::Sha256Way& best_way() {
  return detail::sha256_ways().front();
}

// One text.
void compress(uint32_t* state, const std::byte* data, size_t blocks) {
#if defined(__x86_64__)
  static const bool is_native = has_sha_ni();
  if (is_native) return compress_sha_ni(state, data, blocks);
#endif
  compress_portable(state, data, blocks);
}

// Texts that are compressed together, and the lanes that are left over.
struct Lanes {
  static constexpr size_t kMost = kMostLanes;
  size_t count = 0;
  size_t text[kMost];  // which one a lane has
  uint32_t* state[kMost];
  const std::byte* data[kMost];
  size_t blocks = SIZE_MAX;

  void add(size_t index, uint32_t* its_state, std::span<const std::byte> left) {
    text[count] = index;
    state[count] = its_state;
    data[count] = left.data();
    blocks = std::min(blocks, left.size() / 64);
    ++count;
  }

  // The blocks that all of them have. Returns their number.
  size_t compress(const detail::Sha256Way& way) {
    std::array<uint32_t, 8> nobodys{};
    for (size_t lane = count; lane < way.lanes; ++lane) {
      state[lane] = nobodys.data();
      data[lane] = data[0];
    }
    way.compress(state, data, blocks);
    return blocks;
  }
};

}  // namespace

namespace detail {

std::span<const Sha256Way> sha256_ways() {
  static const std::vector<Sha256Way> ways = find_ways();
  return ways;
}

}  // namespace detail

Sha256::Sha256()
    : state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {}

void Sha256::update(std::span<const std::byte> bytes) {
  num_bytes_ += bytes.size();
  if (tail_size_ > 0) {
    const size_t taken = std::min(bytes.size(), tail_.size() - tail_size_);
    std::copy_n(bytes.data(), taken, tail_.data() + tail_size_);
    tail_size_ += taken;
    bytes = bytes.subspan(taken);
    if (tail_size_ < tail_.size()) return;
    compress(state_.data(), tail_.data(), 1);
    tail_size_ = 0;
  }
  const size_t blocks = bytes.size() / 64;
  if (blocks > 0) compress(state_.data(), bytes.data(), blocks);
  bytes = bytes.subspan(blocks * 64);
  std::copy(bytes.begin(), bytes.end(), tail_.begin());
  tail_size_ = bytes.size();
}

std::string Sha256::finish() {
  const uint64_t num_bits = num_bytes_ * 8;
  std::array<std::byte, 72> padding{std::byte{0x80}};
  const size_t zeros = (tail_size_ < 56 ? 56 : 120) - tail_size_;  // up to the 8 length bytes
  for (size_t i = 0; i < 8; ++i) {
    padding[zeros + i] = static_cast<std::byte>(num_bits >> (56 - 8 * i));
  }
  update(std::span(padding).first(zeros + 8));

  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) hex += kDigits[(word >> shift) & 15];
  }
  return hex;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.finish();
}

std::vector<std::string> sha256_hex_each(std::span<const std::span<const std::byte>> texts) {
  return detail::sha256_hex_each(best_way(), texts);
}

std::vector<std::string> detail::sha256_hex_each(
    const Sha256Way& way, std::span<const std::span<const std::byte>> texts) {
  std::vector<Sha256> hashes(texts.size());
  std::vector<std::span<const std::byte>> left(texts.begin(), texts.end());
  for (size_t first = 0; first < texts.size(); first += way.lanes) {
    const size_t end = std::min(first + way.lanes, texts.size());
    for (;;) {
      Lanes lanes;
      for (size_t i = first; i < end; ++i) {
        if (left[i].size() >= 64) lanes.add(i, hashes[i].state_.data(), left[i]);
      }
      if (lanes.count < 2) break;
      const size_t blocks = lanes.compress(way);
      for (size_t lane = 0; lane < lanes.count; ++lane) {
        const size_t i = lanes.text[lane];
        hashes[i].num_bytes_ += blocks * 64;
        left[i] = left[i].subspan(blocks * 64);
      }
    }
  }
  std::vector<std::string> digests;
  for (size_t i = 0; i < texts.size(); ++i) {
    hashes[i].update(left[i]);
    digests.push_back(hashes[i].finish());
  }
  return digests;
}

size_t sha256_lanes() {
  return best_way().lanes;
}

std::string sha256_hex(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text)));
}

}  // namespace sluice
