#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "tokenizer/chat/library.h"
#include "tokenizer/chat/text.h"

namespace sluice::tokenizer::chat {
namespace {

// Writes what Python's json.dumps does.
class Writer final {
 public:
  Writer(const JsonStyle& style, Budget* budget) : style_(style), budget_(budget) {}

  std::string take() { return std::move(out_); }

  void write(const Value& value, int level) {
    budget_->take_steps(1);
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        return;
      case Kind::kBool:
        out_ += value.truth() ? "true" : "false";
        return;
      case Kind::kInt:
        out_ += std::to_string(value.as_integer());
        return;
      case Kind::kFloat:
        write_number(value.as_number());
        return;
      case Kind::kString:
        write_text(value.as_text());
        return;
      case Kind::kList:
      case Kind::kTuple:
        write_list(value.as_list(), level);
        return;
      case Kind::kDict:
        write_dict(value.as_dict(), level);
        return;
      default:
        stop("tojson of " + value.description());
    }
  }

 private:
  void write_number(double value) {
    if (std::isnan(value)) {
      out_ += "NaN";
    } else if (std::isinf(value)) {
      out_ += value > 0 ? "Infinity" : "-Infinity";
    } else {
      out_ += number_text(value);
    }
  }

  void write_escape(unsigned code) {
    char buffer[16];
    std::snprintf(buffer, sizeof(buffer), "\\u%04x", code);
    out_ += buffer;
  }

  void write_text(std::string_view text) {
    static constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
    static constexpr std::string_view kTo = "\"\\nrtfb";
    budget_->take_bytes(text.size());
    out_ += '"';
    while (!text.empty()) {
      size_t length = 0;
      const char32_t character = decode_utf8_character(text, &length);
      const size_t named = length == 1 ? kFrom.find(text[0]) : std::string_view::npos;
      if (named != std::string_view::npos) {
        out_ += '\\';
        out_ += kTo[named];
      } else if (character < 0x20 ||
                 (style_.ensure_ascii && character >= 0x7F && !is_mark(character))) {
        if (character >= 0x10000) {
          write_escape(0xD800 + static_cast<unsigned>((character - 0x10000) >> 10));
          write_escape(0xDC00 + static_cast<unsigned>((character - 0x10000) & 0x3FF));
        } else {
          write_escape(static_cast<unsigned>(character));
        }
      } else {
        out_ += text.substr(0, length);
      }
      text.remove_prefix(length);
    }
    out_ += '"';
  }

  void start_line(int level) {
    if (!style_.has_indent) return;
    budget_->take_bytes(style_.indent.size() * static_cast<size_t>(level));
    out_ += '\n';
    for (int i = 0; i < level; ++i) out_ += style_.indent;
  }

  void write_list(const List& items, int level) {
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      start_line(level + 1);
      write(items[i], level + 1);
    }
    if (!items.empty()) start_line(level);
    out_ += ']';
  }

  std::string key_text(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return key.as_text();
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return key.truth() ? "true" : "false";
      case Kind::kInt:
      case Kind::kFloat:
        return to_text(key, budget_);
      default:
        stop("tojson of a dict with " + key.description() + " as a key");
    }
  }

  void write_dict(const Dict& dict, int level) {
    Dict sorted;
    if (style_.sort_keys) {
      budget_->take_elements(dict.size());
      sorted = dict;
      std::ranges::stable_sort(sorted, [&](const auto& left, const auto& right) {
        return less(left.first, right.first, budget_);
      });
    }
    const Dict& entries = style_.sort_keys ? sorted : dict;
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      start_line(level + 1);
      write_text(key_text(entries[i].first));
      out_ += style_.key_separator;
      write(entries[i].second, level + 1);
    }
    if (!entries.empty()) start_line(level);
    out_ += '}';
  }

  const JsonStyle& style_;
  Budget* budget_;
  std::string out_;
};

}  // namespace

std::string dump_json(const Value& value, const JsonStyle& style, Budget* budget) {
  Writer writer(style, budget);
  writer.write(value, 0);
  std::string text = writer.take();
  budget->take_bytes(text.size());
  return text;
}

}  // namespace sluice::tokenizer::chat
