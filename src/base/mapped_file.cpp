#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace sluice {
namespace {

// Owns a file descriptor.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

std::unexpected<Error> cannot_read(const std::filesystem::path& path, int error) {
  const std::string name = path.filename().string();
  if (error == ENOENT || error == ENOTDIR) {
    return fail(ErrorCode::kNotFound, name + ": there is no such file");
  }
  return invalid_argument(name + ": cannot be read (" + std::generic_category().message(error) +
                          ")");
}

}  // namespace

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: a named pipe in the place of a file must not hang us.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) return cannot_read(path, errno);
  struct stat status{};
  if (::fstat(file.fd, &status) != 0) return cannot_read(path, errno);
  if (!S_ISREG(status.st_mode)) {
    return invalid_argument(path.filename().string() + ": is not a regular file");
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* data = nullptr;
  if (size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED) return cannot_read(path, errno);
    // Only a wish: read from the disk in large pieces, and mapped by huge pages where they are.
    (void)::madvise(data, size, MADV_HUGEPAGE);
  }
  return std::shared_ptr<const MappedFile>(
      new MappedFile(static_cast<const std::byte*>(data), size));
}

MappedFile::~MappedFile() {
  if (size_ > 0) ::munmap(const_cast<std::byte*>(data_), size_);
}

void read_ahead(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size();
  // Only a wish: the bytes are read when they are needed, at the latest.
  if (end > begin) (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

Result<std::string> read_file(const std::filesystem::path& path, size_t max_bytes) {
  auto file = MappedFile::open(path);
  if (!file) return std::unexpected(file.error());
  const auto bytes = (*file)->bytes();
  if (bytes.size() > max_bytes) {
    return invalid_argument(path.filename().string() + ": has " + std::to_string(bytes.size()) +
                            " bytes, limit is " + std::to_string(max_bytes));
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace sluice
