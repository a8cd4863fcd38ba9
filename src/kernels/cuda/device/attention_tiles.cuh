#pragma once

#include "kernels/cuda/device/attention_rows.cuh"

// Tiles of keys and values on their way from the paged cache to the matrix units.
//
// A block copies a tile's keys and then its values into a ring of places in its memory, kPlaceKeys
// of either at a time, and is kPlaces - 1 places ahead of its products. What is not to be read (D
// rounded up, positions outside of the keys that its rows see) is zero there.
namespace sluice::kernels::cuda {

// A value's scale goes into its key's weight. So that float16 has room for small ones, with this.
inline constexpr float kWeightScale = 64;

// What a kernel is compiled for. C is what the cache holds: T, int8_t or Float8.
template <typename T_, typename C_, int kSize_, bool kWalks_>
struct Tiles {
  using T = T_;
  using C = C_;
  static constexpr int kSize = kSize_;  // D rounded up to 64, 128 or 256
  // A block has many query vectors and walks all of their keys; or one warp has 16 and takes a
  // part.
  static constexpr bool kWalks = kWalks_;
  static constexpr bool kIsBytes = sizeof(C) == 1;  // and has scales
  static constexpr bool kIsLarge = kSize > 128;
  static constexpr int kTileKeys = kIsLarge ? 32 : 64;  // of one step of the online softmax
  static constexpr int kWarps = !kWalks ? 1 : kIsLarge ? 2 : 4;
  static constexpr int kVectors = 16 * kWarps;
  static constexpr int kThreads = kWarpThreads * kWarps;
  static constexpr int kPlaceKeys = kWalks && !kIsLarge ? 32 : 16;
  static constexpr int kPlacesOfTile = 2 * kTileKeys / kPlaceKeys;  // keys', then values'
  static constexpr int kRowBytes = kSize * static_cast<int>(sizeof(C));
  static constexpr int kChunks = kRowBytes / 16;  // that a lane copies
  // So that lanes that read together meet in different banks: of keys a lane reads 16 bytes (of
  // bytes: 8) of row l / 4 from l % 4 on, of values see add_values.
  static constexpr int kKeyStride = kRowBytes + (kIsBytes ? 32 : 64);
  static constexpr int kValueStride = kRowBytes + 16;
  static constexpr int kPlaceBytes = kPlaceKeys * kKeyStride;
  static constexpr int kPlaces = kWalks || kIsLarge ? 4 : kRowBytes > 128 ? 6 : 8;
  // A tile's scales are there before its scores are, and until the next one's come.
  static_assert(kPlaces >= 3 && kPlaces <= kPlacesOfTile);
  static_assert(kChunks <= kWarpThreads);
  // The block's memory: ring | scales of a tile, a warp | with kIsLarge: queries, a warp | with
  // kWalks: merged values, a thread.
  static constexpr int kScaleBytes = kIsBytes ? kTileKeys * static_cast<int>(sizeof(float2)) : 0;
  static constexpr int kScalesAt = kPlaces * kPlaceBytes;
  static constexpr int kQueriesAt = kScalesAt + kWarps * kScaleBytes;
  static constexpr int kMergedAt = kQueriesAt + (kIsLarge ? kThreads * kSize : 0);
  static constexpr int kBlockBytes = kMergedAt + (kWalks ? kThreads * kSize * 2 : 0);
};

// Copies a sequence's keys and values of one KV head, tile after tile.
template <typename Tiles>
class Loader {
  using Scales = typename CacheNumbers<typename Tiles::C>::Scales;

 public:
  // Reads positions [first, last) only.
  __device__ Loader(const AttentionStep& step, int sequence, int kv_head, int first, int last)
      : step_(step),
        table_(step.tables + int64_t{sequence} * step.max_blocks),
        kv_head_(kv_head),
        first_(first),
        last_(last),
        position_(first / Tiles::kTileKeys * Tiles::kTileKeys) {
    look_up();
  }

