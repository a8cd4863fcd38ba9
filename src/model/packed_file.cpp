#include "model/packed_file.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/packed_bytes.h"
#include "kernels/packed_weight.h"
#include "kernels/quantize.h"
#include "model/checkpoint.h"
#include "model/dtype.h"
#include "model/failure.h"
#include "model/manifest.h"
#include "model/package_writer.h"
#include "model/safetensors.h"
#include "model/weight_encoding.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
using kernels::PackedKind;
using kernels::WeightFormat;

constexpr const char* kFileName = "model.safetensors";
constexpr std::string_view kPanelsSuffix = ".panels";
constexpr std::string_view kScalesSuffix = ".scales";
constexpr std::string_view kSumsSuffix = ".sums";
// Written in such blocks, at multiples of their size, a file's page cache can consist of huge
// pages, and a mapping of it too.
constexpr size_t kBlockBytes = size_t{2} << 20;
constexpr int64_t kSlabRows = 2048;  // a multiple of a panel's rows

// Appends to a file in whole blocks.
class BlockWriter final {
 public:
  explicit BlockWriter(OutputFile& file) : file_(file) { buffer_.reserve(kBlockBytes); }

  Result<void> append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t count = std::min(bytes.size(), kBlockBytes - buffer_.size());
      buffer_.insert(buffer_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(count));
      bytes = bytes.subspan(count);
      if (buffer_.size() < kBlockBytes) continue;
      if (auto done = flush(); !done) return done;
    }
    return {};
  }
  // What is left, at the end.
  Result<void> flush() {
    if (auto done = file_.write(end_, buffer_); !done) return done;
    end_ += buffer_.size();
    buffer_.clear();
    return {};
  }

 private:
  OutputFile& file_;
  std::vector<std::byte> buffer_;
  size_t end_ = 0;  // of the file
};

// Packs the weights of a package one after the other.
class PackedWriter final {
 public:
  PackedWriter(const SafetensorsFile& weights, const ModelConfig& config,
               const std::function<bool(size_t)>& written)
      : weights_(weights), config_(config), written_(written) {
    for (const TensorEntry& entry : weights.tensors()) entries_[entry.name] = &entry;
  }

  Result<void> write(const fs::path& path, const std::set<std::string>& packed) {
    for (const TensorEntry& entry : weights_.tensors()) {
      if (packed.contains(entry.name)) {
        plan_product(entry);
      } else if (!is_scale(entry.name, packed)) {
        others_.push_back(entry);
      }
    }
    planned_.insert(planned_.end(), others_.begin(), others_.end());
    const std::string header = lay_out_safetensors(planned_, metadata_);
    auto file = OutputFile::create(path);
    if (!file) return std::unexpected(file.error());
    if (auto done = write_products(header, *file); !done) return done;
    return write_rest(*file);
  }

 private:
  struct Product {
    const TensorEntry* entry;
    PackedKind kind;
  };

  static bool is_scale(const std::string& name, const std::set<std::string>& packed) {
    return name.ends_with(kScaleSuffix) &&
           packed.contains(name.substr(0, name.size() - std::string_view(kScaleSuffix).size()));
  }

  void plan_product(const TensorEntry& entry) {
    PackedKind kind;
    if (!find_dtype(entry.dtype)) kind.format = config_.encoding.format;
    const bool is_int4 = kind.format == WeightFormat::kInt4;
    kind.group_size = is_int4 ? config_.encoding.group_size : 0;
    kind.activations = find_dtype(config_.dtype)->scalar_type;
    kind.rows = entry.shape.at(0);
    kind.columns = entry.shape.at(1) * (is_int4 ? 2 : 1);
    products_.push_back({&entry, kind});
    metadata_[entry.name] = std::to_string(kind.rows) + " " + std::to_string(kind.columns);
    const kernels::PackedSizes sizes = kernels::packed_sizes(kind);
    const auto plan = [&](std::string_view suffix, const char* dtype, int64_t bytes) {
      if (bytes == 0) return;
      const auto element = static_cast<int64_t>(dtype_bytes(dtype));
      planned_.push_back({entry.name + std::string(suffix), dtype, {bytes / element}});
    };
    plan(kPanelsSuffix, "U64", sizes.panels);
    plan(kScalesSuffix, "F32", sizes.scales);
    plan(kSumsSuffix, "I32", sizes.sums);
  }

  // The header and all panels, which come first in the file, in the order of the products.
  Result<void> write_products(const std::string& header, OutputFile& file) {
    BlockWriter out(file);
    if (auto done = out.append(std::as_bytes(std::span(header))); !done) return done;
    for (const Product& product : products_) {
      for (int64_t row = 0; row < product.kind.rows; row += kSlabRows) {
        const int64_t count = std::min(kSlabRows, product.kind.rows - row);
        const auto slab = pack(product, row, count);
        if (!slab) {
          return fail(slab.error().code,
                      "weight '" + product.entry->name + "': " + slab.error().message);
        }
        const kernels::PackedBytes bytes = kernels::packed_view(*slab);
        if (auto done = out.append(bytes.panels); !done) return done;
        keep(product.entry->name + std::string(kScalesSuffix), bytes.scales);
        keep(product.entry->name + std::string(kSumsSuffix), bytes.sums);
        if (!written_(bytes.panels.size())) {
          return import_stopped();
        }
      }
    }
    return out.flush();
  }

  Result<at::Tensor> pack(const Product& product, int64_t row, int64_t count) const {
    const at::Tensor values = mapped_tensor(weights_, *product.entry).narrow(0, row, count);
    if (product.kind.format == WeightFormat::kPlain) return kernels::pack_weight(values);
    kernels::QuantizedWeight weight;
    weight.values = values;
    weight.scales = mapped_tensor(weights_, *entries_.at(product.entry->name + kScaleSuffix))
                        .narrow(0, row, count);
    weight.group_size = product.kind.group_size;
    return kernels::pack_weight(weight, product.kind.activations);
  }

