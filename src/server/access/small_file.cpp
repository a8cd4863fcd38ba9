#include "server/access/small_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace sluice::server {
namespace {

struct Descriptor {
  explicit Descriptor(int number) : number(number) {}
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int number;
};

std::unexpected<Error> cannot_read(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return fail(ErrorCode::kNotFound, "there is no such file");
    case EACCES:
      return invalid_argument("this process may not read it");
    default:
      return invalid_argument("it cannot be read");
  }
}

}  // namespace

Result<std::string> read_small_file(const std::filesystem::path& path, size_t max_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number < 0) return cannot_read(errno);
  struct stat found{};
  if (::fstat(file.number, &found) != 0) return cannot_read(errno);
  if (!S_ISREG(found.st_mode)) return invalid_argument("it is no regular file");
  std::string bytes(max_bytes + 1, '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t n = ::read(file.number, bytes.data() + size, bytes.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return cannot_read(errno);
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  if (size > max_bytes) {
    return invalid_argument("it has more than " + std::to_string(max_bytes) + " bytes");
  }
  bytes.resize(size);
  bytes.shrink_to_fit();
  return bytes;
}

}  // namespace sluice::server
