#include "server/access/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <ctime>
#include <utility>
#include <vector>

#include "server/access/small_file.h"

namespace sluice::server {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;

// Nobody is asked for a passphrase: a server has nobody who could answer.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

Result<std::string> read_pem(const char* flag, const std::filesystem::path& path) {
  auto text = read_small_file(path, kMaxFileBytes);
  if (!text) return fail(text.error().code, std::string(flag) + ": " + text.error().message);
  return text;
}

std::vector<Certificate> parse_certificates(const std::string& pem) {
  const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  std::vector<Certificate> certificates;
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, no_passphrase, nullptr)) {
    certificates.emplace_back(one);
  }
  ERR_clear_error();  // the end of the file is one
  return certificates;
}

std::string show(const ASN1_TIME* time) {
  std::tm parts{};
  char text[32] = "";
  if (ASN1_TIME_to_tm(time, &parts) == 1) {
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts);
  }
  return text;
}

Result<void> check_dates(const X509& certificate) {
  const ASN1_TIME* const begin = X509_get0_notBefore(&certificate);
  const ASN1_TIME* const end = X509_get0_notAfter(&certificate);
  if (X509_cmp_current_time(begin) > 0) {
    return invalid_argument("--tls-cert: the certificate is valid only from " + show(begin));
  }
  if (X509_cmp_current_time(end) < 0) {
    return invalid_argument("--tls-cert: the certificate has expired on " + show(end));
  }
  return {};
}

Result<std::shared_ptr<SSL_CTX>> make_context(const std::vector<Certificate>& chain, EVP_PKEY& key,
                                              const std::vector<Certificate>& client_cas) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (context == nullptr) return fail(ErrorCode::kInternal, "there is no memory for TLS");
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  bool is_taken = SSL_CTX_use_certificate(context.get(), chain.front().get()) == 1;
  for (size_t i = 1; is_taken && i < chain.size(); ++i) {
    is_taken = SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) == 1;
  }
  if (!is_taken) {
    return invalid_argument(
        "--tls-cert: OpenSSL does not take the certificate; is its key or its hash too weak?");
  }
  if (SSL_CTX_use_PrivateKey(context.get(), &key) != 1) {
    return invalid_argument("--tls-key: OpenSSL does not take the key");
  }
  if (client_cas.empty()) return context;
  X509_STORE* const store = SSL_CTX_get_cert_store(context.get());
  for (const Certificate& ca : client_cas) {
    const bool is_added = X509_STORE_add_cert(store, ca.get()) == 1 &&
                          SSL_CTX_add_client_CA(context.get(), ca.get()) == 1;
    if (!is_added) return invalid_argument("--tls-client-ca: OpenSSL does not take a certificate");
  }
  // Without it OpenSSL ends every resumed session of a client with a certificate.
  constexpr unsigned char kSessions[] = "sluice";
  if (SSL_CTX_set_session_id_context(context.get(), kSessions, sizeof kSessions - 1) != 1) {
    return invalid_argument("--tls-client-ca: OpenSSL does not take its sessions");
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

Result<TlsMaterial> check(TlsMaterial material) {
  const auto chain = parse_certificates(material.certificate_pem);
  if (chain.empty()) return invalid_argument("--tls-cert: it has no certificate in PEM form");
  if (auto dates = check_dates(*chain.front()); !dates) return std::unexpected(dates.error());
  const Bio bio(
      BIO_new_mem_buf(material.key_pem.data(), static_cast<int>(material.key_pem.size())));
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  if (key == nullptr) {
    return invalid_argument("--tls-key: it has no private key in PEM form without a passphrase");
  }
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    return invalid_argument("--tls-key: the key does not belong to the certificate of --tls-cert");
  }
  const auto client_cas = parse_certificates(material.client_ca_pem);
  if (!material.client_ca_pem.empty() && client_cas.empty()) {
    return invalid_argument("--tls-client-ca: it has no certificate in PEM form");
  }
  auto context = make_context(chain, *key, client_cas);
  if (!context) return std::unexpected(context.error());
  material.context = *std::move(context);
  return material;
}

}  // namespace

Result<TlsMaterial> load_tls(const TlsPaths& paths) {
  TlsMaterial material;
  auto certificate = read_pem("--tls-cert", paths.certificate);
  if (!certificate) return std::unexpected(certificate.error());
  material.certificate_pem = *std::move(certificate);
  auto key = read_pem("--tls-key", paths.key);
  if (!key) return std::unexpected(key.error());
  material.key_pem = *std::move(key);
  if (!paths.client_ca.empty()) {
    auto client_ca = read_pem("--tls-client-ca", paths.client_ca);
    if (!client_ca) return std::unexpected(client_ca.error());
    if (client_ca->empty()) return invalid_argument("--tls-client-ca: it is empty");
    material.client_ca_pem = *std::move(client_ca);
  }
  auto checked = check(std::move(material));
  ERR_clear_error();  // what OpenSSL noted on this thread is told, or was none of ours
  return checked;
}

Result<std::unique_ptr<TlsFiles>> TlsFiles::load(const TlsPaths& paths, Notice notice,
                                                 std::chrono::milliseconds interval) {
  std::vector<std::filesystem::path> watched{paths.certificate, paths.key};
  if (!paths.client_ca.empty()) watched.push_back(paths.client_ca);
  const auto tell = [notice = std::move(notice)](const auto& material) {
    notice(material ? "the files of TLS have changed: new connections use the new ones"
                    : "a file of TLS has changed and is not used, the old ones stay: " +
                          material.error().message);
  };
  auto material = Reloaded<TlsMaterial>::load(
      std::move(watched), [paths] { return load_tls(paths); }, tell, interval);
  if (!material) return std::unexpected(std::move(material.error()));
  return std::unique_ptr<TlsFiles>(new TlsFiles(*std::move(material)));
}

}  // namespace sluice::server