  void keep(const std::string& name, std::span<const std::byte> bytes) {
    auto& kept = kept_[name];
    kept.insert(kept.end(), bytes.begin(), bytes.end());
  }

  Result<void> write_rest(OutputFile& file) {
    for (const TensorEntry& entry : planned_) {
      std::span<const std::byte> bytes;
      if (const auto kept = kept_.find(entry.name); kept != kept_.end()) {
        bytes = kept->second;
      } else if (const auto plain = entries_.find(entry.name); plain != entries_.end()) {
        bytes = weights_.bytes(*plain->second);
      } else {
        continue;  // panels
      }
      if (auto done = file.write(entry.begin, bytes); !done) return done;
    }
    return file.sync();
  }

  const SafetensorsFile& weights_;
  const ModelConfig& config_;
  const std::function<bool(size_t)>& written_;
  std::map<std::string, const TensorEntry*> entries_;  // of weights_
  std::vector<Product> products_;
  std::vector<TensorEntry> others_;
  std::vector<TensorEntry> planned_;  // the new file's
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::vector<std::byte>> kept_;  // scales and sums
};

// "ROWS COLUMNS"
std::optional<std::pair<int64_t, int64_t>> parse_shape(const std::string& text) {
  std::pair<int64_t, int64_t> shape;
  const char* end = text.data() + text.size();
  const auto rows = std::from_chars(text.data(), end, shape.first);
  if (rows.ec != std::errc{} || rows.ptr == end || *rows.ptr != ' ') return std::nullopt;
  const auto columns = std::from_chars(rows.ptr + 1, end, shape.second);
  if (columns.ec != std::errc{} || columns.ptr != end) return std::nullopt;
  return shape;
}

// Reads the weights of a packed file.
class PackedReader final {
 public:
  PackedReader(const SafetensorsFile& file, const ModelConfig& config)
      : file_(file), config_(config) {
    for (const TensorEntry& entry : file.tensors()) entries_[entry.name] = &entry;
  }

  Result<void> load(WeightLoader& loader, const std::function<void(size_t)>& read) const {
    for (const TensorEntry& entry : file_.tensors()) {
      if (const auto name = product_of(entry.name, kPanelsSuffix)) {
        auto weight = product(*name, entry);
        if (!weight) {
          return invalid_argument(file_.file_name() + ": weight '" + *name +
                                  "': " + weight.error().message);
        }
        if (auto added = loader.add_packed(*name, *weight); !added) return added;
      } else if (!product_of(entry.name, kScalesSuffix) && !product_of(entry.name, kSumsSuffix)) {
        const auto dtype = find_dtype(entry.dtype);
        if (!dtype) {
          return invalid_argument(file_.file_name() + ": weight '" + entry.name + "' is " +
                                  entry.dtype);
        }
        const bool is_table = dtype->name != config_.dtype;
        auto added = loader.add(entry.name, {mapped_tensor(file_, entry)}, is_table);
        if (!added) return added;
      }
      read(entry.end - entry.begin);
    }
    return {};
  }

 private:
  // The product whose part this is, if it is one.
  std::optional<std::string> product_of(const std::string& name, std::string_view suffix) const {
    if (!name.ends_with(suffix)) return std::nullopt;
    std::string product = name.substr(0, name.size() - suffix.size());
    if (!file_.metadata().contains(product)) return std::nullopt;
    return product;
  }

  Result<at::Tensor> product(const std::string& name, const TensorEntry& panels) const {
    const auto shape = parse_shape(file_.metadata().at(name));
    if (!shape) return invalid_argument("__metadata__ does not say its rows and columns");
    const auto scales = entries_.find(name + std::string(kScalesSuffix));
    const auto sums = entries_.find(name + std::string(kSumsSuffix));
    PackedKind kind;
    kind.activations = find_dtype(config_.dtype)->scalar_type;
    kind.rows = shape->first;
    kind.columns = shape->second;
    kernels::PackedBytes bytes;
    bytes.panels = file_.bytes(panels);
    if (scales != entries_.end() && sums != entries_.end()) {
      kind.format = config_.encoding.format;
      kind.group_size = config_.encoding.group_size;
      bytes.scales = file_.bytes(*scales->second);
      bytes.sums = file_.bytes(*sums->second);
    }
    return kernels::packed_from(kind, bytes, file_.file());
  }

  const SafetensorsFile& file_;
  const ModelConfig& config_;
  std::map<std::string, const TensorEntry*> entries_;
};

}  // namespace

std::string packed_path() {
  return std::string(kPackedFolder) + "/" + kernels::kPackedLayout + "/" + kFileName;
}

Result<void> write_packed(const fs::path& folder, const ModelConfig& config,
                          const std::set<std::string>& packed,
                          const std::function<bool(size_t)>& written) {
  const auto weights = SafetensorsFile::open(folder / kWeightsFolder / kFileName);
  if (!weights) return std::unexpected(weights.error());
  const fs::path path = folder / packed_path();
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  PackedWriter writer(*weights, config, written);
  if (auto done = writer.write(path, packed); !done) return done;
  if (auto done = sync_folder(path.parent_path()); !done) return done;
  return sync_folder(path.parent_path().parent_path());
}

Result<void> load_packed(const fs::path& folder, const ModelConfig& config, WeightLoader& loader,
                         const std::function<void(size_t)>& read) {
  const auto file = SafetensorsFile::open(folder / packed_path());
  if (!file) return std::unexpected(file.error());
  return PackedReader(*file, config).load(loader, read);
}

}  // namespace sluice::model
