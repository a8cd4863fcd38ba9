#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.h"

// The text of family files, before TorchScript sees it.
namespace sluice::model {

// A file NAME.py. With a class it is a family; without one it holds functions for families.
struct FamilySource {
  std::string name;  // without ".py"
  std::string text;
};

// A top-level class or function of a file; it refers to the file's text.
struct SourceBlock {
  std::string_view text;
  size_t first_line = 0;
  bool is_class() const { return text.starts_with("class "); }
};

// Cuts a file into its top-level classes and functions. Imports, comments and the file's docstring
// are for Python readers and tools; TorchScript's parser knows none of them.
std::vector<SourceBlock> split_blocks(std::string_view text);

bool is_family(const FamilySource& file);

// All files of a folder, sorted by name; the built-in ones if `folder` is empty. kNotFound.
Result<std::vector<FamilySource>> read_family_files(const std::filesystem::path& folder);

// A file and, after it, every file that it or its imports name in `from NAME import ...`: from
// `files`, else a built-in one. kInvalidArgument, naming it: there is none, or it is a family.
Result<std::vector<FamilySource>> with_imports(const FamilySource& file,
                                               const std::vector<FamilySource>& files);

}  // namespace sluice::model
