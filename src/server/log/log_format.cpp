#include "server/log/log_format.h"

#include <spdlog/details/log_msg.h>
#include <spdlog/details/os.h>
#include <spdlog/fmt/fmt.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>

#include "base/json.h"

namespace sluice::server {
namespace {

std::string quoted(std::string_view text) {
  return Json(text).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

// Everything below the blank, DEL, and what is not ASCII and begins with U+0080 to U+009F (which
// terminals take for commands).
std::string one_line(std::string_view text) {
  std::string line;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool is_c1 =
        byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (byte < 0x20 || byte == 0x7f || is_c1) {
      line += fmt::format("\\x{:02x}", byte);
      if (is_c1) line += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    } else {
      line += text[i];
    }
  }
  return line;
}

// With the offset of the machine's time zone, as RFC 3339 has it.
std::string time_text(spdlog::log_clock::time_point time) {
  const std::tm local = spdlog::details::os::localtime(spdlog::log_clock::to_time_t(time));
  std::array<char, 32> date{};
  std::array<char, 8> offset{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &local);
  std::strftime(offset.data(), offset.size(), "%z", &local);
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()) %
      std::chrono::seconds(1);
  const std::string zone = offset.data();  // "+0130"
  const std::string hours = zone.substr(0, 3);
  return fmt::format("{}.{:03}{}:{}", date.data(), milliseconds.count(), hours,
                     zone.size() > 3 ? zone.substr(3) : "00");
}

class LogFormatter final : public spdlog::formatter {
 public:
  explicit LogFormatter(bool is_json) : is_json_(is_json) {}

  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string line = is_json_ ? json_line(message) : text_line(message);
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<LogFormatter>(is_json_);
  }

 private:
  static std::string_view view(spdlog::string_view_t text) { return {text.data(), text.size()}; }
  static bool is_structured(const spdlog::details::log_msg& message) {
    return view(message.logger_name) == kStructuredLogger;
  }
  static std::string_view level(const spdlog::details::log_msg& message) {
    return view(spdlog::level::to_string_view(message.level));
  }

  static std::string text_line(const spdlog::details::log_msg& message) {
    return fmt::format("{} {}: {}{}", time_text(message.time), level(message),
                       is_structured(message) ? "request " : "", one_line(view(message.payload)));
  }
  static std::string json_line(const spdlog::details::log_msg& message) {
    const std::string head = fmt::format(R"({{"time":"{}","level":"{}","message":)",
                                         time_text(message.time), level(message));
    if (is_structured(message)) {
      return head + "\"request\"," + std::string(view(message.payload)) + "}";
    }
    return head + quoted(view(message.payload)) + "}";
  }

  const bool is_json_;
};

}  // namespace

LogField text_field(const char* name, std::string_view value) {
  return {name, quoted(value)};
}
LogField number_field(const char* name, double value) {
  return {name, Json(value).dump()};
}
LogField number_field(const char* name, int64_t value) {
  return {name, std::to_string(value)};
}

std::string join_fields(const std::vector<LogField>& fields, bool is_json) {
  std::string text;
  for (const LogField& field : fields) {
    if (!text.empty()) text += is_json ? ',' : ' ';
    text += is_json ? fmt::format("\"{}\":", field.name) : fmt::format("{}=", field.name);
    text += field.json;
  }
  return text;
}

std::unique_ptr<spdlog::formatter> make_log_formatter(bool is_json) {
  return std::make_unique<LogFormatter>(is_json);
}

}  // namespace sluice::server
