#include "model/family_source.h"

#include <algorithm>
#include <system_error>

#include "base/mapped_file.h"
#include "model/builtin_families.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSourceBytes = 1 << 20;

// What `from NAME import` may name besides helper files: the compiler provides these.
constexpr std::string_view kModules[] = {"__future__", "math", "sluice", "torch", "typing"};

std::vector<FamilySource> builtin_files() {
  std::vector<FamilySource> files;
  for (const BuiltinFamily& family : builtin_families()) {
    files.push_back({std::string(family.name), std::string(family.source)});
  }
  return files;
}

// The names of helper files that a file imports from.
std::vector<std::string> imported_names(std::string_view text) {
  constexpr std::string_view kFrom = "from ";
  std::vector<std::string> names;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(kFrom) || line.find(" import ") == std::string_view::npos) continue;
    const std::string_view name = line.substr(kFrom.size(), line.find(' ', kFrom.size()) - 5);
    const std::string_view module = name.substr(0, name.find('.'));
    if (std::ranges::find(kModules, module) == std::end(kModules)) names.emplace_back(name);
  }
  return names;
}

const FamilySource* find(const std::vector<FamilySource>& files, const std::string& name) {
  const auto found = std::ranges::find(files, name, &FamilySource::name);
  return found == files.end() ? nullptr : &*found;
}

}  // namespace

std::vector<SourceBlock> split_blocks(std::string_view text) {
  std::vector<SourceBlock> blocks;
  bool in_block = false;
  bool in_docstring = false;
  size_t line_idx = 0;
  for (size_t begin = 0; begin < text.size(); ++line_idx) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const std::string_view line = text.substr(begin, end - begin);
    const bool is_top_level = line.find_first_of(" \t\r\n#") != 0 && !in_docstring;
    if (is_top_level) {
      in_block = line.starts_with("class ") || line.starts_with("def ");
      if (in_block) blocks.push_back({text.substr(begin, 0), line_idx});
    }
    if (in_block) {
      SourceBlock& block = blocks.back();
      block.text = std::string_view(block.text.data(), block.text.size() + line.size());
    } else {
      size_t quotes = 0;
      for (size_t at = 0; (at = line.find("\"\"\"", at)) != std::string_view::npos; at += 3)
        ++quotes;
      if (quotes % 2 == 1) in_docstring = !in_docstring;
    }
    begin = end;
  }
  return blocks;
}

bool is_family(const FamilySource& file) {
  return std::ranges::any_of(split_blocks(file.text), &SourceBlock::is_class);
}

Result<std::vector<FamilySource>> read_family_files(const fs::path& folder) {
  if (folder.empty()) return builtin_files();
  std::vector<FamilySource> files;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(folder, error)) {
    if (item.path().extension() != ".py") continue;
    auto text = read_file(item.path(), kMaxSourceBytes);
    if (!text) return std::unexpected(text.error());
    files.push_back({item.path().stem().string(), *std::move(text)});
  }
  if (error || files.empty()) {
    return fail(ErrorCode::kNotFound, "the folder of families holds no .py file");
  }
  std::ranges::sort(files, {}, &FamilySource::name);
  return files;
}

Result<std::vector<FamilySource>> with_imports(const FamilySource& file,
                                               const std::vector<FamilySource>& files) {
  const std::vector<FamilySource> builtin = builtin_files();
  std::vector<FamilySource> sources = {file};
  for (size_t i = 0; i < sources.size(); ++i) {
    for (const std::string& name : imported_names(sources[i].text)) {
      if (find(sources, name) != nullptr) continue;
      const FamilySource* import = find(files, name);
      if (import == nullptr) import = find(builtin, name);
      if (import == nullptr || is_family(*import)) {
        return invalid_argument(sources[i].name + ".py: imports " + name.substr(0, 64) +
                                (import == nullptr ? ", which is not there" : ", a family itself"));
      }
      sources.push_back(*import);
    }
  }
  return sources;
}

}  // namespace sluice::model
