#pragma once

#include <memory>
#include <string>

#include "cli/flags.h"
#include "server/access/api_keys.h"
#include "server/access/limited_service.h"
#include "server/access/tls_files.h"
#include "sluice/error.h"

namespace sluice::cli {

// Who may call the server: the files that `sluice serve` is pointed at.
struct AccessOptions {
  std::string api_keys;  // a path; empty: everybody may call
  server::TlsPaths tls;  // no certificate: nothing is encrypted
};

void add_access_flags(Flags& flags, AccessOptions& options);

// Which of them do not go together, in one line for the user; empty if they do.
std::string find_access_conflict(const AccessOptions& options);

// What the front ends share.
struct Access {
  std::shared_ptr<const server::ApiKeys> api_keys;  // null: everybody may call
  std::shared_ptr<const server::TlsFiles> tls;      // null: nothing is encrypted
};

// Each client's limits, as the files have them now.
server::LimitedService::LimitsOf limits_of_clients(const Access& access);

// Reads the files. The error's message begins with the flag's name; later changes of the files are
// told to the log.
Result<Access> load_access(const AccessOptions& options);

}  // namespace sluice::cli
