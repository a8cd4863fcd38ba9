#pragma once

#include "kernels/cuda/device_api.h"

// The kernels among which `linear` chooses (linear.cu). All give the same bits.
namespace sluice::kernels::cuda {

struct Product;
struct Finish;

// Up to so many rows a block of multiply_few_*() takes all of them, and reads the weight once.
inline constexpr int64_t kFewRows = 64;

// Any number of rows. Halves and bfloats: rows of any length, and wide int8 and fp8 weights too;
// bytes: int8 and fp8 weights and int4's codes, rows of x a multiple of 16 bytes.
Status multiply_few_halves(const Product& product, const Finish& to, int num_multiprocessors,
                           Stream stream);
Status multiply_few_bfloats(const Product& product, const Finish& to, int num_multiprocessors,
                            Stream stream);
Status multiply_few_bytes(const Product& product, const Finish& to, int num_multiprocessors,
                          Stream stream);

// Many rows, each a multiple of 16 bytes.
Status multiply_many_halves(const Product& product, const Finish& to, int num_multiprocessors,
                            Stream stream);
Status multiply_many_bfloats(const Product& product, const Finish& to, int num_multiprocessors,
                             Stream stream);
Status multiply_many_bytes(const Product& product, const Finish& to, int num_multiprocessors,
                           Stream stream);

// float32, without a matrix unit.
Status multiply_floats(const Product& product, const Finish& to, Stream stream);

// Rows of x [num_rows, columns] as bytes [num_rows, row_bytes], zeros behind them, and their
// scales: int8 with max|row| / 127, or beside an fp8 weight fp8 with max|row| / 448; NaN for a row
// that is not finite.
Status quantize_rows(const LinearArgs& args, uint8_t* rows, int64_t row_bytes, float* scales,
                     Stream stream);

// int4's codes as the int8 numbers that they stand for, in int8's tiles.
Status expand_codes(const Weight& weight, void* tiles, Stream stream);

}  // namespace sluice::kernels::cuda
