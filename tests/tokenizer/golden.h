#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

// What tests/golden/tokenizers/make_golden.py does, spelled the same way.
namespace sluice::tokenizer {

inline const std::filesystem::path kGoldenFolder =
    std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "golden" / "tokenizers";

// A folder of kGoldenFolder each, with a tokenizer and golden.json.
std::vector<std::string> golden_names();

std::string read_whole_file(const std::filesystem::path& path);
Json read_golden(const std::string& name);
std::vector<std::string> read_corpus();
// Loads a golden tokenizer, or fails the test and returns null.
std::unique_ptr<Tokenizer> load_golden(const std::string& name);

// Steele et al. 2014.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t below(uint64_t limit);

 private:
  uint64_t state_;
};

std::string random_text(uint64_t index);
std::vector<int32_t> random_ids(uint64_t index, int32_t first_id, int32_t size);

// FNV-1a over chunks of ids or texts, as 16 hexadecimal digits.
class GoldenHash {
 public:
  void add_ids(std::span<const int32_t> token_ids);
  void add_text(std::string_view text);
  std::string digits() const;

 private:
  void add_byte(uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001B3ULL; }
  uint64_t value_ = 0xCBF29CE484222325ULL;
};

}  // namespace sluice::tokenizer
