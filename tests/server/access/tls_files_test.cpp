#include "server/access/tls_files.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>
#include "tests/server/access/tls_fixture.h"

namespace sluice::server {
namespace {

class TlsFilesTest : public TlsFixture {
 protected:
  std::string error(const std::string& client_ca = "") const {
    TlsPaths files = paths();
    if (!client_ca.empty()) files.client_ca = folder_ / client_ca;
    const auto loaded = load_tls(files);
    return loaded ? "" : loaded.error().message;
  }
};

TEST_F(TlsFilesTest, TakesAChainAKeyAndAClientCa) {
  const Issued issued = authority_.issue();
  write({issued.certificate_pem + authority_.certificate_pem(), issued.key_pem});
  folder_.write("ca", authority_.certificate_pem() + Authority().certificate_pem());
  EXPECT_EQ(error(), "");
  EXPECT_EQ(error("ca"), "");
}

TEST_F(TlsFilesTest, NamesTheFlagAndWhatIsWrong) {
  const Issued good = authority_.issue();
  EXPECT_EQ(error(), "--tls-cert: there is no such file");
  write({"", good.key_pem});
  EXPECT_EQ(error(), "--tls-cert: it has no certificate in PEM form");
  write({good.key_pem, good.key_pem});
  EXPECT_EQ(error(), "--tls-cert: it has no certificate in PEM form");
  write({good.certificate_pem, ""});
  EXPECT_EQ(error(), "--tls-key: it has no private key in PEM form without a passphrase");
  write({good.certificate_pem, good.certificate_pem});
  EXPECT_EQ(error(), "--tls-key: it has no private key in PEM form without a passphrase");
  write({good.certificate_pem, authority_.issue().key_pem});
  EXPECT_EQ(error(), "--tls-key: the key does not belong to the certificate of --tls-cert");
  write(good);
  EXPECT_EQ(error("absent"), "--tls-client-ca: there is no such file");
  folder_.write("ca", "");
  EXPECT_EQ(error("ca"), "--tls-client-ca: it is empty");
  folder_.write("ca", "no PEM");
  EXPECT_EQ(error("ca"), "--tls-client-ca: it has no certificate in PEM form");

  write(authority_.issue({.valid_from_days = -9, .valid_to_days = -2}));
  EXPECT_EQ(error().find("--tls-cert: the certificate has expired on 20"), 0u) << error();
  write(authority_.issue({.valid_from_days = 2, .valid_to_days = 9}));
  EXPECT_EQ(error().find("--tls-cert: the certificate is valid only from 20"), 0u) << error();
}

TEST_F(TlsFilesTest, AKeyWithAPassphraseIsRefusedAndNobodyIsAsked) {
  write({authority_.issue().certificate_pem,
         "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
         "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAAAAAAAAAAAICCAAw\n"
         "-----END ENCRYPTED PRIVATE KEY-----\n"});
  EXPECT_EQ(error(), "--tls-key: it has no private key in PEM form without a passphrase");
}

TEST_F(TlsFilesTest, FollowsTheFilesAndKeepsTheOldOnesWhenTheNewAreBroken) {
  write(authority_.issue());
  const auto loaded = load();
  ASSERT_TRUE(loaded);
  const TlsFiles& files = *loaded;
  const auto first = files.material();
  EXPECT_EQ(files.material(), first);

  folder_.write("key", authority_.issue().key_pem);  // not the certificate's
  EXPECT_EQ(notices_.wait_for(0),
            "a file of TLS has changed and is not used, the old ones stay: --tls-key: the key does "
            "not belong to the certificate of --tls-cert");
  EXPECT_EQ(files.material(), first);

  const Issued next = authority_.issue();
  folder_.write("cert", next.certificate_pem);
  folder_.write("key", next.key_pem);
  // The key may be seen a look later than the certificate; in the end there are the new ones.
  std::string notice;
  for (size_t number = 1; notice.find("new connections") == std::string::npos; ++number) {
    notice = notices_.wait_for(number);
    ASSERT_NE(notice, "none came");
  }
  EXPECT_EQ(files.material()->certificate_pem, next.certificate_pem);
  EXPECT_NE(files.material()->context, first->context);
}

}  // namespace
}  // namespace sluice::server
