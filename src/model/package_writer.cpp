#include "model/package_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "model/dtype.h"
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
    const fs::path& path, const std::vector<PlannedWeight>& weights, kernels::ThreadPool& pool,
    Written written) {
  std::vector<TensorEntry> entries;
  for (const PlannedWeight& weight : weights) {
    TensorEntry entry;
    entry.name = weight.path;
    entry.dtype = dtype_of(weight.dtype).safetensors;
    entry.shape = weight.shape;
    entries.push_back(std::move(entry));
  }
  const std::string header = lay_out_safetensors(entries);
  auto file = OutputFile::create(path);
  if (!file) return std::unexpected(file.error());
  if (auto done = file->write(0, std::as_bytes(std::span(header))); !done) {
    return std::unexpected(done.error());
  }
  std::unique_ptr<WeightWriter> writer(
      new WeightWriter(*std::move(file), pool, std::move(written)));
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
  const auto place = missing_.extract(path);
  if (place.empty()) return invalid_argument("weight '" + path + "' was not planned");
  const TensorEntry& entry = place.mapped();
  const at::ScalarType dtype = find_dtype(entry.dtype)->scalar_type;
  size_t offset = entry.begin;
  for (const at::Tensor& part : parts) {
    const size_t num_bytes = static_cast<size_t>(part.numel()) * dtype_bytes(entry.dtype);
    if (num_bytes > entry.end - offset) {
      return invalid_argument("weight '" + path + "' is larger than planned");
    }
    if (auto done = write_part(path, part, dtype, offset); !done) return done;
    offset += num_bytes;
  }
  if (offset != entry.end) return invalid_argument("weight '" + path + "' is smaller than planned");
  return {};
}

Result<void> WeightWriter::write_part(const std::string& path, const at::Tensor& part,
                                      at::ScalarType dtype, size_t offset) {
  const at::Tensor rows = part.dim() == 0 ? part.reshape({1}) : part;
  const int64_t num_rows = rows.size(0);
  const int64_t row_bytes =
      part.numel() / std::max<int64_t>(1, num_rows) * static_cast<int64_t>(c10::elementSize(dtype));
  const int64_t slab_rows = std::max<int64_t>(1, kSlabBytes / std::max<int64_t>(1, row_bytes));
  for (int64_t row = 0; row < num_rows; row += slab_rows) {
    const int64_t count = std::min(slab_rows, num_rows - row);
    const at::Tensor slab = rows.narrow(0, row, count).to(dtype).contiguous();
    if (auto finite = check_finite(path, slab, pool_); !finite) return finite;
    const std::span bytes(static_cast<const std::byte*>(slab.const_data_ptr()), slab.nbytes());
    if (auto done = file_.write(offset, bytes); !done) return done;
    offset += bytes.size();
    if (!written_(bytes.size())) return fail(ErrorCode::kCancelled, "the import was stopped");
  }
  return {};
}

Result<void> WeightWriter::alias(const std::string&, const std::string&) {
  return {};  // the manifest says it
}

Result<void> WeightWriter::absent(const std::string&) {
  return {};  // the program says it
}

Result<void> WeightWriter::finish() {
  if (!missing_.empty()) {
    return invalid_argument("weight '" + missing_.begin()->first + "' did not come");
  }
  return file_.sync();
}

}  // namespace sluice::model
