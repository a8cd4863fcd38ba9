#include "cli/load_plan.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "cli/parse.h"

namespace sluice::cli {
namespace {

constexpr size_t kMaxShares = 64;
constexpr int64_t kMaxTokens = 1 << 20;
constexpr double kMaxWeight = 1e6;
// Short and common: most tokenizers have a token for each.
constexpr std::array<std::string_view, 32> kWords = {
    "the", "of",   "and", "to",  "in",   "is",   "that", "it",   "was", "for",  "on",
    "are", "with", "as",  "at",  "be",   "this", "have", "from", "or",  "one",  "had",
    "by",  "word", "but", "not", "what", "all",  "were", "when", "we",  "there"};

std::unexpected<Error> malformed(std::string_view text) {
  return invalid_argument(quote(text) +
                          " is not PROMPT/OUTPUT tokens, at least 1 each, perhaps with *WEIGHT");
}

Result<LengthShare> parse_share(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return malformed(text);
  const size_t star = text.find('*', slash);
  const auto prompt = parse_int64(text.substr(0, slash));
  const auto output = parse_int64(text.substr(slash + 1, star - std::min(star, slash + 1)));
  const auto weight =
      star == std::string_view::npos ? Result<double>(1.0) : parse_double(text.substr(star + 1));
  const auto is_length = [](const Result<int64_t>& n) { return n && *n >= 1 && *n <= kMaxTokens; };
  if (!is_length(prompt) || !is_length(output)) return malformed(text);
  if (!weight || !(*weight > 0 && *weight <= kMaxWeight)) return malformed(text);
  return LengthShare{static_cast<int32_t>(*prompt), static_cast<int32_t>(*output), *weight};
}

std::vector<double> weights(const std::vector<LengthShare>& mix) {
  std::vector<double> all;
  for (const LengthShare& share : mix) all.push_back(share.weight);
  return all;
}

}  // namespace

Result<std::vector<LengthShare>> parse_mix(const std::string& text) {
  std::vector<LengthShare> mix;
  std::string_view rest = text;
  while (true) {
    const size_t comma = rest.find(',');
    auto share = parse_share(rest.substr(0, comma));
    if (!share) return std::unexpected(std::move(share.error()));
    mix.push_back(*share);
    if (comma == std::string_view::npos) return mix;
    rest.remove_prefix(comma + 1);
    if (mix.size() == kMaxShares) {
      return invalid_argument("has more than " + std::to_string(kMaxShares) + " lengths");
    }
  }
}

LoadPlan::LoadPlan(const LoadOptions& options, std::string model, int32_t vocabulary_size)
    : options_(options),
      model_(std::move(model)),
      vocabulary_size_(vocabulary_size),
      random_(options.bench.seed),
      gap_(options.rate > 0 ? options.rate / options.burst : 1),
      share_([all = weights(options.mix)] {
        return std::discrete_distribution<size_t>(all.begin(), all.end());
      }()) {}

LoadPlan::Arrival LoadPlan::next() {
  const bool begins_burst = num_made_ % static_cast<uint64_t>(options_.burst) == 0;
  if (options_.rate > 0 && begins_burst) at_s_ += gap_(random_);
  const LengthShare& share = options_.mix[share_(random_)];
  BenchOptions bench = options_.bench;
  bench.prompt_tokens = share.prompt_tokens;
  bench.output_tokens = share.output_tokens;
  Arrival arrival{at_s_, share.output_tokens, bench_request(bench, num_made_++, vocabulary_size_)};
  arrival.request.model = model_;
  if (options_.ends_naturally) arrival.request.ignore_eos = false;
  if (options_.has_text_prompts || options_.is_chat) put_into_words(arrival.request);
  return arrival;
}

// A word for each of its tokens.
void LoadPlan::put_into_words(GenerateRequest& request) const {
  std::string text;
  for (const int64_t id : *request.token_ids) {
    if (!text.empty()) text += ' ';
    text += kWords[static_cast<size_t>(id) % kWords.size()];
  }
  request.token_ids.reset();
  if (!options_.is_chat) {
    request.prompt = std::move(text);
    return;
  }
  request.chat.emplace();
  request.chat->messages = R"([{"role":"user","content":")" + text + "\"}]";
}

}  // namespace sluice::cli
