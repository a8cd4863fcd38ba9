#include "cli/load_plot.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace sluice::cli {
namespace {

using Points = std::vector<std::pair<double, double>>;

constexpr double kPanelWidth = 420;
constexpr double kPanelHeight = 220;
constexpr double kLeft = 56;  // of a panel's plot, for the numbers of its axis
constexpr double kTop = 34;   // for its title
constexpr double kRight = 12;
constexpr double kBottom = 30;
constexpr double kHeading = 34;
constexpr size_t kMaxPoints = 400;

constexpr const char* kStyle =
    "<style>text{font:12px system-ui,sans-serif;fill:#222}.t{font-weight:600}"
    ".a{stroke:#999;stroke-width:1}.g{stroke:#ddd;stroke-width:1}"
    ".l{fill:none;stroke:#0b6bcb;stroke-width:1.6}.b{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#3a3a3a}.b{fill:#161616}"
    ".l{stroke:#6cb2ff}}</style>";

struct Panel {
  std::string title;
  std::string unit;  // of x
  Points points;
  double y_max = 0;  // 0: of the points
};

std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else
      out += c;
  }
  return out;
}

// 1, 2 or 5 times a power of ten, so that about four steps make `range`.
double tick_step(double range) {
  if (!(range > 0)) return 1;
  const double power = std::pow(10, std::floor(std::log10(range / 4)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (range / (power * factor) <= 5) return power * factor;
  }
  return power * 10;
}

// What share of `values` is at most x, over x.
Points distribution(std::vector<double> values) {
  std::ranges::sort(values);
  Points points;
  const size_t step = std::max<size_t>(1, values.size() / kMaxPoints);
  for (size_t i = 0; i < values.size(); i += step) {
    points.emplace_back(values[i],
                        100.0 * static_cast<double>(i + 1) / static_cast<double>(values.size()));
  }
  if (!values.empty()) points.emplace_back(values.back(), 100);
  return points;
}

// Tokens per second in each of about a hundred equal times.
Points throughput(const LoadResult& result) {
  constexpr size_t kNumBins = 100;
  if (!(result.seconds > 0)) return {};
  const double width = result.seconds / kNumBins;
  std::vector<double> tokens(kNumBins, 0);
  for (const LoadSample& sample : result.samples) {
    for (const auto& message : sample.messages) {
      const auto bin = std::min(kNumBins - 1, static_cast<size_t>(message.at_s / width));
      tokens[bin] += message.num_tokens;
    }
  }
  Points points;
  for (size_t i = 0; i < kNumBins; ++i) {
    points.emplace_back((static_cast<double>(i) + 0.5) * width, tokens[i] / width);
  }
  return points;
}

Points under_way(const LoadResult& result) {
  std::vector<std::pair<double, int>> changes;
  for (const LoadSample& sample : result.samples) {
    changes.emplace_back(sample.begin_s, 1);
    changes.emplace_back(sample.end_s, -1);
  }
  std::ranges::sort(changes);
  Points points;
  int count = 0;
  const size_t step = std::max<size_t>(1, changes.size() / kMaxPoints);
  for (size_t i = 0; i < changes.size(); ++i) {
    if (i % step == 0) points.emplace_back(changes[i].first, count);  // steps, not slopes
    count += changes[i].second;
    if (i % step == 0) points.emplace_back(changes[i].first, count);
  }
  return points;
}

std::string draw(const Panel& panel, double x0, double y0) {
  double x_max = 0;
  double y_max = panel.y_max;
  for (const auto& [x, y] : panel.points) {
    x_max = std::max(x_max, x);
    if (panel.y_max == 0) y_max = std::max(y_max, y);
  }
  if (!(x_max > 0)) x_max = 1;
  if (!(y_max > 0)) y_max = 1;
  const double width = kPanelWidth - kLeft - kRight;
  const double height = kPanelHeight - kTop - kBottom;
  const auto px = [&](double x) { return x0 + kLeft + x / x_max * width; };
  const auto py = [&](double y) { return y0 + kTop + height - y / y_max * height; };
  std::string out = fmt::format("<text class=\"t\" x=\"{:.0f}\" y=\"{:.0f}\">{}</text>", x0 + kLeft,
                                y0 + kTop - 12, escape(panel.title));
  for (double y = 0; y <= y_max * 1.0001; y += tick_step(y_max)) {
    out += fmt::format(
        "<line class=\"g\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text text-anchor=\"end\" x=\"{:.1f}\" y=\"{:.1f}\">{:g}</text>",
        px(0), px(x_max), py(y), py(y), px(0) - 6, py(y) + 4, y);
  }
  for (double x = 0; x <= x_max * 1.0001; x += tick_step(x_max)) {
    out += fmt::format("<text text-anchor=\"middle\" x=\"{:.1f}\" y=\"{:.1f}\">{:g}</text>", px(x),
                       py(0) + 16, x);
  }
  out += fmt::format(
      "<line class=\"a\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
      "<text text-anchor=\"end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>",
      px(0), px(x_max), py(0), py(0), px(x_max), py(0) + 28, panel.unit);
  out += "<polyline class=\"l\" points=\"";
  for (const auto& [x, y] : panel.points) out += fmt::format("{:.1f},{:.1f} ", px(x), py(y));
  return out + "\"/>";
}

}  // namespace

std::string load_plot(const LoadResult& result, const LoadFigures& figures,
                      const std::string& title) {
  const Panel panels[] = {
      {"First token within, % of requests", "ms", distribution(figures.ttft_ms), 100},
      {"Between messages, % within", "ms", distribution(figures.gap_ms), 100},
      {"Tokens per second", "s", throughput(result)},
      {"Requests under way", "s", under_way(result)},
  };
  const double width = 2 * kPanelWidth;
  const double height = kHeading + 2 * kPanelHeight;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" "
      "height=\"{:.0f}\" role=\"img\">{}<rect class=\"b\" width=\"100%\" height=\"100%\"/>"
      "<title>{}</title><text class=\"t\" x=\"{:.0f}\" y=\"22\">{}</text>",
      width, height, width, height, kStyle, escape(title), kLeft, escape(title));
  for (size_t i = 0; i < std::size(panels); ++i) {
    const size_t row = i / 2;
    out += draw(panels[i], static_cast<double>(i % 2) * kPanelWidth,
                kHeading + static_cast<double>(row) * kPanelHeight);
  }
  return out + "</svg>\n";
}

}  // namespace sluice::cli
