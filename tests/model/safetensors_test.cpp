#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/model/fixtures.h"

namespace sluice::model {
namespace {

std::string with_length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  return with_length(header.size(), header + std::string(data_bytes, '\1'));
}

constexpr const char* kGoodHeader =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";

Result<SafetensorsFile> open_bytes(const std::string& bytes) {
  const TemporaryFolder folder;
  write_text(folder / "x.safetensors", bytes);
  return SafetensorsFile::open(folder / "x.safetensors");
}

std::string error_of(const std::string& bytes) {
  const auto file = open_bytes(bytes);
  EXPECT_FALSE(file.has_value()) << "read, but must be refused";
  return file ? "" : file.error().message;
}

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirBytes) {
  const auto file = open_bytes(file_of(kGoodHeader, 32));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 2U);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->tensors()[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file->tensors()[1].dtype, "BF16");
  EXPECT_EQ(file->bytes(file->tensors()[1]).size(), 8U);
  EXPECT_EQ(file->metadata().at("format"), "pt");
}

TEST(Safetensors, ReadsWhatItsOwnLayoutWrote) {
  std::vector<TensorEntry> entries = {{"half", "F16", {3}, 0, 0}, {"wide", "F32", {5}, 0, 0}};
  const std::string start = lay_out_safetensors(entries);
  EXPECT_EQ(start.size() % 64, 0U);
  EXPECT_EQ(entries[0].name, "wide");  // wider elements first: all aligned
  const auto file = open_bytes(start + std::string(5 * 4 + 3 * 2, '\0'));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->tensors()[0].begin, entries[0].begin);
  EXPECT_EQ(file->tensors()[1].end, entries[1].end);
}

TEST(Safetensors, RefusesEveryTruncation) {
  const std::string good = file_of(kGoodHeader, 32);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(error_of(good.substr(0, size)), "") << size << " bytes";
  }
  EXPECT_NE(error_of(good + "x"), "");
}

// A flip may give another good file (a name, a digit of a shape that still fits): what counts is
// that no flip is read out of bounds, which asan would show, or answered without a reason.
TEST(Safetensors, SurvivesEveryBitFlipOfTheHeader) {
  const std::string good = file_of(kGoodHeader, 32);
  int refused = 0;
  for (size_t bit = 0; bit < 8 * (good.size() - 32); ++bit) {
    std::string bytes = good;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << (bit % 8)));
    const auto file = open_bytes(bytes);
    if (!file) {
      EXPECT_TRUE(file.error().message.starts_with("x.safetensors: ")) << file.error().message;
      ++refused;
      continue;
    }
    for (const TensorEntry& entry : file->tensors()) EXPECT_LE(entry.end, bytes.size());
  }
  EXPECT_GT(refused, 400);
}

struct BadHeader {
  const char* what;
  std::string bytes;
  const char* reason;
};

class Refused : public testing::TestWithParam<BadHeader> {};

TEST_P(Refused, WithFileAndReason) {
  const std::string message = error_of(GetParam().bytes);
  EXPECT_TRUE(message.starts_with("x.safetensors: ")) << message;
  EXPECT_NE(message.find(GetParam().reason), std::string::npos) << message;
}

std::string one_tensor(const std::string& fields) {
  return R"({"a":{)" + fields + "}}";
}

