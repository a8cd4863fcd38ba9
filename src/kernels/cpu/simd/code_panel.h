#pragma once

#include "kernels/cpu/kernel_table.h"

// Where an int4 weight's numbers lie in its packed form.
namespace sluice::kernels::cpu::simd {

// Where an int4 panel's codes of sixteen columns and one 32-deep part of a tile lie, and their
// multipliers.
struct CodePlace {
  const uint8_t* codes;
  const uint8_t* multipliers;
};
inline constexpr int64_t kCodeDepth = 32;
inline constexpr int64_t kCodeParts = kByteTileDepth / kCodeDepth;
inline constexpr int64_t kCodeBytes = kCodeDepth * kTileColumns / 2;

// An int4 panel. The size of a group is kCodeDepth times a power of two. (A template over the
// product for the instruction set's sake, see kernel_table.h.)
template <typename P>
struct CodePanel {
  const uint8_t* multipliers;
  const uint8_t* codes;
  int group_shift;

  CodePanel(const LinearArgs& args, int64_t panel)
      : multipliers(static_cast<const uint8_t*>(args.panels) + panel * args.panel_bytes),
        codes(multipliers + multiplier_bytes(args.depth_tiles, args.group_size)),
        group_shift(__builtin_ctzll(static_cast<uint64_t>(args.group_size / kCodeDepth))) {}

  CodePlace at(int64_t part, int half) const {
    const int64_t tile = part / kCodeParts * 2 + half;
    return {codes + (tile * kCodeParts + part % kCodeParts) * kCodeBytes,
            multipliers + (part >> group_shift) * kPanelColumns + half * kTileColumns};
  }
};

}  // namespace sluice::kernels::cpu::simd
