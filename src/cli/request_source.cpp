#include "cli/request_source.h"

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "cli/parse.h"
#include "cli/request_fields.h"

namespace sluice::cli {
namespace {

// What an output line says about its place.
struct OutputLine {
  int64_t index = 0;
  int64_t completion = 0;
  bool is_error = false;
};

Result<OutputLine> parse_output_line(const std::string& line) {
  const Result<Json> json = parse_json(line);
  if (!json) return std::unexpected(json.error());
  const auto is_number = [&json](const char* key) {
    return json->contains(key) && (*json)[key].is_number_integer();
  };
  if (!json->is_object() || !is_number("index")) {
    return invalid_argument("has no \"index\"");
  }
  OutputLine out{(*json)["index"].get<int64_t>(), 0, json->contains("error")};
  if (is_number("completion")) out.completion = (*json)["completion"].get<int64_t>();
  return out;
}

}  // namespace

Result<bool> read_line(std::istream& in, std::string& line, size_t max_bytes, bool* terminated) {
  line.clear();
  std::streambuf& buffer = *in.rdbuf();
  constexpr int kEnd = std::char_traits<char>::eof();
  int c = buffer.sbumpc();
  if (c == kEnd) return false;
  for (; c != kEnd && c != '\n'; c = buffer.sbumpc()) {
    if (line.size() == max_bytes) {
      return invalid_argument("line is longer than " + std::to_string(max_bytes) + " bytes");
    }
    line += static_cast<char>(c);
  }
  if (terminated != nullptr) *terminated = c == '\n';
  return true;
}

RequestSource::RequestSource(std::string name, std::ifstream file, GenerateRequest defaults)
    : name_(std::move(name)), file_(std::move(file)), defaults_(std::move(defaults)) {}

Result<RequestSource> RequestSource::open(const std::filesystem::path& path,
                                          GenerateRequest defaults) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return fail(ErrorCode::kNotFound, "--input: there is no file " + quote(path.string()));
  }
  if (!std::filesystem::is_regular_file(path, ignored)) {
    return invalid_argument("--input: " + quote(path.string()) + " is not a regular file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return invalid_argument("--input: cannot read " + quote(path.string()));
  return RequestSource(path.filename().string(), std::move(file), std::move(defaults));
}

Result<std::optional<IndexedRequest>> RequestSource::next() {
  std::string line;
  while (true) {
    const Result<bool> more = read_line(file_, line);
    if (more && !*more) return std::nullopt;
    const int64_t index = num_lines_++;
    const auto refuse = [&](const Error& error) {
      return invalid_argument(name_ + ":" + std::to_string(index + 1) + ": " + error.message);
    };
    if (!more) return refuse(more.error());
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Result<GenerateRequest> request = request_from_json(line, defaults_);
    if (!request) return refuse(request.error());
    return IndexedRequest{index, *std::move(request)};
  }
}

Result<std::vector<int32_t>> check_requests(const std::filesystem::path& path,
                                            const GenerateRequest& defaults) {
  Result<RequestSource> source = RequestSource::open(path, defaults);
  if (!source) return std::unexpected(source.error());
  std::vector<int32_t> lines;
  while (true) {
    const auto next = source->next();
    if (!next) return std::unexpected(next.error());
    if (!*next) return lines;
    lines.resize((*next)->index + 1);
    constexpr int64_t kMost = 1 << 16;  // more is refused by the service, which gives one line
    lines.back() =
        static_cast<int32_t>(std::clamp<int64_t>((*next)->request.n.value_or(1), 1, kMost));
  }
}

Result<ResumePoint> find_resume_point(std::istream& output,
                                      const std::vector<int32_t>& lines_per_request) {
  ResumePoint point;
  const auto num_requests = static_cast<int64_t>(lines_per_request.size());
  const auto skip_empty = [&](int64_t index) {
    while (index < num_requests && lines_per_request[index] == 0) ++index;
    return index;
  };
  int64_t expected = skip_empty(0);
  int64_t completion = 0;
  int64_t bytes = 0;
  int64_t line_number = 0;
  std::string line;
  bool terminated = false;
  while (true) {
    const Result<bool> more = read_line(output, line, size_t{1} << 30, &terminated);
    if (!more) return std::unexpected(more.error());
    if (!*more || !terminated) break;  // the end, or a line that was cut off
    ++line_number;
    bytes += static_cast<int64_t>(line.size()) + 1;
    const auto refuse = [&](const std::string& reason) {
      return invalid_argument("line " + std::to_string(line_number) + ": " + reason);
    };
    const Result<OutputLine> parsed = parse_output_line(line);
    if (!parsed) return refuse(parsed.error().message);
    if (parsed->index != expected || parsed->completion != completion || expected >= num_requests) {
      return refuse("index " + std::to_string(parsed->index) + " does not follow from the input");
    }
    if (!parsed->is_error && ++completion < lines_per_request[expected]) continue;
    expected = skip_empty(expected + 1);
    completion = 0;
    point = {expected, bytes};
  }
  point.next_index = std::max(point.next_index, skip_empty(0));
  return point;
}

}  // namespace sluice::cli
