#include "kernels/packed_bytes.h"
#include "kernels/checks.h"

#include <string>
#include <utility>

#include "kernels/cpu/packed_panels.h"

namespace sluice::kernels {
namespace {

static_assert(kPanelRows == cpu::kPanelColumns);

constexpr uintptr_t kAlignment = 64;
constexpr int64_t kMostElements = int64_t{1} << 40;

PackedWeight describe(const PackedKind& kind) {
  PackedWeight weight;
  weight.type = dtype_of(kind.activations);
  weight.format = kind.format;
  weight.group_size = kind.group_size;
  weight.rows = kind.rows;
  weight.columns = kind.columns;
  set_geometry(weight);
  return weight;
}

Result<void> check_kind(const PackedKind& kind) {
  const bool has_dtype = kind.activations == at::kFloat || kind.activations == at::kHalf ||
                         kind.activations == at::kBFloat16;
  const bool has_group = kind.format == WeightFormat::kInt4
                             ? kind.group_size == 32 || kind.group_size == 128
                             : kind.group_size == 0;
  if (kind.format == WeightFormat::kFloat8 || !has_dtype || !has_group || kind.rows < 1 ||
      kind.columns < 1 || kind.rows > kMostElements / kind.columns) {
    return invalid_argument("a packed weight of " + std::to_string(kind.rows) + " x " +
                            std::to_string(kind.columns) + " in groups of " +
                            std::to_string(kind.group_size) + " is not possible");
  }
  return {};
}

Result<HugeBuffer> view(const char* what, std::span<const std::byte> bytes, int64_t expected,
                        const std::shared_ptr<const void>& owner) {
  if (std::ssize(bytes) != expected) {
    return invalid_argument(std::string(what) + " have " + std::to_string(bytes.size()) +
                            " bytes, expected " + std::to_string(expected));
  }
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kAlignment != 0) {
    return invalid_argument(std::string(what) + " do not start at a multiple of 64 bytes");
  }
  return HugeBuffer(bytes.data(), expected, owner);
}

std::span<const std::byte> span_of(const HugeBuffer& buffer) {
  return {static_cast<const std::byte*>(buffer.data()), static_cast<size_t>(buffer.bytes())};
}

}  // namespace

PackedSizes packed_sizes(const PackedKind& kind) {
  const PackedWeight weight = describe(kind);
  const int64_t extra =
      kind.format == WeightFormat::kPlain ? 0 : weight.num_panels * kPanelRows * 4;
  return {weight.num_panels * weight.panel_bytes, extra, extra};
}

PackedBytes packed_view(const at::Tensor& packed) {
  const PackedWeight* weight = packed_weight(packed);
  return {span_of(weight->panels), span_of(weight->scales), span_of(weight->sums)};
}

Result<at::Tensor> packed_from(const PackedKind& kind, const PackedBytes& bytes,
                               std::shared_ptr<const void> owner) {
  if (auto checked = check_kind(kind); !checked) return std::unexpected(checked.error());
  const PackedSizes sizes = packed_sizes(kind);
  auto weight = std::make_shared<PackedWeight>(describe(kind));
  auto panels = view("its panels", bytes.panels, sizes.panels, owner);
  if (!panels) return std::unexpected(panels.error());
  weight->panels = *std::move(panels);
  if (kind.format != WeightFormat::kPlain) {
    auto scales = view("its scales", bytes.scales, sizes.scales, owner);
    if (!scales) return std::unexpected(scales.error());
    auto sums = view("its sums", bytes.sums, sizes.sums, owner);
    if (!sums) return std::unexpected(sums.error());
    weight->scales = *std::move(scales);
    weight->sums = *std::move(sums);
  }
  return as_tensor(std::move(weight));
}

}  // namespace sluice::kernels
