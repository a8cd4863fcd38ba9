// How the files of a package are hashed in parts.
#include "model/manifest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "kernels/compute.h"

namespace sluice::model {
namespace {

TEST(ManifestTest, EachChunkHasItsOwnDigestInItsPlace) {
  constexpr size_t kChunk = 200;
  std::mt19937_64 random(6);  // seed
  std::vector<std::byte> data(40 * kChunk + 5);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
  for (const int threads : {1, 2, 3, 8}) {
    kernels::ThreadPool pool(threads);
    for (const size_t size : {size_t{0}, size_t{1}, kChunk - 1, kChunk, kChunk + 1, 3 * kChunk,
                              9 * kChunk, 17 * kChunk + 5, data.size()}) {
      const std::span<const std::byte> bytes = std::span(data).first(size);
      std::vector<std::string> expected;
      for (size_t begin = 0; begin == 0 || begin < size; begin += kChunk) {
        expected.push_back(sha256_hex(bytes.subspan(begin, std::min(kChunk, size - begin))));
      }
      const ManifestFile file = digest_file(bytes, pool, kChunk);
      EXPECT_EQ(file.num_bytes, size);
      EXPECT_EQ(file.sha256, expected) << size << " bytes, " << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace sluice::model
