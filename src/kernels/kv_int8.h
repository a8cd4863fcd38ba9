#pragma once

// How an int8 KV cache rounds. No includes: the instruction sets' files read it too.
namespace sluice::kernels {

// scale = max |x| * kInt8Step and q = round(x * (127 / max |x|)) to even, in float32; q = 0 where
// max |x| is below kSmallestQuantized. A NaN or an infinity makes the scale one.
inline constexpr float kInt8Step = 1.0f / 127.0f;
inline constexpr float kSmallestQuantized = 1e-30f;

}  // namespace sluice::kernels
