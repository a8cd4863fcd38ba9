#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/philox.h"
#include "tests/sampling/rows.h"

namespace sluice::sampling {
namespace {

// Steps 2 to 4 of sampler.h in double precision over a sorted row.
class Oracle final {
 public:
  Oracle(const std::vector<float>& row, const SamplingParams& params) : row_(row) {
    order_.resize(row.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(), [&](int a, int b) { return row[a] > row[b]; });
    const double max = row[order_[0]];
    weights_.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) {
      weights_[i] = std::exp((static_cast<double>(row[i]) - max) / params.temperature);
    }
    size_t kept = row.size();
    if (params.top_k > 0) kept = std::min<size_t>(kept, static_cast<size_t>(params.top_k));
    kept = cut_mass(kept, params.top_p);
    size_t ratio = 0;
    while (ratio < kept && weights_[order_[ratio]] >= params.min_p) ++ratio;
    order_.resize(std::max<size_t>(1, ratio));
    std::sort(order_.begin(), order_.end());
    for (const int id : order_) total_ += weights_[id];
  }

  // Whether `token` is what the bits draw, with a slack for the limited precision at the borders.
  bool agrees(int32_t token, uint64_t bits) const {
    const double wanted = std::ldexp(static_cast<double>(bits), -64) * total_;
    const double slack = 2e-5 * total_;
    double running = 0;
    for (const int id : order_) {
      const double next = running + weights_[id];
      if (id == token) return wanted >= running - slack && wanted <= next + slack;
      running = next;
    }
    return false;
  }
  size_t num_kept() const { return order_.size(); }
  bool keeps(int32_t token) const {
    return std::binary_search(order_.begin(), order_.end(), token);
  }

 private:
  size_t cut_mass(size_t kept, double top_p) const {
    if (top_p >= 1) return kept;
    double all = 0;
    for (size_t i = 0; i < kept; ++i) all += weights_[order_[i]];
    double running = 0;
    for (size_t i = 0; i < kept; ++i) {
      running += weights_[order_[i]];
      if (running >= top_p * all) return i + 1;
    }
    return kept;
  }

  const std::vector<float>& row_;
  std::vector<int> order_;
  std::vector<double> weights_;
  double total_ = 0;
};

struct Case {
  const char* name;
  int32_t size;
  float spread;
  float step;
  SamplingParams params;
  std::vector<float> spikes = {};  // logits of a few ids
};

SamplingParams make(float temperature, int32_t top_k, float top_p, float min_p) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.min_p = min_p;
  return params;
}

class CutsTest : public testing::TestWithParam<Case> {};

