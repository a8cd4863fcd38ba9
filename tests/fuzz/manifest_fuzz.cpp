// manifest.json and golden_logits.json of a package.
#include <array>

#include "model/golden_logits.h"
#include "model/manifest.h"
#include "tests/fuzz/driver.h"

namespace sluice::fuzz {

std::span<const std::string_view> dictionary() {
  static constexpr std::array<std::string_view, 24> kWords = {R"("format")",
                                                              R"("format_version")",
                                                              R"("family")",
                                                              R"("dtype")",
                                                              R"("num_layers")",
                                                              R"("files")",
                                                              R"("aliases")",
                                                              R"("bytes")",
                                                              R"("sha256")",
                                                              R"("bf16")",
                                                              R"("f32")",
                                                              R"("program.pt")",
                                                              R"("manifest.json")",
                                                              R"("../x")",
                                                              R"("/etc/x")",
                                                              R"("a//b")",
                                                              R"("end_token_ids")",
                                                              "{",
                                                              "}",
                                                              "[",
                                                              "]",
                                                              ",",
                                                              "null",
                                                              "\xC3\xA9"};
  return kWords;
}

}  // namespace sluice::fuzz

namespace {

void fuzz_golden(std::string_view text) {
  using sluice::fuzz::require;
  constexpr int32_t kVocabulary = 4096;
  const auto golden = sluice::model::parse_golden(text, kVocabulary);
  if (!golden) {
    require(golden.error().message.starts_with("golden_logits.json: "), "a refusal names the file");
    return;
  }
  require(golden->logits.size() == golden->token_ids.size(), "a row for each token");
  for (const auto& row : golden->logits) {
    require(row.size() == golden->columns.size(), "a number for each column");
  }
  require(sluice::model::golden_difference(*golden, golden->logits) == 0, "it is equal to itself");
  const std::string written = sluice::model::write_golden(*golden);
  const auto again = sluice::model::parse_golden(written, kVocabulary);
  require(again && again->logits == golden->logits, "golden logits are written as they were read");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sluice::fuzz::require;
  fuzz_golden(sluice::fuzz::as_text(data, size));
  const auto manifest = sluice::model::parse_manifest(sluice::fuzz::as_text(data, size));
  if (!manifest) {
    require(manifest.error().message.starts_with("manifest.json: "), "a refusal names the file");
    return 0;
  }
  for (const auto& [path, file] : manifest->files) {
    require(!path.empty() && path.front() != '/' && path.find("..") == std::string::npos,
            "a file lies inside the package");
    require(!file.sha256.empty(), "a file has a digest");
  }
  // What was read is what is written.
  const std::string text = sluice::model::write_manifest(*manifest);
  const auto again = sluice::model::parse_manifest(text);
  require(again.has_value() && sluice::model::write_manifest(*again) == text,
          "a manifest is written as it was read");
  return 0;
}
