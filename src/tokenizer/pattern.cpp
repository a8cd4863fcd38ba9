#include "tokenizer/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

namespace sluice::tokenizer {
namespace {

// Steps of one match, and memory of its backtracking. Patterns in use need a few per character of
// one word even in a text of one endless word.
constexpr uint32_t kMaxMatchSteps = 20'000'000;
constexpr uint32_t kMaxHeapKib = 64 * 1024;
constexpr size_t kMinStackBytes = 32 * 1024;
constexpr size_t kMaxStackBytes = 16 * 1024 * 1024;

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeContext {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct FreeData {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct FreeStack {
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};

// nullptr if it is malformed.
pcre2_code* compile_translated(const std::string& expression) {
  int error = 0;
  size_t error_offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                    PCRE2_UTF | PCRE2_UCP, &error, &error_offset, nullptr);
  // Without just-in-time compilation (where the system forbids it) matching is slower, not wrong.
  if (code != nullptr) pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return code;
}

}  // namespace

struct Pattern::Code {
  std::unique_ptr<pcre2_code, FreeCode> common;       // for text without recent characters
  std::unique_ptr<pcre2_code, FreeCode> with_recent;  // null: `common` is right for all text
};

Pattern::Pattern(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

Result<Pattern> Pattern::compile(std::string_view expression) {
  const auto common = translate_expression(expression, false);
  if (!common) return std::unexpected(common.error());
  const auto with_recent = translate_expression(expression, true);
  if (!with_recent) return std::unexpected(with_recent.error());
  auto code = std::make_unique<Code>();
  code->common.reset(compile_translated(*common));
  if (*with_recent != *common) code->with_recent.reset(compile_translated(*with_recent));
  if (!code->common || (*with_recent != *common && !code->with_recent)) {
    return invalid_argument("the expression is malformed");
  }
  uint32_t may_be_empty = 0;
  pcre2_pattern_info(code->common.get(), PCRE2_INFO_MATCHEMPTY, &may_be_empty);
  if (may_be_empty != 0) {
    return fail(ErrorCode::kUnimplemented, "an expression that matches nothing is not supported");
  }
  return Pattern(std::move(code));
}

Result<Pattern> Pattern::literal(std::string_view text) {
  std::string expression;
  for (const char c : text) {
    const bool is_special =
        std::string_view("\\^$.[]|()?*+{}-#&").find(c) != std::string_view::npos;
    if (is_special) expression += '\\';
    expression += c;
  }
  return compile(expression);
}

struct Pattern::Matcher::State {
  const Code* pattern = nullptr;
  const pcre2_code* code = nullptr;
  std::unique_ptr<pcre2_match_data, FreeData> data;
  std::unique_ptr<pcre2_match_context, FreeContext> context;
  std::unique_ptr<pcre2_jit_stack, FreeStack> stack;
};

Pattern::Matcher::Matcher(const Pattern& pattern) : state_(std::make_unique<State>()) {
  state_->pattern = pattern.code_.get();
  state_->code = pattern.code_->common.get();
  state_->data.reset(pcre2_match_data_create(1, nullptr));
  state_->context.reset(pcre2_match_context_create(nullptr));
  state_->stack.reset(pcre2_jit_stack_create(kMinStackBytes, kMaxStackBytes, nullptr));
  pcre2_set_match_limit(state_->context.get(), kMaxMatchSteps);
  pcre2_set_heap_limit(state_->context.get(), kMaxHeapKib);
  pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
}

Pattern::Matcher::~Matcher() = default;

void Pattern::Matcher::expect_recent_characters(bool is_expected) {
  const bool is_other = is_expected && state_->pattern->with_recent;
  state_->code = is_other ? state_->pattern->with_recent.get() : state_->pattern->common.get();
}

Result<Pattern::Match> Pattern::Matcher::find(std::string_view text, size_t begin) {
  const int found =
      pcre2_match(state_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                  PCRE2_NO_UTF_CHECK, state_->data.get(), state_->context.get());
  if (found == PCRE2_ERROR_NOMATCH) return Match{text.size(), text.size()};
  if (found < 0) {
    return invalid_argument("text takes too many steps in the tokenizer's expression");
  }
  const size_t* offsets = pcre2_get_ovector_pointer(state_->data.get());
  return Match{offsets[0], offsets[1]};
}

}  // namespace sluice::tokenizer
