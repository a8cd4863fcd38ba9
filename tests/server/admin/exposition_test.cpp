#include "server/admin/exposition.h"

#include <gtest/gtest.h>

#include <limits>

namespace sluice::server {
namespace {

TEST(ExpositionTest, OneHeadAFamilyWhateverTheOrder) {
  observability::Registry registry;
  registry.gauge({"a", "First.", {{"model", "x"}}}).set(1.5);
  registry.counter({"b_total", "Second.", {}}).add(7);
  registry.gauge({"a", "First.", {{"model", "y"}}}).set(-2);
  EXPECT_EQ(expose(registry),
            "# HELP a First.\n# TYPE a gauge\na{model=\"x\"} 1.5\na{model=\"y\"} -2\n"
            "# HELP b_total Second.\n# TYPE b_total counter\nb_total 7\n");
}

TEST(ExpositionTest, AHistogramIsCumulativeAndEndsWithInfinity) {
  observability::Registry registry;
  auto& histogram = registry.histogram({"h_seconds", "Times.", {{"m", "x"}}}, {0.001, 2.5});
  for (const double value : {0.001, 2.0, 100.0}) histogram.observe(value);
  registry.histogram({"bare", "None.", {}}, {1});
  EXPECT_EQ(expose(registry),
            "# HELP h_seconds Times.\n# TYPE h_seconds histogram\n"
            "h_seconds_bucket{m=\"x\",le=\"0.001\"} 1\n"
            "h_seconds_bucket{m=\"x\",le=\"2.5\"} 2\n"
            "h_seconds_bucket{m=\"x\",le=\"+Inf\"} 3\n"
            "h_seconds_sum{m=\"x\"} 102.001\nh_seconds_count{m=\"x\"} 3\n"
            "# HELP bare None.\n# TYPE bare histogram\n"
            "bare_bucket{le=\"1\"} 0\nbare_bucket{le=\"+Inf\"} 0\nbare_sum 0\nbare_count 0\n");
}

TEST(ExpositionTest, EscapesHelpAndLabels) {
  observability::Registry registry;
  registry.gauge({"g", "A \"b\" \\ c\nd", {{"model", "a\"b\\c\nd"}}}).set(0);
  EXPECT_EQ(expose(registry),
            "# HELP g A \"b\" \\\\ c\\nd\n# TYPE g gauge\ng{model=\"a\\\"b\\\\c\\nd\"} 0\n");
}

TEST(ExpositionTest, SpellsWhatIsNoFiniteNumber) {
  observability::Registry registry;
  registry.gauge({"a", "", {}}).set(std::numeric_limits<double>::quiet_NaN());
  registry.gauge({"b", "", {}}).set(std::numeric_limits<double>::infinity());
  registry.gauge({"c", "", {}}).set(-std::numeric_limits<double>::infinity());
  registry.gauge({"d", "", {}}).set(1764390000.25);
  const std::string text = expose(registry);
  for (const char* line : {"\na NaN\n", "\nb +Inf\n", "\nc -Inf\n", "\nd 1764390000.25\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << " in " << text;
  }
}

}  // namespace
}  // namespace sluice::server