  // Starts copying place `index` of a tile: those of a tile in order, then those of the next.
  __device__ __forceinline__ void copy(int index, unsigned char* place) {
    if (index == 0) begin_tile();
    if (position_ - Tiles::kTileKeys >= last_) return;
    if constexpr (Tiles::kIsBytes) {
      if (index == Tiles::kPlacesOfTile / 2) store_scales();
    }
    constexpr int kRowsAtOnce = kWarpThreads / Tiles::kChunks;
    constexpr int kRows = Tiles::kPlaceKeys / Tiles::kWarps;
    const bool is_value = index >= Tiles::kPlacesOfTile / 2;
    const int first_key = index % (Tiles::kPlacesOfTile / 2) * Tiles::kPlaceKeys;
    const int row_bytes = step_.head_size * static_cast<int>(sizeof(typename Tiles::C));
    const int chunk = lane() % Tiles::kChunks * 16;
    const int stride = is_value ? Tiles::kValueStride : Tiles::kKeyStride;
    const auto* cache =
        static_cast<const unsigned char*>(step_.cache) + chunk + (is_value ? row_bytes : 0);
    const uint32_t slots = first_key < kWarpThreads ? slots_[0] : slots_[kLaneKeys - 1];
    const int first_row = warp() * kRows + lane() / Tiles::kChunks;
    // A lane's number counts modulo 32 as a tile's first position does, which the compiler does not
    // know: so it does not keep all of these numbers in registers.
    const int first_lane = position_ + first_row;
    unsigned char* to = place + first_row * stride + chunk;
    [[maybe_unused]] constexpr int kUnroll =
        Tiles::kIsLarge ? 1 : kRows;  // else registers run short
#pragma unroll(kUnroll)
    for (int row = 0; row < kRows; row += kRowsAtOnce) {
      const uint32_t slot = warp_shuffle(slots, first_lane + first_key + row);
      const uint32_t from = slot == kNoSlot ? 0 : slot;
      copy_16_bytes(to + row * stride, cache + uint64_t{from} * slot_unit(),
                    slot != kNoSlot && chunk < row_bytes);
    }
  }

  // Scales by key, of the tile whose keys' places have all come: of its keys, and of its values
  // times kWeightScale.
  __device__ static float2* scales() {
    return reinterpret_cast<float2*>(block_memory() + Tiles::kScalesAt +
                                     warp() * Tiles::kScaleBytes);
  }

 private:
  static constexpr int kLaneKeys = Tiles::kTileKeys / kWarpThreads;  // of a tile
  static constexpr uint32_t kNoSlot = 0xffffffffu;

  // A slot's place in the cache counts in slots or, where scales lie between them, in 16 bytes.
  __device__ uint32_t slot_unit() const {
    return Tiles::kIsBytes ? 16u
                           : static_cast<uint32_t>(step_.head_size) * 2 * sizeof(typename Tiles::C);
  }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kWarpThreads; }
  __device__ static int warp() { return static_cast<int>(threadIdx.x) / kWarpThreads; }

  // Asks for the blocks of the tile at position_, a tile before they are needed.
  __device__ void look_up() {
    for (int i = 0; i < kLaneKeys; ++i) {
      const int position = position_ + i * kWarpThreads + lane();
      const bool is_read = position >= first_ && position < last_;
      blocks_[i] = is_read ? table_[position / step_.block_size] : -1;
    }
  }

  __device__ void begin_tile() {
    for (int i = 0; i < kLaneKeys; ++i) {
      const int slot = (position_ + i * kWarpThreads + lane()) % step_.block_size;
      const bool is_read = blocks_[i] >= 0;
      if constexpr (Tiles::kIsBytes) {
        const int64_t head = head_offset<typename Tiles::C>(step_, blocks_[i], kv_head_);
        const int64_t numbers = int64_t{2} * step_.head_size;
        slots_[i] = static_cast<uint32_t>((head + slot * numbers) / 16);
        const auto* scales = static_cast<const unsigned char*>(step_.cache) + head +
                             step_.block_size * numbers + slot * sizeof(Scales);
        scales_[i] = is_read ? *reinterpret_cast<const Scales*>(scales) : Scales{};
      } else {
        const auto head =
            static_cast<uint32_t>(blocks_[i]) * static_cast<uint32_t>(step_.num_kv_heads) +
            static_cast<uint32_t>(kv_head_);
        slots_[i] = head * static_cast<uint32_t>(step_.block_size) + static_cast<uint32_t>(slot);
      }
      if (!is_read) slots_[i] = kNoSlot;
    }
    position_ += Tiles::kTileKeys;
    look_up();
  }

  // Of the tile that begin_tile began.
  __device__ void store_scales() {
    for (int i = 0; i < kLaneKeys; ++i) {
      const float2 values = CacheNumbers<typename Tiles::C>::values(scales_[i]);
      scales()[i * kWarpThreads + lane()] = make_float2(values.x, values.y * kWeightScale);
    }
  }

  const AttentionStep& step_;
  const int32_t* table_;
  int kv_head_;
  int first_;
  int last_;
  int position_;               // of the tile that is copied next
  int blocks_[kLaneKeys];      // its, of positions `lane` and `lane` + 32; -1: not to be read
  uint32_t slots_[kLaneKeys];  // of the same positions in the tile that is copied now
  Scales scales_[kLaneKeys];   // and their scales
};

