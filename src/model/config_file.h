#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "sluice/error.h"

namespace sluice::model {

// The fields of a Hugging Face config.json, nested names joined by dots ("rope_scaling.factor").
// A field that is null counts as absent.
class ConfigFile final {
 public:
  // kNotFound, kInvalidArgument.
  static Result<ConfigFile> open(const std::filesystem::path& path);
  // The same from a file's text; `file_name` begins the messages.
  static Result<ConfigFile> parse(std::string_view text, const std::string& file_name);

  // True for a field, and for a name that has fields below it ("rope_scaling").
  bool has(const std::string& name) const;
  // True if the file says null, which differs from not saying anything where the model type's
  // default is a value.
  bool is_null(const std::string& name) const { return nulls_.contains(name); }

  // The field, else the fallback. kInvalidArgument, naming the field, if it is absent without a
  // fallback or of another type. A number may be written as an integer.
  Result<int64_t> integer(const std::string& name, std::optional<int64_t> fallback) const;
  // The same for a size: an integer of 1 to 2^24.
  Result<int64_t> count(const std::string& name, std::optional<int64_t> fallback) const;
  Result<double> number(const std::string& name, std::optional<double> fallback) const;
  Result<bool> flag(const std::string& name, std::optional<bool> fallback) const;
  Result<std::string> text(const std::string& name, std::optional<std::string> fallback) const;
  // A list of texts; empty if absent.
  Result<std::vector<std::string>> texts(const std::string& name) const;

  // kUnimplemented if the field, or one below it, is there and its value, as text, is not one of
  // `supported`.
  Result<void> expect(const std::string& name, const std::vector<std::string>& supported) const;

  // What to answer for a value that is not implemented: kUnimplemented, "config.json: NAME WHY".
  Error unsupported(const std::string& name, const std::string& why) const;

  // A field that holds one token id or a list of them; empty if absent.
  Result<std::vector<int32_t>> token_ids(const std::string& name) const;

 private:
  std::string where_;                   // the file's name, to begin a message with
  std::map<std::string, Json> fields_;  // scalars and arrays
  std::set<std::string> nulls_;
};

}  // namespace sluice::model