TEST_P(CutsTest, DrawsWhatTheSortedRowDraws) {
  const Case& c = GetParam();
  for (uint32_t row_seed = 1; row_seed <= 3; ++row_seed) {
    auto row = random_row(c.size, c.spread, row_seed, c.step);
    for (size_t i = 0; i < c.spikes.size(); ++i) row[(i + 1) * 977] = c.spikes[i];
    SamplingParams params = c.params;
    params.seed = 1000 + row_seed;
    const Oracle oracle(row, params);
    for (uint32_t position = 0; position < 120; ++position) {
      const RowResult result = sample_one(row, params, position);
      ASSERT_EQ(result.fault, RowFault::kNone);
      ASSERT_TRUE(oracle.agrees(result.token_id, kernels::random_bits(params.seed, 0, position)))
          << "row seed " << row_seed << ", position " << position << ", token " << result.token_id
          << ", kept " << oracle.num_kept() << (oracle.keeps(result.token_id) ? "" : ", not kept");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, CutsTest,
    testing::Values(Case{"plain", 1000, 2, 0, make(1, 0, 1, 0)},
                    Case{"plain_large", 50000, 1, 0, make(1, 0, 1, 0)},
                    Case{"one_id", 1, 1, 0, make(1, 0, 0.5f, 0)},
                    Case{"group_border", 129, 2, 0, make(1, 5, 0.9f, 0)},
                    Case{"cold", 1000, 2, 0, make(0.1f, 0, 0.9f, 0)},
                    Case{"hot", 1000, 2, 0, make(50, 0, 0.9f, 0)},
                    Case{"very_hot", 1000, 2, 0, make(1e30f, 0, 0.9f, 0)},
                    Case{"top_p", 50000, 1, 0, make(0.7f, 0, 0.9f, 0)},
                    Case{"top_p_peaked", 50000, 6, 0, make(0.7f, 0, 0.9f, 0)},
                    Case{"top_p_ties", 5000, 1, 0.5f, make(1, 0, 0.8f, 0)},
                    Case{"top_p_all_equal", 5000, 0, 0, make(1, 0, 0.3f, 0)},
                    Case{"top_p_tiny", 5000, 1, 0, make(1, 0, 1e-6f, 0)},
                    Case{"top_k_small", 50000, 1, 0, make(1, 50, 1, 0)},
                    Case{"top_k_one", 5000, 1, 0.25f, make(1, 1, 1, 0)},
                    Case{"top_k_large", 50000, 1, 0, make(1, 20000, 1, 0)},
                    Case{"top_k_ties", 5000, 1, 0.5f, make(1, 700, 1, 0)},
                    Case{"top_k_all_equal", 5000, 0, 0, make(1, 7, 1, 0)},
                    Case{"top_k_beyond", 500, 1, 0, make(1, 1000, 1, 0)},
                    Case{"top_k_top_p", 50000, 1, 0, make(1, 100, 0.5f, 0)},
                    Case{"top_k_top_p_large", 50000, 1, 0.01f, make(1, 9000, 0.9f, 0)},
                    Case{"min_p", 50000, 1, 0, make(1, 0, 1, 0.1f)},
                    Case{"min_p_one", 5000, 1, 0, make(1, 0, 1, 1)},
                    // Rows large enough for a sample to tell where the cut falls.
                    Case{"sampled", 250880, 0.5f, 0, make(0.7f, 0, 0.9f, 0)},
                    Case{"sampled_uneven", 70001, 1.5f, 0, make(0.7f, 0, 0.9f, 0)},
                    Case{"sampled_peaked", 250880, 3, 0, make(0.7f, 0, 0.9f, 0)},
                    Case{"sampled_very_peaked", 70001, 12, 0, make(0.7f, 0, 0.9f, 0)},
                    // What a sample misses and what the rest's sample must be set against.
                    Case{"sampled_spiked", 250880, 0.5f, 0, make(0.7f, 0, 0.9f, 0), {9.3f}},
                    Case{"sampled_spikes", 70001, 0.5f, 0, make(1, 0, 0.8f, 0), {9, 8.5f, 8, 6}},
                    Case{"sampled_spike_only", 70001, 0.5f, 0, make(1, 0, 0.9f, 0), {30}},
                    // A rank that a sample tells, with ties at the cut, and one beyond its reach.
                    Case{"sampled_top_k", 250880, 0.5f, 0, make(0.7f, 100000, 0.9f, 0)},
                    Case{"sampled_top_k_ties", 70001, 0.5f, 0.25f, make(1, 30000, 1, 0)},
                    Case{"sampled_top_k_all_equal", 70001, 0, 0, make(1, 30000, 0.5f, 0)},
                    Case{"sampled_top_k_most", 70001, 0.5f, 0, make(1, 69990, 0.9f, 0.01f)},
                    Case{"sampled_top_k_spiked", 70001, 2, 0, make(1, 20000, 0.9f, 0), {30, 12}},
                    Case{"sampled_ties", 70001, 0.5f, 0.25f, make(1, 0, 0.6f, 0)},
                    Case{"sampled_all_equal", 70001, 0, 0, make(1, 0, 0.3f, 0)},
                    Case{"sampled_tiny", 70001, 0.5f, 0, make(1, 0, 1e-6f, 0)},
                    Case{"sampled_nearly_all", 70001, 0.5f, 0, make(1, 0, 0.9999f, 0)},
                    Case{"sampled_min_p", 70001, 0.5f, 0, make(1, 0, 0.9f, 0.3f)},
                    Case{"all_cuts", 50000, 2, 0, make(1.3f, 900, 0.95f, 0.02f)}),
    [](const auto& info) { return info.param.name; });

// A row made to mislead a sample of its groups' first elements.
TEST(CutsTest, ASampleThatMisleadsCostsOnlyTime) {
  for (const float inside : {4.0f, -4.0f}) {
    auto row = random_row(70001, 0.5f, 1);
    for (size_t i = 0; i < row.size(); ++i) {
      if (i % 128 < 16) row[i] += inside;
    }
    const SamplingParams params = make(1, 0, 0.9f, 0);
    const Oracle oracle(row, params);
    for (uint32_t position = 0; position < 60; ++position) {
      const RowResult result = sample_one(row, params, position);
      ASSERT_TRUE(oracle.agrees(result.token_id, kernels::random_bits(params.seed, 0, position)));
    }
  }
}

TEST(CutsTest, TiesWithTheLastKeptIdAreCutById) {
  std::vector<float> row(400, 1.0f);
  const SamplingParams params = make(1, 3, 1, 0);
  for (uint32_t position = 0; position < 200; ++position) {
    EXPECT_LT(sample_one(row, params, position).token_id, 3);
  }
}

TEST(CutsTest, MinusInfinityIsNeverDrawn) {
  std::vector<float> row(300, kMinusInfinity);
  row[200] = -5;
  row[299] = -4;
  for (const SamplingParams& params :
       {make(1, 0, 1, 0), make(1, 0, 0.999f, 0), make(1, 250, 1, 0), make(3e4f, 0, 1, 1e-30f)}) {
    int seen_200 = 0;
    for (uint32_t position = 0; position < 200; ++position) {
      const int32_t token = sample_one(row, params, position).token_id;
      ASSERT_TRUE(token == 200 || token == 299) << token;
      seen_200 += token == 200;
    }
    EXPECT_GT(seen_200, 20);
  }
}

TEST(TopKTest, KeepsTheFirstOfNeighboursThatTie) {
  auto row = random_row(50000, 1, 21);
  std::fill(row.begin() + 100, row.begin() + 105, 20.0f);
  SamplingParams params;
  params.temperature = 1;
  params.top_k = 3;
  std::set<int32_t> drawn;
  for (uint32_t position = 0; position < 200; ++position) {
    drawn.insert(sample_one(row, params, position).token_id);
  }
  EXPECT_EQ(drawn, (std::set<int32_t>{100, 101, 102}));
}

}  // namespace
}  // namespace sluice::sampling
