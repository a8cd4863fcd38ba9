#pragma once

#include <memory>
#include <string>

#include "observability/metrics.h"
#include "server/log/log_writer.h"
#include "sluice/error.h"

namespace sluice::server {

struct LogOptions {
  std::string file;  // empty: stderr
  bool is_json = false;
  std::string level = "info";  // debug, info, warning, error
};

// Makes spdlog's default logger write through a LogWriter, and so does the logger of structured
// lines. Lines that are lost count in sluice_log_lines_lost_total of `registry`, which must outlive
// the writer. Before the writer dies, end_log().
//
// kInvalidArgument: the file cannot be opened.
Result<std::unique_ptr<LogWriter>> start_log(const LogOptions& options,
                                             observability::Registry& registry);
// From now on messages go nowhere.
void end_log();

}  // namespace sluice::server
