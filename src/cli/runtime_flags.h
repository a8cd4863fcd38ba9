#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "cli/terminal.h"
#include "sluice/error.h"
#include "sluice/runtime.h"
#include "sluice/service.h"

namespace sluice::cli {

// The flags of the engine, one to one with RuntimeOptions: device, threads, batch and memory.
void add_runtime_flags(Flags& flags, RuntimeOptions& options);

// --kv-cache-dtype, for commands without an engine too.
void add_kv_dtype_flag(Flags& flags, std::string& target);

// The flags of every limit in ServiceLimits, for `serve`.
void add_limit_flags(Flags& flags, ServiceLimits& limits);

// create_service with a progress bar. Notices go to options.notice, or to stderr (unless `quiet`)
// if that is empty.
Result<std::unique_ptr<Service>> load_service(RuntimeOptions options, bool quiet);

// The exit code when load_service failed: a broken or missing model, or a flag that does not fit
// it, is configuration; only our own fault, or a lack of memory, is a failure.
int load_exit_code(const Error& error);

}  // namespace sluice::cli
