#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "sluice/error.h"

namespace sluice::server {

// A whole small file that somebody may rewrite meanwhile: read, not mapped, because a mapping of a
// file that is cut short ends the process. Blocks for the file system only, never for a writer of a
// pipe. kNotFound: it is absent; kInvalidArgument: it cannot be read, is no regular file or has
// more than `max_bytes`. Messages name neither the file nor its folder.
Result<std::string> read_small_file(const std::filesystem::path& path, size_t max_bytes);

}  // namespace sluice::server
