#include "warp_units.h"

#include <cstring>
#include <type_traits>

#include "fibers.h"
#include "kernels/float8.h"
#include "numbers.h"

// Fragments of the PTX ISA, "Matrix Fragments for mma.m16n8k16" and "mma.m16n8k32". With group
// g = lane / 4 and place p = lane % 4, register r of a holds row g + 8 (r % 2) and, of the halves
// of K, half r / 2; register r of b holds column g and half r. A register has 4 bytes of
// consecutive numbers of K. A lane's sums are of rows g, g, g + 8, g + 8 and columns 2 p, 2 p + 1,
// 2 p, 2 p + 1.
namespace sluice::kernels::cuda::host {
namespace {

constexpr int kLanes = 32;
constexpr int kRows = 16;
constexpr int kColumns = 8;

// The two operands of a warp, as plain matrices of kDepth numbers of K.
template <typename Number, int kDepth>
struct Operands {
  Number a[kRows][kDepth];
  Number b[kDepth][kColumns];
};

// `Decode` turns number i of a register into a Number. Work is a Multiply or MultiplyBytes.
template <typename Work, int kDepth, typename Number, typename Decode>
void read_fragments(void* const* lanes, Operands<Number, kDepth>& operands, Decode decode) {
  constexpr int kPerRegister = kDepth / 8;
  for (int lane = 0; lane < kLanes; ++lane) {
    const Work& work = *static_cast<const Work*>(lanes[lane]);
    const unsigned a[4] = {work.a.x, work.a.y, work.a.z, work.a.w};
    const unsigned b[2] = {work.b.x, work.b.y};
    const int group = lane / 4;
    for (int i = 0; i < kPerRegister; ++i) {
      const int k = lane % 4 * kPerRegister + i;
      for (int r = 0; r < 4; ++r) {
        operands.a[group + r % 2 * 8][k + r / 2 * (kDepth / 2)] = decode(a[r], i);
      }
      for (int r = 0; r < 2; ++r) {
        operands.b[k + r * (kDepth / 2)][group] = decode(b[r], i);
      }
    }
  }
}

template <typename Work, typename Number>
void add_to_sums(void* const* lanes, const Number (&product)[kRows][kColumns]) {
  for (int lane = 0; lane < kLanes; ++lane) {
    auto* sum = static_cast<const Work*>(lanes[lane])->sum;
    for (int r = 0; r < 4; ++r) {
      const Number add = product[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
      // Rounded once: a float's sum is computed in double.
      sum[r] = static_cast<std::remove_reference_t<decltype(sum[r])>>(sum[r] + add);
    }
  }
}

template <typename Number, int kDepth>
void multiply(const Operands<Number, kDepth>& operands, Number (&product)[kRows][kColumns]) {
  // Eight columns at a time: the compiler makes it as many registers as the machine needs.
  using Columns [[gnu::vector_size(kColumns * sizeof(Number))]] = Number;
  for (int row = 0; row < kRows; ++row) {
    Columns sums{};
    for (int k = 0; k < kDepth; ++k) {
      Columns of_b;
      std::memcpy(&of_b, operands.b[k], sizeof(of_b));
      sums += operands.a[row][k] * of_b;
    }
    std::memcpy(product[row], &sums, sizeof(sums));
  }
}

// Products are exact in double, and kDepth of them are summed in K's order.
template <int kDepth, typename Decode>
void multiply_floats(void* const* lanes, Decode decode) {
  Operands<double, kDepth> operands;
  read_fragments<Multiply>(lanes, operands, decode);
  double product[kRows][kColumns];
  multiply(operands, product);
  add_to_sums<Multiply>(lanes, product);
}

template <typename T>
void multiply_halves(void* const* lanes) {
  multiply_floats<16>(lanes, [](unsigned bits, int i) {
    return static_cast<double>(to_float(T{static_cast<uint16_t>(bits >> 16 * i)}));
  });
}

}  // namespace

void multiply_half(void* const* operands) {
  multiply_halves<Half>(operands);
}

void multiply_bfloat16(void* const* operands) {
  multiply_halves<BFloat16>(operands);
}

void multiply_float8(void* const* lanes) {
  multiply_floats<32>(lanes, [](unsigned bits, int i) {
    return static_cast<double>(from_float8({static_cast<uint8_t>(bits >> 8 * i)}));
  });
}

void multiply_bytes(void* const* lanes) {
  Operands<int32_t, 32> operands;
  read_fragments<MultiplyBytes>(lanes, operands, [](unsigned bits, int i) {
    return static_cast<int32_t>(static_cast<int8_t>(bits >> 8 * i));
  });
  int32_t product[kRows][kColumns];
  multiply(operands, product);
  add_to_sums<MultiplyBytes>(lanes, product);
}

void load_transposed(void* const* lanes) {
  uint16_t matrices[4][8][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const void* row = static_cast<const LoadTransposed*>(lanes[lane])->row;
    expect_block_memory("warp_load_transposed", row);
    std::memcpy(matrices[lane / 8][lane % 8], row, sizeof(matrices[0][0]));
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    unsigned result[4];
    for (int i = 0; i < 4; ++i) {
      const auto number = [&](int j) { return matrices[i][lane % 4 * 2 + j][lane / 4]; };
      result[i] = static_cast<unsigned>(number(1)) << 16 | number(0);
    }
    static_cast<LoadTransposed*>(lanes[lane])->result = {result[0], result[1], result[2],
                                                         result[3]};
  }
}

void ballot(void* const* operands) {
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) {
    bits |= static_cast<uint32_t>(static_cast<const Ballot*>(operands[lane])->value) << lane;
  }
  for (int lane = 0; lane < kLanes; ++lane) static_cast<Ballot*>(operands[lane])->result = bits;
}

}  // namespace sluice::kernels::cuda::host
