#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>

#include "server/access/tls_files.h"
#include "tests/server/access/certificates.h"
#include "tests/server/access/notices.h"
#include "tests/server/access/temporary_folder.h"

namespace sluice::server {

// Files of TLS in a folder of the test, issued by an authority of its own.
class TlsFixture : public ::testing::Test {
 protected:
  void write(const Issued& issued) {
    folder_.write("cert", issued.certificate_pem);
    folder_.write("key", issued.key_pem);
  }
  // `asks_clients`: for certificates of the authorities in the file "ca".
  TlsPaths paths(bool asks_clients = false) const {
    TlsPaths paths{folder_ / "cert", folder_ / "key", {}};
    if (asks_clients) paths.client_ca = folder_ / "ca";
    return paths;
  }
  // Null, and a failure, if they cannot be used. Looks for changes every 10 ms.
  std::shared_ptr<const TlsFiles> load(bool asks_clients = false) {
    auto files =
        TlsFiles::load(paths(asks_clients), notices_.sink(), std::chrono::milliseconds(10));
    EXPECT_TRUE(files.has_value()) << files.error().message;
    return files ? *std::move(files) : nullptr;
  }

  TemporaryFolder folder_;
  Notices notices_;
  Authority authority_;
};

}  // namespace sluice::server
