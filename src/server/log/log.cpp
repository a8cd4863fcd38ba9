#include "server/log/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>

#include <mutex>
#include <utility>

#include "server/log/log_format.h"

namespace sluice::server {
namespace {

// Lines go to a writer that somebody else owns.
class WriterSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit WriterSink(LogWriter& writer) : writer_(writer) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    writer_.write(std::string(line.data(), line.size()));
  }
  void flush_() override { writer_.flush(); }

 private:
  LogWriter& writer_;
};

void set_loggers(const spdlog::sink_ptr& sink, spdlog::level::level_enum level) {
  spdlog::drop(kStructuredLogger);
  auto structured = std::make_shared<spdlog::logger>(kStructuredLogger, sink);
  structured->set_level(level);
  spdlog::register_logger(std::move(structured));
  auto plain = std::make_shared<spdlog::logger>("sluice", sink);
  plain->set_level(level);
  spdlog::set_default_logger(std::move(plain));
}

}  // namespace

Result<std::unique_ptr<LogWriter>> start_log(const LogOptions& options,
                                             observability::Registry& registry) {
  auto writer = LogWriter::open(
      options.file,
      registry.counter({"sluice_log_lines_lost_total",
                        "Log lines that could not be written or had to wait too long.",
                        {}}));
  if (!writer) return writer;
  auto sink = std::make_shared<WriterSink>(**writer);
  sink->set_formatter(make_log_formatter(options.is_json));
  set_loggers(sink, spdlog::level::from_str(options.level));
  return writer;
}

void end_log() {
  set_loggers(std::make_shared<spdlog::sinks::null_sink_mt>(), spdlog::level::off);
}

}  // namespace sluice::server
