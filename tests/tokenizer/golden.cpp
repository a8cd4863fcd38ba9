#include "tests/tokenizer/golden.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>

namespace sluice::tokenizer {

std::vector<std::string> golden_names() {
  return {"bloom",     "gpt2",   "starcoder",  "llama3",           "qwen2",  "tekken",
          "behaviors", "sp_bpe", "sp_unigram", "sp_unigram_bytes", "llama2", "llama2_legacy"};
}

std::string read_whole_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

Json read_golden(const std::string& name) {
  return Json::parse(read_whole_file(kGoldenFolder / name / "golden.json"));
}

std::vector<std::string> read_corpus() {
  return Json::parse(read_whole_file(kGoldenFolder / "corpus.json"))
      .get<std::vector<std::string>>();
}

std::unique_ptr<Tokenizer> load_golden(const std::string& name) {
  auto tokenizer = load_tokenizer(kGoldenFolder / name);
  EXPECT_TRUE(tokenizer.has_value()) << name << ": " << tokenizer.error().message;
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

uint64_t SplitMix64::below(uint64_t limit) {
  state_ += 0x9E3779B97F4A7C15ULL;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return (z ^ (z >> 31)) % limit;
}

std::string random_text(uint64_t index) {
  struct Range {
    char32_t first;
    uint64_t count;
  };
  constexpr std::array<Range, 20> kRanges = {{
      {0x61, 26},      {0x61, 26},       {0x61, 26},       {0x61, 26},         {0x20, 1},
      {0x20, 1},       {0x00, 0x80},     {0x20, 16},       {0x30, 10},         {0x41, 26},
      {0xA0, 0x1B0},   {0x300, 0x70},    {0x400, 0x100},   {0x600, 0x800},     {0xE00, 0x1200},
      {0x2000, 0xC00}, {0x3000, 0x7000}, {0xAC00, 0x2BA4}, {0x10000, 0x10000}, {0x0A, 4},
  }};
  SplitMix64 rng(index);
  std::string text;
  for (uint64_t left = rng.below(48); left > 0; --left) {
    const Range& range = kRanges[rng.below(kRanges.size())];
    append_utf8(range.first + static_cast<char32_t>(rng.below(range.count)), &text);
  }
  return text;
}

std::vector<int32_t> random_ids(uint64_t index, int32_t first_id, int32_t size) {
  SplitMix64 rng(1'000'000 + index);
  std::vector<int32_t> token_ids(rng.below(24));
  for (int32_t& token_id : token_ids) {
    token_id = first_id + static_cast<int32_t>(rng.below(static_cast<uint64_t>(size - first_id)));
  }
  return token_ids;
}

void GoldenHash::add_ids(std::span<const int32_t> token_ids) {
  const auto add = [&](uint32_t word) {
    for (int shift = 0; shift < 32; shift += 8) add_byte(static_cast<uint8_t>(word >> shift));
  };
  for (const int32_t token_id : token_ids) add(static_cast<uint32_t>(token_id));
  add(UINT32_MAX);
}

void GoldenHash::add_text(std::string_view text) {
  for (const char byte : text) add_byte(static_cast<uint8_t>(byte));
  add_byte(0xFF);
}

std::string GoldenHash::digits() const {
  char buffer[24];
  std::snprintf(buffer, sizeof(buffer), "%016llx", static_cast<unsigned long long>(value_));
  return buffer;
}

}  // namespace sluice::tokenizer
