#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/compute.h"
#include "sampling/row_kernels.h"
#include "tests/sampling/rows.h"

namespace sluice::sampling {
namespace {

constexpr int32_t kVocabulary = 5003;

struct Crowd {
  std::vector<std::vector<float>> rows;
  std::vector<SamplingParams> params;
  std::vector<RowTask> tasks;
};

Crowd make_crowd(int size) {
  Crowd crowd;
  for (int i = 0; i < size; ++i) {
    crowd.rows.push_back(random_row(kVocabulary, 2, 100 + static_cast<uint32_t>(i)));
    SamplingParams params;
    params.temperature = i % 4 == 0 ? 0.0f : 0.5f + 0.1f * static_cast<float>(i % 7);
    params.top_p = i % 3 == 0 ? 1.0f : 0.9f;
    params.top_k = i % 5 == 0 ? 40 : 0;
    params.seed = static_cast<uint64_t>(i);
    crowd.params.push_back(params);
  }
  for (int i = 0; i < size; ++i) {
    RowTask task = task_of(crowd.rows[i], crowd.params[i]);
    task.position = static_cast<uint32_t>(7 * i);
    task.num_logprobs = i % 2 == 0 ? 5 : -1;
    if (i % 6 == 5) task.scored_token = i;
    crowd.tasks.push_back(task);
  }
  return crowd;
}

void expect_same_bits(const RowResult& a, const RowResult& b) {
  EXPECT_EQ(a.fault, b.fault);
  EXPECT_EQ(a.token_id, b.token_id);
  ASSERT_EQ(a.top.size(), b.top.size());
  if (!a.top.empty()) {
    EXPECT_EQ(std::bit_cast<int32_t>(a.logprob), std::bit_cast<int32_t>(b.logprob));
  }
  for (size_t i = 0; i < a.top.size(); ++i) {
    EXPECT_EQ(a.top[i].token_id, b.top[i].token_id);
    EXPECT_EQ(std::bit_cast<int32_t>(a.top[i].logprob), std::bit_cast<int32_t>(b.top[i].logprob));
  }
}

TEST(SamplerRowLaw, AloneInCrowdsAndOnThreads) {
  Crowd crowd = make_crowd(33);
  std::vector<RowResult> alone(33);
  for (size_t i = 0; i < 33; ++i) alone[i] = sample_one(crowd.tasks[i], kVocabulary);
  for (const size_t size : {2, 7, 33}) {
    for (const int num_threads : {1, 2, 3}) {
      kernels::ThreadPool pool(num_threads);
      const kernels::ComputeScope scope(pool);
      std::vector<RowResult> together(size);
      sample_rows({crowd.tasks.data(), size}, kVocabulary, together);
      for (size_t i = 0; i < size; ++i) expect_same_bits(alone[i], together[i]);
    }
  }
}

// What split() says, against the masses of weigh().
void expect_split(const RowKernels& kernels, const std::vector<float>& row, int size,
                  WeightScale scale, const uint64_t* mass) {
  for (const Bracket bracket :
       {Bracket{-3, 3}, Bracket{0, 0}, Bracket{row[static_cast<size_t>(size / 2)] + 0.0f, 100}}) {
    if (!std::isfinite(bracket.lowest)) continue;
    std::vector<float> z(static_cast<size_t>(size) + 16);
    std::vector<int32_t> index(z.size());
    const GroupSplit found =
        kernels.split(row.data(), size, scale, bracket, {z.data(), index.data(), 1000});
    uint64_t whole = 0;
    uint64_t above = 0;
    size_t num_inside = 0;
    for (int i = 0; i < size; ++i) {
      const float value = row[static_cast<size_t>(i)];
      whole += mass[i];
      if (value > bracket.highest) above += mass[i];
      if (value < bracket.lowest || value > bracket.highest) continue;
      ASSERT_LT(num_inside, static_cast<size_t>(found.num_inside));
      EXPECT_EQ(z[num_inside], value);
      EXPECT_EQ(index[num_inside++], 1000 + i);
    }
    EXPECT_EQ(num_inside, static_cast<size_t>(found.num_inside));
    EXPECT_EQ(found.whole, whole);
    EXPECT_EQ(found.above, above);
  }
}

// What collect() finds, one by one.
void expect_collect(const RowKernels& kernels, const std::vector<float>& row, int size) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Bracket bracket : {Bracket{-3, 3}, Bracket{0, infinity}, Bracket{-infinity, 3},
                                Bracket{-infinity, infinity}, Bracket{100, infinity}}) {
    std::vector<float> z(static_cast<size_t>(size) + 16);
    std::vector<int32_t> index(z.size());
    const GroupCount found =
        kernels.collect(row.data(), size, bracket, {z.data(), index.data(), 1000});
    std::vector<int32_t> inside;
    int num_above = 0;
    for (int i = 0; i < size; ++i) {
      const float value = row[static_cast<size_t>(i)];
      if (value > bracket.highest) ++num_above;
      if (value >= bracket.lowest && value <= bracket.highest) inside.push_back(1000 + i);
    }
    EXPECT_EQ(found.num_above, num_above);
    ASSERT_EQ(static_cast<size_t>(found.num_inside), inside.size());
    for (size_t i = 0; i < inside.size(); ++i) {
      EXPECT_EQ(index[i], inside[i]);
      EXPECT_EQ(z[i], row[static_cast<size_t>(inside[i] - 1000)]);
    }
  }
}