INSTANTIATE_TEST_SUITE_P(
    Safetensors, Refused,
    testing::Values(
        BadHeader{"empty", "", "too few"},
        BadHeader{"huge_length", with_length(~0ULL, "{}"), "limit is"},
        BadHeader{"length_above_limit", with_length(100'000'001, "{}"), "limit is"},
        BadHeader{"length_past_the_end", with_length(3, "{}"), "cut short"},
        BadHeader{"no_header", with_length(0, ""), "not valid JSON"},
        BadHeader{"not_json", file_of("{]", 0), "not valid JSON"},
        BadHeader{"a_list", file_of("[]", 0), "no JSON object"},
        BadHeader{"bytes_after_nothing", file_of("{}", 1), "end at byte 0 of 1"},
        BadHeader{"deep", file_of(std::string(10'000, '['), 0), "nested 10000 deep"},
        BadHeader{"not_utf8", file_of("{\"\xff\":1}", 0), "not valid JSON"},
        BadHeader{"twice",
                  file_of(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                          R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                          4),
                  "same key twice"},
        BadHeader{"unknown_dtype",
                  file_of(one_tensor(R"("dtype":"F31","shape":[1],"data_offsets":[0,4])"), 4),
                  "unknown dtype"},
        BadHeader{"no_shape", file_of(one_tensor(R"("dtype":"F32","data_offsets":[0,4])"), 4),
                  "needs dtype"},
        BadHeader{
            "extra_field",
            file_of(one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1])"),
                    4),
            "needs dtype"},
        BadHeader{"negative_shape",
                  file_of(one_tensor(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4),
                  "not up to 8 counts"},
        BadHeader{"fractional_shape",
                  file_of(one_tensor(R"("dtype":"F32","shape":[1.0],"data_offsets":[0,4])"), 4),
                  "not up to 8 counts"},
        BadHeader{
            "nine_dimensions",
            file_of(one_tensor(R"("dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4])"),
                    4),
            "not up to 8 counts"},
        BadHeader{"overflowing_product",
                  file_of(one_tensor(R"("dtype":"F32","shape":[4294967296,4294967296,4],)"
                                     R"("data_offsets":[0,4])"),
                          4),
                  "overflows"},
        BadHeader{"overflowing_bytes",
                  file_of(one_tensor(R"("dtype":"F32","shape":[4611686018427387905],)"
                                     R"("data_offsets":[0,4])"),
                          4),
                  "overflows"},
        BadHeader{"shape_above_int64",
                  file_of(one_tensor(R"("dtype":"U8","shape":[18446744073709551615],)"
                                     R"("data_offsets":[0,4])"),
                          4),
                  "overflows"},
        BadHeader{"too_few_bytes",
                  file_of(one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4),
                  "needs 8 bytes by its shape, has 4"},
        BadHeader{"past_the_end",
                  file_of(one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 4),
                  "of 4"},
        BadHeader{"end_before_begin",
                  file_of(one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4),
                  "lies at bytes 4 to 0"},
        BadHeader{"offset_above_size_t",
                  file_of(one_tensor(R"("dtype":"F32","shape":[1],)"
                                     R"("data_offsets":[0,18446744073709551615])"),
                          4),
                  "lies at bytes"},
        BadHeader{"negative_offset",
                  file_of(one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])"), 4),
                  "not two counts"},
        BadHeader{"a_hole",
                  file_of(one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])"), 8),
                  "a hole"},
        BadHeader{"overlap",
                  file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                          R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                          12),
                  "overlap"},
        BadHeader{"metadata_number", file_of(R"({"__metadata__":{"a":1}})", 0), "no text"}),
    [](const auto& item) { return std::string(item.param.what); });

TEST(Safetensors, NamesWhatIsNotAFile) {
  const TemporaryFolder folder;
  const auto absent = SafetensorsFile::open(folder / "absent.safetensors");
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().code, ErrorCode::kNotFound);
  const auto directory = SafetensorsFile::open(folder.path());
  ASSERT_FALSE(directory.has_value());
  EXPECT_NE(directory.error().message.find("not a regular file"), std::string::npos);
}

TEST(Safetensors, RandomBytesAreRefused) {
  std::mt19937_64 random(7);  // seed
  for (int round = 0; round < 500; ++round) {
    std::string bytes(random() % 200, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    if (bytes.size() >= 8 && round % 2 == 0) bytes.replace(1, 7, 7, '\0');  // a short header
    EXPECT_FALSE(open_bytes(bytes).has_value()) << "round " << round;
  }
}

}  // namespace
}  // namespace sluice::model
