#include "server/admin/exposition.h"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace sluice::server {
namespace {

using observability::Counter;
using observability::Gauge;
using observability::Histogram;
using observability::Labels;
using observability::MetricInfo;

// HELP texts leave quotes as they are, label values do not.
std::string escaped(std::string_view text, bool is_label) {
  std::string result;
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
      continue;
    }
    if (c == '\\' || (c == '"' && is_label)) result += '\\';
    result += c;
  }
  return result;
}

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value);
  return std::string(digits, end.ptr);
}

// One family: its head and its members' lines, which may come at different times.
struct Family {
  std::string text;

  Family(const MetricInfo& info, std::string_view type) {
    text = "# HELP " + info.name + " " + escaped(info.help, false) + "\n# TYPE " + info.name + " ";
    text.append(type).append("\n");
  }
  void add(std::string_view name, const Labels& labels, std::string_view value,
           std::string_view less_or_equal = {}) {
    text.append(name);
    char separator = '{';
    for (const auto& [key, content] : labels) {
      text.append(1, std::exchange(separator, ',')).append(key).append("=\"");
      text.append(escaped(content, true)).append("\"");
    }
    if (!less_or_equal.empty()) {
      text.append(1, std::exchange(separator, ',')).append("le=\"");
      text.append(less_or_equal).append("\"");
    }
    if (separator == ',') text += '}';
    text.append(" ").append(value).append("\n");
  }
};

class Writer final : public observability::Registry::Visitor {
 public:
  void visit(const MetricInfo& info, const Counter& counter) override {
    family(info, "counter").add(info.name, info.labels, std::to_string(counter.value()));
  }
  void visit(const MetricInfo& info, const observability::Total& total) override {
    family(info, "counter").add(info.name, info.labels, number(total.value()));
  }
  void visit(const MetricInfo& info, const Gauge& gauge) override {
    family(info, "gauge").add(info.name, info.labels, number(gauge.value()));
  }
  void visit(const MetricInfo& info, const Histogram& histogram) override {
    const Histogram::Snapshot snapshot = histogram.snapshot();
    Family& own = family(info, "histogram");
    const std::string bucket = info.name + "_bucket";
    for (size_t i = 0; i < snapshot.upper_bounds.size(); ++i) {
      own.add(bucket, info.labels, std::to_string(snapshot.cumulative[i]),
              number(snapshot.upper_bounds[i]));
    }
    const std::string count = std::to_string(snapshot.cumulative.back());
    own.add(bucket, info.labels, count, "+Inf");
    own.add(info.name + "_sum", info.labels, number(snapshot.sum));
    own.add(info.name + "_count", info.labels, count);
  }

  std::string text() const {
    std::string all;
    for (const Family& one : families_) all += one.text;
    return all;
  }

 private:
  Family& family(const MetricInfo& info, std::string_view type) {
    const auto [place, is_new] = by_name_.try_emplace(info.name, families_.size());
    if (is_new) families_.emplace_back(info, type);
    return families_[place->second];
  }

  std::vector<Family> families_;
  std::unordered_map<std::string, size_t> by_name_;
};

}  // namespace

std::string expose(observability::Registry& registry) {
  Writer writer;
  registry.visit(writer);
  return writer.text();
}

}  // namespace sluice::server
