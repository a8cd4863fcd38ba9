#include "tests/bad_inputs/damage.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

namespace sluice::bad_inputs {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr size_t kLengthBytes = 8;

std::string with_header(const std::string& header, std::string_view data) {
  const uint64_t length = header.size();
  std::string file(kLengthBytes, '\0');
  std::memcpy(file.data(), &length, kLengthBytes);
  return file.append(header).append(data);
}

}  // namespace

std::vector<Damage> cuts(std::string_view text, size_t max_cuts, bool must_fail) {
  std::vector<size_t> borders = {0};
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (std::string_view("{}[]\",:\n%").find(text[i]) != std::string_view::npos) {
      borders.push_back(i + 1);
    }
  }
  std::vector<Damage> damages;
  const size_t step = borders.size() / max_cuts + 1;
  for (size_t i = 0; i < borders.size(); i += step) {
    damages.push_back({"cut at " + std::to_string(borders[i]),
                       std::string(text.substr(0, borders[i])), must_fail});
  }
  return damages;
}

std::vector<Damage> flips(std::string_view bytes, size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Damage> damages;
  for (size_t i = 0; i < count && !bytes.empty(); ++i) {
    Damage damage{"flip " + std::to_string(i) + " of seed " + std::to_string(seed),
                  std::string(bytes), false};
    for (uint64_t left = 1 + random() % 4; left > 0; --left) {
      char& byte = damage.bytes[random() % bytes.size()];
      byte = static_cast<char>(byte ^ (1 << (random() % 8)));
    }
    damages.push_back(std::move(damage));
  }
  return damages;
}

std::vector<Damage> json_damages(std::string_view text) {
  std::vector<Damage> damages;
  for (const char* other : {"", "null", "[]", "0", "\"x\"", "true", "nul", "{\"a\":}",
                            "{\"a\":1e999}", "{\"a\":01}", "{\"\\ud800\":1}"}) {
    damages.push_back({std::string("whole file is ") + other, other});
  }
  damages.push_back({"deep arrays", std::string(1 << 20, '[')});
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "{\"a\":";
  damages.push_back({"deep objects", deep + "1" + std::string(5000, '}')});
  const std::string whole(text);
  const size_t open = whole.find('{');
  const size_t close = whole.rfind('}');
  const std::string twice = R"("a_key":1,"a_key":1)";
  const bool is_empty = whole.find('"') == std::string::npos;
  damages.push_back({"a key twice", whole.substr(0, open + 1) + twice + (is_empty ? "" : ",") +
                                        whole.substr(open + 1)});
  damages.push_back(
      {"deep inside", whole.substr(0, open + 1) + "\"a_key\":" + std::string(500, '[') +
                          std::string(500, ']') + (is_empty ? "" : ",") + whole.substr(open + 1)});
  damages.push_back({"not UTF-8", whole.substr(0, open + 1) + "\"\xFF\":1" + (is_empty ? "" : ",") +
                                      whole.substr(open + 1)});
  damages.push_back({"text behind it", whole.substr(0, close + 1) + " x"});
  damages.push_back({"two of it", whole.substr(0, close + 1) + whole.substr(0, close + 1)});
  damages.push_back({"NUL behind it", whole.substr(0, close + 1) + std::string(1, '\0')});
  return damages;
}

std::vector<Damage> safetensors_damages(std::string_view file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  const std::string_view text = file.substr(kLengthBytes, length);
  const std::string_view data = file.substr(kLengthBytes + length);
  const auto good = OrderedJson::parse(text);
  std::vector<Damage> damages;
  std::set<size_t> borders = {0, 1, kLengthBytes - 1, kLengthBytes, kLengthBytes + length};
  for (const auto& cut : cuts(text, 40, true)) borders.insert(kLengthBytes + cut.bytes.size());
  for (const auto& [name, tensor] : good.items()) {
    if (!tensor.contains("data_offsets")) continue;
    for (const auto& offset : tensor["data_offsets"]) {
      borders.insert(kLengthBytes + length + offset.get<size_t>());
    }
  }
  borders.erase(file.size());
  for (const size_t border : borders) {
    damages.push_back({"cut at " + std::to_string(border), std::string(file.substr(0, border))});
  }
  damages.push_back({"bytes behind it", std::string(file) + "x"});
  for (const uint64_t claimed : {length + 1, length - 1, uint64_t{0}, uint64_t{100'000'001},
                                 uint64_t{1} << 40, ~uint64_t{0}}) {
    std::string bad(file);
    std::memcpy(bad.data(), &claimed, kLengthBytes);
    damages.push_back({"header of " + std::to_string(claimed), std::move(bad)});
  }
  for (auto& damage : json_damages(text)) {
    damages.push_back({"header: " + damage.what, with_header(damage.bytes, data)});
  }
  const auto changed = [&](const std::string& what, auto&& change) {
    OrderedJson header = good;
    auto tensor = header.begin();
    while (!tensor->contains("data_offsets")) ++tensor;
    change(*tensor);
    damages.push_back({what, with_header(header.dump(), data)});
  };
  changed("a hole",
          [](auto& t) { t["data_offsets"][0] = t["data_offsets"][0].template get<size_t>() + 2; });
  changed("past the end", [](auto& t) { t["data_offsets"][1] = size_t{1} << 50; });
  changed("backwards", [](auto& t) { std::swap(t["data_offsets"][0], t["data_offsets"][1]); });
  changed("negative offset", [](auto& t) { t["data_offsets"][0] = -1; });
  changed("everything", [&](auto& t) { t["data_offsets"] = {0, data.size()}; });
  changed("unknown dtype", [](auto& t) { t["dtype"] = "F33"; });
  changed("wider dtype", [](auto& t) { t["dtype"] = "F64"; });
  changed("no shape", [](auto& t) { t.erase("shape"); });
  changed("negative size", [](auto& t) { t["shape"] = {-1, 4}; });
  changed("product overflows", [](auto& t) { t["shape"] = {size_t{1} << 40, size_t{1} << 40}; });
  changed("another shape", [](auto& t) { t["shape"] = {3, 5}; });
  return damages;
}

}  // namespace sluice::bad_inputs
