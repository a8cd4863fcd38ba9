#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sluice/error.h"

// The values of a chat template: what Python's would be, as far as templates can tell.
namespace sluice::tokenizer::chat {

// Why a template stopped. Thrown inside this folder only; ChatTemplate makes an Error of it.
struct Failure {
  ErrorCode code = ErrorCode::kInvalidArgument;
  std::string reason;
  int line = 0;  // 0: where the interpreter stands
};
[[noreturn]] void stop(std::string reason);
[[noreturn]] void stop_unsupported(std::string reason);

// What one rendering may still spend; whatever costs time or memory asks it first.
class Budget final {
 public:
  Budget(size_t max_steps, size_t max_value_bytes)
      : steps_left_(max_steps), max_steps_(max_steps), max_value_bytes_(max_value_bytes) {}

  void take_steps(size_t count);
  void take_bytes(size_t bytes);  // of one text that is about to exist
  void take_elements(size_t count) { take_steps(4 * count); }

 private:
  size_t steps_left_;
  size_t max_steps_;
  size_t max_value_bytes_;
};

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kGenerator,  // what map, select and their like give: always true, without a length
  kDict,
  kNamespace,
  kLoop,
  kMacro,
  kFunction,
  kMethod,
};

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<Value, Value>>;  // in order of insertion, as Python's

struct Namespace;
struct Macro;
struct Loop;
struct Method;
enum class Function : uint8_t { kRange, kNamespace, kDict, kRaiseException, kStrftimeNow };

// Immutable and cheap to copy. Lists and dicts cannot contain themselves, because templates cannot
// change them; namespaces can be changed, so the interpreter owns them and a value only points.
class Value final {
 public:
  static constexpr int kMaxDepth = 100;  // of lists and dicts in one another

  Value() = default;                         // undefined
  static Value undefined(std::string what);  // `what`: for the message if it is used
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value number(double value);
  static Value text(std::string value);
  static Value list(List items, Kind kind = Kind::kList);  // or kTuple, kGenerator
  static Value dict(Dict entries);
  static Value of(Namespace* value);
  static Value of(const Macro* value);
  static Value of(std::shared_ptr<const Loop> value);
  static Value of(Function value);
  static Value method(const Value& self, std::string name);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_sequence() const { return kind_ >= Kind::kList && kind_ <= Kind::kGenerator; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }

  // Each requires its kind; as_integer also a bool, as_number any number, as_list any sequence.
  int64_t as_integer() const { return scalar_.integer; }
  double as_number() const;
  const std::string& as_text() const { return *static_cast<const std::string*>(object_.get()); }
  const List& as_list() const { return *static_cast<const List*>(object_.get()); }
  const Dict& as_dict() const { return *static_cast<const Dict*>(object_.get()); }
  Namespace* as_namespace() const { return static_cast<Namespace*>(scalar_.pointer); }
  const Macro* as_macro() const { return static_cast<const Macro*>(scalar_.pointer); }
  const Loop& as_loop() const { return *static_cast<const Loop*>(object_.get()); }
  const Method& as_method() const { return *static_cast<const Method*>(object_.get()); }
  Function as_function() const { return static_cast<Function>(scalar_.integer); }

  bool truth() const;
  // What a message calls it, for example "a list"; for undefined, what was not found.
  std::string description() const;

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  union Scalar {
    int64_t integer;
    double number;
    void* pointer;
  };
  Kind kind_ = Kind::kUndefined;
  uint8_t depth_ = 0;
  Scalar scalar_ = {0};
  std::shared_ptr<const void> object_;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> fields;
};
struct Loop {
  List items;
  size_t index = 0;
};
struct Method {
  Value self;
  std::string name;
};

// What a caller gave to a function, filter or test.
struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
};

// The value of a string key; nullptr if there is none.
const Value* find(const Dict& dict, std::string_view key);

bool equal(const Value& left, const Value& right, Budget* budget);
// left < right as Python orders them; stops if it does not.
bool less(const Value& left, const Value& right, Budget* budget);
bool contains(const Value& container, const Value& item, Budget* budget);

// How many things are in it, or characters of a text; stops if it has no length.
size_t length(const Value& value);
// What a loop over it sees: items, keys, characters, nothing for undefined; stops for the rest.
List iterate(const Value& value, Budget* budget);

// Python's str() and repr().
std::string to_text(const Value& value, Budget* budget);
void append_repr(const Value& value, Budget* budget, std::string* out);
std::string number_text(double value);  // Python's repr of a float

}  // namespace sluice::tokenizer::chat
