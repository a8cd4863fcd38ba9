#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <istream>
#include <optional>
#include <string>
#include <vector>

#include "sluice/error.h"
#include "sluice/generation.h"

namespace sluice::cli {

// Longest line of an --input file; a longer one is refused before it is kept in memory.
inline constexpr size_t kMaxLineBytes = size_t{32} << 20;

// Reads one line without its end. False at the end of the stream. kInvalidArgument if the line is
// longer than `max_bytes`. `terminated` (may be null) tells whether a newline ended it.
Result<bool> read_line(std::istream& in, std::string& line, size_t max_bytes = kMaxLineBytes,
                       bool* terminated = nullptr);

// One request of an --input file.
struct IndexedRequest {
  int64_t index = 0;  // the line's number, from 0
  GenerateRequest request;
};

// The requests of a JSONL file, one after another. Lines of white space only count, and give none.
class RequestSource {
 public:
  // kNotFound or kInvalidArgument if `path` is not a file that can be read.
  static Result<RequestSource> open(const std::filesystem::path& path, GenerateRequest defaults);

  // The next request; empty at the end. kInvalidArgument says "FILE:LINE: reason" (LINE from 1).
  Result<std::optional<IndexedRequest>> next();

 private:
  RequestSource(std::string name, std::ifstream file, GenerateRequest defaults);

  std::string name_;
  std::ifstream file_;
  GenerateRequest defaults_;
  int64_t num_lines_ = 0;
};

// How many output lines each input line leads to: 0 for an empty line, else its `n`. Reads the
// whole file once, so that a mistake in any line is found before work begins.
Result<std::vector<int32_t>> check_requests(const std::filesystem::path& path,
                                            const GenerateRequest& defaults);

// Where an interrupted output file goes on.
struct ResumePoint {
  int64_t next_index = 0;  // the first input line without a whole answer
  int64_t keep_bytes = 0;  // of the output file; what follows is a part of an answer
};

// Reads an output file that was written in the order of the input's lines. kInvalidArgument if it
// is not an output of this input: "line N: reason".
Result<ResumePoint> find_resume_point(std::istream& output,
                                      const std::vector<int32_t>& lines_per_request);

}  // namespace sluice::cli
