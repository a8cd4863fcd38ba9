#include "model/package_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/mapped_file.h"
#include "kernels/quantize.h"
#include "model/dtype.h"
#include "model/failure.h"
#include "model/finite.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSlabBytes = 16 << 20;

std::unexpected<Error> cannot_write(const std::string& name, int error) {
  const bool is_full = error == ENOSPC || error == EDQUOT;
  return fail(is_full ? ErrorCode::kResourceExhausted : ErrorCode::kInvalidArgument,
              name + ": cannot be written (" + std::generic_category().message(error) + ")");
}

}  // namespace

Result<OutputFile> OutputFile::create(const fs::path& path) {
  const std::string name = path.filename().string();
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return cannot_write(name, errno);
  return OutputFile(fd, name);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), name_(std::move(other.name_)) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<void> OutputFile::write(size_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return cannot_write(name_, errno);
    // Only a wish, so that sync() finds little left to do.
    (void)::sync_file_range(fd_, static_cast<off_t>(offset), count, SYNC_FILE_RANGE_WRITE);
    offset += static_cast<size_t>(count);
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return {};
}

Result<void> OutputFile::sync() {
  if (::fsync(fd_) != 0) return cannot_write(name_, errno);
  return {};
}

Result<void> write_file(const fs::path& path, std::span<const std::byte> bytes) {
  auto file = OutputFile::create(path);
  if (!file) return std::unexpected(file.error());
  if (auto written = file->write(0, bytes); !written) return written;
  return file->sync();
}

Result<void> sync_folder(const fs::path& folder) {
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return cannot_write(folder.filename().string(), errno);
  const int status = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  if (status != 0) return cannot_write(folder.filename().string(), error);
  return {};
}

Result<std::unique_ptr<WeightWriter>> WeightWriter::create(
    const fs::path& path, const std::vector<PlannedWeight>& weights, Options options,
    kernels::ThreadPool& pool) {
  std::vector<TensorEntry> entries;
  const auto plan = [&entries](std::string name, std::string_view dtype,
                               std::vector<int64_t> shape) {
    entries.push_back({std::move(name), std::string(dtype), std::move(shape)});
  };
  for (const PlannedWeight& weight : weights) {
    if (!weight.is_quantized) {
      plan(weight.path, dtype_of(weight.dtype).safetensors, weight.shape);
      continue;
    }
    auto encoded = encoded_shape(weight.shape, options.encoding);
    if (!encoded) {
      return fail(encoded.error().code, "weight '" + weight.path + "': " + encoded.error().message);
    }
    plan(weight.path, encoded->values_dtype, std::move(encoded->values));
    plan(weight.path + kScaleSuffix, "F32", std::move(encoded->scales));
  }
  const std::string header = lay_out_safetensors(entries);
  auto file = OutputFile::create(path);
  if (!file) return std::unexpected(file.error());
  if (auto done = file->write(0, std::as_bytes(std::span(header))); !done) {
    return std::unexpected(done.error());
  }
  std::unique_ptr<WeightWriter> writer(
      new WeightWriter(*std::move(file), std::move(options), pool));
  for (TensorEntry& entry : entries) {
    std::string name = entry.name;
    if (!writer->missing_.emplace(name, std::move(entry)).second) {
      return invalid_argument("weight '" + name + "' comes twice");
    }
  }
  return writer;
}

Result<void> WeightWriter::add(const std::string& path, const std::vector<at::Tensor>& parts,
                               bool) {
  auto values = missing_.extract(path);
  if (values.empty()) return invalid_argument("weight '" + path + "' was not planned");
  Place place{values.mapped(), std::nullopt, values.mapped().begin, 0};
  if (!find_dtype(place.values.dtype)) {
    place.scales = missing_.extract(path + kScaleSuffix).mapped();
    place.scales_end = place.scales->begin;
  }
  for (const at::Tensor& part : parts) {
    if (auto done = write_part(path, part, place); !done) return done;
  }
  if (place.values_end != place.values.end) {
    return invalid_argument("weight '" + path + "' is smaller than planned");
  }
  return {};
}

Result<void> WeightWriter::write_part(const std::string& path, const at::Tensor& part,
                                      Place& place) {
  const at::Tensor rows = part.dim() == 0 ? part.reshape({1}) : part;
  const int64_t num_rows = rows.size(0);
  const int64_t row_bytes =
      part.numel() / std::max<int64_t>(1, num_rows) * static_cast<int64_t>(sizeof(float));
  const int64_t slab_rows = std::max<int64_t>(1, kSlabBytes / std::max<int64_t>(1, row_bytes));
  const std::span bytes(static_cast<const std::byte*>(part.const_data_ptr()), part.nbytes());
  const size_t slab_bytes = static_cast<size_t>(slab_rows) * part.nbytes() /
                            static_cast<size_t>(std::max<int64_t>(1, num_rows));
  for (int64_t row = 0; row < num_rows; row += slab_rows) {
    const int64_t count = std::min(slab_rows, num_rows - row);
    // The next slab comes from the disk while this one is worked on.
    const size_t next = static_cast<size_t>(row / slab_rows + 1) * slab_bytes;
    if (next < bytes.size())
      read_ahead(bytes.subspan(next, std::min(slab_bytes, bytes.size() - next)));
    const size_t written = place.values_end + place.scales_end;
    if (auto done = write_slab(path, rows.narrow(0, row, count), place); !done) return done;
    if (!options_.written(place.values_end + place.scales_end - written)) {
      return import_stopped();
    }
  }
  return {};
}

Result<void> WeightWriter::write_slab(const std::string& path, const at::Tensor& slab,
                                      Place& place) {
  if (!place.scales) {
    const at::Tensor converted = slab.to(find_dtype(place.values.dtype)->scalar_type).contiguous();
    if (auto finite = check_finite(path, converted, pool_); !finite) return finite;
    return write(converted, place.values, place.values_end);
  }
  const auto quantized =
      kernels::quantize(slab.contiguous(), options_.encoding.format, options_.encoding.group_size);
  if (!quantized) {
    return fail(quantized.error().code, "weight '" + path + "': " + quantized.error().message);
  }
  auto done = write(quantized->values, place.values, place.values_end);
  if (done) done = write(quantized->scales, *place.scales, place.scales_end);
  return done;
}

// The next rows of an entry.
Result<void> WeightWriter::write(const at::Tensor& tensor, const TensorEntry& entry, size_t& end) {
  const std::span bytes(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes());
  if (bytes.size() > entry.end - end) {
    return invalid_argument("weight '" + entry.name + "' is larger than planned");
  }
  if (auto done = written(); !done) return done;
  // The tensor goes along: it owns the bytes, or keeps the mapped file that does.
  writing_ = std::async(std::launch::async,
                        [this, tensor, bytes, offset = end] { return file_.write(offset, bytes); });
  end += bytes.size();
  return {};
}

Result<void> WeightWriter::written() {
  return writing_.valid() ? writing_.get() : Result<void>{};
}

Result<void> WeightWriter::alias(const std::string&, const std::string&) {
  return {};  // the manifest says it
}

Result<void> WeightWriter::absent(const std::string&) {
  return {};  // the program says it
}

Result<OutputFile> WeightWriter::finish() {
  if (auto done = written(); !done) return std::unexpected(done.error());
  if (!missing_.empty()) {
    return invalid_argument("weight '" + missing_.begin()->first + "' did not come");
  }
  return std::move(file_);
}

}  // namespace sluice::model