TEST(SamplerRowLaw, AFaultyRowEndsAloneAndItsNeighboursKeepTheirBits) {
  Crowd crowd = make_crowd(8);
  std::vector<RowResult> before(8);
  sample_rows(crowd.tasks, kVocabulary, before);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float poison : {std::nanf(""), -std::nanf(""), infinity}) {
    for (const size_t place : {0, 127, 128, 5002}) {
      const float healthy = crowd.rows[3][place];
      crowd.rows[3][place] = poison;
      std::vector<RowResult> after(8);
      sample_rows(crowd.tasks, kVocabulary, after);
      crowd.rows[3][place] = healthy;
      EXPECT_EQ(after[3].fault, RowFault::kNotFinite);
      for (size_t i = 0; i < 8; ++i) {
        if (i != 3) expect_same_bits(before[i], after[i]);
      }
    }
  }
}

TEST(SamplerRowLaw, BothBuildsOfTheLoopsGiveTheSameBits) {
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq")) {
    GTEST_SKIP() << "this machine lacks AVX-512";
  }
  for (const int size : {1, 3, 16, 77, kGroup}) {
    auto row = random_row(size, 8, 200 + static_cast<uint32_t>(size));
    row[0] = kMinusInfinity;
    const WeightScale scale{20.0f, 1.0f / 0.7f};
    uint64_t mass[2][kGroup];
    int32_t bucket[2][kGroup];
    const RowKernels* builds[] = {&avx2::kRowKernels, &avx512::kRowKernels};
    uint64_t sum[2];
    KeyRange range[2];
    for (int b = 0; b < 2; ++b) {
      sum[b] = builds[b]->weigh(row.data(), size, scale, INT32_MIN, mass[b]);
      range[b] = builds[b]->key_range(row.data(), size);
      builds[b]->bucket(row.data(), size, scale, 31.7f, bucket[b]);
    }
    EXPECT_EQ(sum[0], sum[1]);
    EXPECT_EQ(range[0].smallest, range[1].smallest);
    EXPECT_EQ(range[0].largest, range[1].largest);
    EXPECT_EQ(0, std::memcmp(mass[0], mass[1], sizeof(uint64_t) * static_cast<size_t>(size)));
    EXPECT_EQ(0, std::memcmp(bucket[0], bucket[1], sizeof(int32_t) * static_cast<size_t>(size)));
    for (const RowKernels* build : builds) {
      EXPECT_EQ(build->weigh_all(row.data(), size, scale), sum[0]);
      expect_split(*build, row, size, scale, mass[0]);
      expect_collect(*build, row, size);
    }
  }
}

}  // namespace
}  // namespace sluice::sampling
