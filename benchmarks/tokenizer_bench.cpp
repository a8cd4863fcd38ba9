// Speed of one tokenizer on one thread: encoding, whole decoding and decoding token by token.
//
//   tokenizer_bench FOLDER TEXT_FILE [--benchmark_repetitions=9]
//
// FOLDER holds tokenizer.json or tokenizer.model; TEXT_FILE is well-formed UTF-8, best over 1 MB.
// The text is given in one piece, and again in paragraphs, as requests bring it. With repetitions
// Google Benchmark prints median and spread; peers/tokenizers_compare.py runs it beside the
// reference libraries. Ends with 1 if a text does not come back.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <fstream>
#include <iterator>

#include "tokenizer/detokenizer.h"
#include "tokenizer/tokenizer.h"

namespace {

using sluice::tokenizer::Detokenizer;
using sluice::tokenizer::Tokenizer;

std::vector<std::string> paragraphs_of(const std::string& text) {
  std::vector<std::string> paragraphs;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("\n\n", begin), text.size());
    if (end > begin) paragraphs.push_back(text.substr(begin, end - begin));
    begin = std::min(end + 2, text.size());
  }
  return paragraphs;
}

void encode(benchmark::State& state, const Tokenizer& tokenizer,
            const std::vector<std::string>& texts) {
  int64_t num_bytes = 0;
  for (auto _ : state) {
    for (const std::string& text : texts) {
      benchmark::DoNotOptimize(tokenizer.encode(text, true));
      num_bytes += static_cast<int64_t>(text.size());
    }
  }
  state.SetBytesProcessed(num_bytes);
}

void decode(benchmark::State& state, const Tokenizer& tokenizer,
            const std::vector<int32_t>& token_ids) {
  int64_t num_bytes = 0;
  for (auto _ : state) {
    const std::string text = tokenizer.decode(token_ids, true);
    num_bytes += static_cast<int64_t>(text.size());
  }
  state.SetBytesProcessed(num_bytes);
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(token_ids.size()));
}

void detokenize(benchmark::State& state, const Tokenizer& tokenizer,
                const std::vector<int32_t>& token_ids) {
  for (auto _ : state) {
    Detokenizer detokenizer(tokenizer, true);
    for (const int32_t token_id : token_ids) benchmark::DoNotOptimize(detokenizer.push(token_id));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(token_ids.size()));
}

int fail(const std::string& message) {
  std::fprintf(stderr, "tokenizer_bench: %s\n", message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 3) return fail("usage: tokenizer_bench FOLDER TEXT_FILE [--benchmark_...]");
  const auto tokenizer = sluice::tokenizer::load_tokenizer(argv[1]);
  if (!tokenizer) return fail(tokenizer.error().message);
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto token_ids = (*tokenizer)->encode(text, false);
  if (!token_ids || token_ids->empty()) return fail("the text is empty or not UTF-8");
  // Some tokenizers normalize text; but what they made of it must come back from its own ids.
  const std::string decoded = (*tokenizer)->decode(*token_ids, true);
  const auto again = (*tokenizer)->encode(decoded, false);
  if (!again || (*tokenizer)->decode(*again, true) != decoded) return fail("a text changed");

  const std::vector<std::string> whole = {text};
  const std::vector<std::string> paragraphs = paragraphs_of(text);
  const Tokenizer& it = **tokenizer;
  benchmark::RegisterBenchmark("encode/whole", [&](auto& state) { encode(state, it, whole); });
  benchmark::RegisterBenchmark("encode/paragraphs",
                               [&](auto& state) { encode(state, it, paragraphs); });
  benchmark::RegisterBenchmark("decode", [&](auto& state) { decode(state, it, *token_ids); });
  benchmark::RegisterBenchmark("detokenize",
                               [&](auto& state) { detokenize(state, it, *token_ids); });
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
