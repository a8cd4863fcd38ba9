#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "sluice/error.h"

namespace sluice::tokenizer {

// Typed reading of one JSON object, with errors that name the field by its path.
//
// `path` is the object's own path with a final dot, for example "model." ("" for the top level).
class JsonFields final {
 public:
  // `object` must outlive this. Requires: object.is_object().
  JsonFields(const Json& object, std::string path) : object_(&object), path_(std::move(path)) {}

  std::string name_of(std::string_view field) const { return path_ + std::string(field); }
  std::string type() const;  // the "type" string, empty if there is none

  // The field's value; nullptr if it is absent or null.
  const Json* find(std::string_view field) const;

  // The value or, if absent or null, the default. kInvalidArgument if it is of another type.
  Result<bool> boolean(std::string_view field, bool default_value) const;
  Result<std::string> text(std::string_view field, std::string_view default_value) const;
  Result<int64_t> integer(std::string_view field) const;  // must be there

  // kUnimplemented that names the first field that is in none of `known`.
  Result<void> only(std::initializer_list<std::string_view> known) const;

  Error wrong_type(std::string_view field, std::string_view expected) const;
  Error unsupported(std::string_view field, std::string_view value) const;

 private:
  const Json* object_;
  std::string path_;
};

}  // namespace sluice::tokenizer
