#include "cli/chat_session.h"

#include <nlohmann/json.hpp>

namespace sluice::cli {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

}  // namespace

void ChatSession::set_system(std::string system) {
  system_ = std::move(system);
  reset();
}

std::string ChatSession::messages() const {
  using OrderedJson = nlohmann::ordered_json;
  OrderedJson messages = OrderedJson::array();
  if (!system_.empty()) messages.push_back({{"role", "system"}, {"content", system_}});
  for (const auto& [role, content] : turns_) {
    messages.push_back({{"role", role}, {"content", content}});
  }
  // What is not UTF-8 was typed so, and cannot be sent so.
  return messages.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

ChatLine read_chat_line(std::string_view line) {
  const std::string_view text = trimmed(line);
  if (text.empty()) return {};
  if (text.starts_with("//")) return {ChatLine::Kind::kMessage, std::string(text.substr(1))};
  if (!text.starts_with('/')) return {ChatLine::Kind::kMessage, std::string(text)};
  const size_t end = text.find_first_of(kSpace);
  const std::string_view command = text.substr(0, end);
  const std::string_view rest =
      end == std::string_view::npos ? std::string_view() : trimmed(text.substr(end));
  if (command == "/system") return {ChatLine::Kind::kSystem, std::string(rest)};
  if (rest.empty()) {
    if (command == "/help") return {ChatLine::Kind::kHelp, {}};
    if (command == "/reset") return {ChatLine::Kind::kReset, {}};
    if (command == "/quit" || command == "/exit") return {ChatLine::Kind::kQuit, {}};
  }
  return {ChatLine::Kind::kUnknown, std::string(command)};
}

std::string_view chat_help() {
  return "/reset        forget the conversation, keep the instructions\n"
         "/system TEXT  new instructions, and a new conversation\n"
         "/help         this\n"
         "/quit         end, as Ctrl-D does\n"
         "//TEXT        a message that begins with /\n"
         "Ctrl-C stops an answer; what came of it stays in the conversation.\n";
}

}  // namespace sluice::cli
