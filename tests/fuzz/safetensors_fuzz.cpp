// The header of a safetensors file.
#include <array>

#include "model/safetensors.h"
#include "tests/fuzz/driver.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  using namespace std::string_view_literals;
  static constexpr std::array<std::string_view, 22> kWords = {R"("dtype")",
                                                              R"("shape")",
                                                              R"("data_offsets")",
                                                              R"("__metadata__")",
                                                              R"("F32")",
                                                              R"("BF16")",
                                                              R"("F8_E4M3")",
                                                              R"("BOOL")",
                                                              R"("I64")",
                                                              "{",
                                                              "}",
                                                              "[",
                                                              "]",
                                                              ",",
                                                              ":",
                                                              R"("a":)",
                                                              R"("\u0061":)",
                                                              "null",
                                                              "true",
                                                              "{}",
                                                              "[]",
                                                              "\xFF\0\0\0\0\0\0\0"sv};
  return kWords;
}

}  // namespace sluice::fuzz

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::fuzz::require;
  const auto header = sluice::model::read_safetensors_header(std::as_bytes(std::span(data, size)));
  if (!header) {
    require(!header.error().message.empty(), "a refusal says why");
    return 0;
  }
  // What the readers of tensors rely on without another look.
  size_t end = 0;
  for (const auto& tensor : header->tensors) {
    require(tensor.begin <= tensor.end && tensor.end <= size, "a tensor lies inside the file");
    require(end == 0 || tensor.begin == end, "tensors follow one another");
    end = tensor.end;
    size_t bytes = sluice::model::dtype_bytes(tensor.dtype);
    require(bytes > 0, "a dtype is known");
    for (const int64_t count : tensor.shape) bytes *= static_cast<size_t>(count);
    require(bytes == tensor.end - tensor.begin, "a tensor has the bytes of its shape");
  }
  return 0;
}
