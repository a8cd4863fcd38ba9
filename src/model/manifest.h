#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "model/model_config.h"
#include "sluice/error.h"

namespace sluice::kernels {
class ThreadPool;
}

namespace sluice::model {

inline constexpr const char* kManifestFile = "manifest.json";
inline constexpr const char* kProgramFile = "program.pt";
inline constexpr const char* kWeightsFolder = "weights";
inline constexpr size_t kDigestChunkBytes = size_t{64} << 20;

// A file of a package. Its digests are of every 64 MiB, so that they are checked in parallel.
struct ManifestFile {
  size_t num_bytes = 0;
  std::vector<std::string> sha256;  // at least one
};

// What manifest.json says. Paths are relative to the package, with '/' between folders.
struct Manifest {
  ModelConfig config;                          // without a digest
  std::map<std::string, std::string> aliases;  // weights that are the same tensor: path -> target
  std::map<std::string, ManifestFile> files;   // all but the manifest
};

std::string write_manifest(const Manifest& manifest);
// kInvalidArgument with the reason: not JSON, unknown or missing fields, another format version, a
// path that leaves the folder.
Result<Manifest> parse_manifest(std::string_view text);

// The digests of a file's chunks, computed by all threads of the pool. (Another size of chunks is
// for tests.)
ManifestFile digest_file(std::span<const std::byte> bytes, kernels::ThreadPool& pool,
                         size_t chunk_bytes = kDigestChunkBytes);

}  // namespace sluice::model
