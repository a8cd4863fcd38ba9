#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::cli {

// The conversation of `sluice chat`: who said what so far.
class ChatSession {
 public:
  // An empty `system` stands for none.
  explicit ChatSession(std::string system) : system_(std::move(system)) {}

  void add(std::string role, std::string content) {
    turns_.emplace_back(std::move(role), std::move(content));
  }
  // Requires: !is_empty().
  void drop_last() { turns_.pop_back(); }
  void reset() { turns_.clear(); }
  // Begins anew with other instructions.
  void set_system(std::string system);
  bool is_empty() const { return turns_.empty(); }

  // As ChatPrompt::messages has them.
  std::string messages() const;

 private:
  std::string system_;
  std::vector<std::pair<std::string, std::string>> turns_;  // role, content
};

// What a person typed.
struct ChatLine {
  enum class Kind {
    kNothing,  // white space
    kMessage,  // `text` is for the model
    kHelp,
    kReset,
    kSystem,  // `text` are the new instructions
    kQuit,
    kUnknown,  // `text` is the command that is none
  };
  Kind kind = Kind::kNothing;
  std::string text;
};

// A line that begins with "/" is a command, and with "//" a message that begins with "/".
ChatLine read_chat_line(std::string_view line);

// What /help says.
std::string_view chat_help();

}  // namespace sluice::cli
