#pragma once

#include <openssl/types.h>

#include <filesystem>
#include <memory>
#include <string>

namespace sluice::server {

// A certificate and its key, made in the test: EC keys on P-256, signed with SHA-256.
struct Issued {
  std::string certificate_pem;
  std::string key_pem;
};

// What a certificate says.
struct Subject {
  std::string name = "test";
  std::string alternative_names = "IP:127.0.0.1,DNS:localhost";  // as OpenSSL's config has them
  int valid_from_days = -1;                                      // from now
  int valid_to_days = 1;
};

// A certificate authority of one test.
class Authority final {
 public:
  Authority();
  ~Authority();
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;

  const std::string& certificate_pem() const { return own_.certificate_pem; }
  Issued issue(const Subject& subject = {}) const;

 private:
  X509* certificate_ = nullptr;
  EVP_PKEY* key_ = nullptr;
  Issued own_;
};

}  // namespace sluice::server