// Of 32 numbers of a key's row, in the order of layout.h: what warp_multiply takes for the first 16
// (x, y) and for the others (z, w).
template <typename Tiles>
__device__ inline uint4 load_key(const unsigned char* row, int pair) {
  const int quarter = static_cast<int>(threadIdx.x) % 4;
  if constexpr (Tiles::kIsBytes) {
    const uint2 bytes = *reinterpret_cast<const uint2*>(row + pair * 32 + quarter * 8);
    const uint2 first = widen_bytes<typename Tiles::T, typename Tiles::C>(bytes.x);
    const uint2 second = widen_bytes<typename Tiles::T, typename Tiles::C>(bytes.y);
    return make_uint4(first.x, first.y, second.x, second.y);
  } else {
    return *reinterpret_cast<const uint4*>(row + pair * 64 + quarter * 16);
  }
}

// Which numbers of a head a lane's sums sums[n][0] and [2] (`odd` = 0), [1] and [3] are of.
template <typename Tiles>
__device__ inline int value_index(int n, int odd) {
  const int quarter = static_cast<int>(threadIdx.x) % 4;
  // Bytes come four in a register, so neighbouring numbers go to different products.
  if constexpr (Tiles::kIsBytes) return n / 4 * 32 + quarter * 8 + odd * 4 + n % 4;
  return n * 8 + quarter * 2 + odd;
}

// Whether a pair of T has a NaN or an infinity.
template <typename T>
__device__ inline bool is_pair_infinite(uint32_t pair) {
  constexpr uint32_t kExponent = __is_same(T, Half) ? 0x7c00u : 0x7f80u;
  return (pair & kExponent) == kExponent || (pair >> 16 & kExponent) == kExponent;
}

// Whether 16 rows of values have one; asked by a warp.
template <typename Tiles>
__device__ inline bool is_any_infinite(const unsigned char* rows) {
  using T = typename Tiles::T;
  bool is_infinite = false;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x) % kWarpThreads; i < 16 * Tiles::kChunks;
       i += kWarpThreads) {
    const auto numbers = *reinterpret_cast<const uint4*>(
        rows + i / Tiles::kChunks * Tiles::kValueStride + i % Tiles::kChunks * 16);
    is_infinite = is_infinite || is_pair_infinite<T>(numbers.x) || is_pair_infinite<T>(numbers.y) ||
                  is_pair_infinite<T>(numbers.z) || is_pair_infinite<T>(numbers.w);
  }
  return warp_ballot(is_infinite) != 0;
}

// Ones for the numbers of a pair, of keys `key` and the next one, that are in [first, last).
__device__ inline uint32_t pair_mask(int key, int first, int last) {
  return (key >= first && key < last ? 0xffffu : 0u) |
         (key + 1 >= first && key + 1 < last ? 0xffff0000u : 0u);
}

// Values of 16 keys, `rows` being the first's, as warp_multiply's `b`: calls
// use(n, values of 8 keys, of the other 8).
template <typename Tiles, typename Use>
__device__ inline void for_each_value(const unsigned char* rows, Use use) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  if constexpr (Tiles::kIsBytes) {
    const unsigned char* own = rows + lane % 4 * 2 * Tiles::kValueStride + lane / 4 * 4;
    const auto word = [&](int key, int offset) {
      return *reinterpret_cast<const uint32_t*>(own + key * Tiles::kValueStride + offset);
    };
#pragma unroll
    for (int n = 0; n < Tiles::kSize / 8; n += 4) {
      const uint4 first =
          widen_both<typename Tiles::T, typename Tiles::C>(word(0, n * 8), word(1, n * 8));
      const uint4 second =
          widen_both<typename Tiles::T, typename Tiles::C>(word(8, n * 8), word(9, n * 8));
      use(n, make_uint2(first.x, second.x));
      use(n + 1, make_uint2(first.y, second.y));
      use(n + 2, make_uint2(first.z, second.z));
      use(n + 3, make_uint2(first.w, second.w));
    }
  } else {
    const unsigned char* own = rows + lane % 16 * Tiles::kValueStride + lane / 16 * 16;
#pragma unroll
    for (int n = 0; n < Tiles::kSize / 8; n += 2) {
      const uint4 values = warp_load_transposed(own + n * 16);
      use(n, make_uint2(values.x, values.y));
      use(n + 1, make_uint2(values.z, values.w));
    }
  }
}

}  // namespace sluice::kernels::cuda
