#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/access/file_watcher.h"
#include "server/access/reloaded.h"
#include "sluice/error.h"

namespace sluice::server {

// What one client may take; absent: no limit of its own.
struct ClientLimits {
  std::optional<int64_t> requests_per_minute;
  std::optional<int64_t> tokens_per_minute;    // of prompts and completions together
  std::optional<int64_t> concurrent_requests;  // accepted and not ended

  bool operator==(const ClientLimits&) const = default;
};

// Who calls. Several keys may name one client, for the time in which it changes its key.
struct Client {
  std::string name;  // "" where no keys are asked for
  ClientLimits limits;
};

// The keys of one file, which holds their hashes and never the keys themselves. One key a line:
//
//   SHA-256-of-the-key NAME [requests_per_minute=N] [tokens_per_minute=N] [concurrent_requests=N]
//
// in words separated by blanks, the hash as 64 hexadecimal digits (`printf %s "$KEY" | sha256sum`),
// the name as 1 to 64 letters, digits, '.', '_' and '-', each N from 1 to 10^12. Empty lines and
// those that begin with '#' say nothing. Lines of one name must have the same limits. At most
// kMaxKeys keys.
//
// A hash without salt is enough because keys are drawn at random and long; whoever makes a key up
// from words makes one that can be guessed, whatever the hash.
class KeySet final {
 public:
  static constexpr size_t kMaxKeys = 10'000;
  static constexpr size_t kMaxFileBytes = size_t{4} << 20;
  // Longer ones are wrong keys: what is hashed of a caller's text is bounded.
  static constexpr size_t kMaxKeyBytes = 512;

  // kInvalidArgument with the line's number and what is wrong with it; no key, hash or name is
  // quoted. A file without a key is refused: it would lock everybody out.
  static Result<KeySet> parse(std::string_view text);

  // The client of this key, or null; lives as long as the set. Every key of the set is compared in
  // full whatever comes of it, so that the time tells nothing of how near a wrong key was, or where
  // the right one stands.
  const Client* find(std::string_view key) const;
  // The limits of a client by name; none if it is unknown.
  ClientLimits limits_of(std::string_view name) const;
  size_t size() const { return keys_.size(); }

 private:
  using Digest = std::array<char, 64>;  // lower-case hexadecimal
  struct Key {
    Digest digest{};
    size_t client_idx = 0;
  };
  Result<void> add_line(std::string_view line, std::set<Digest>& seen);
  Result<size_t> add_client(Client client);

  std::vector<Key> keys_;
  std::vector<Client> clients_;
  std::map<std::string, size_t, std::less<>> client_by_name_;
};

// The keys of a file that is read again when it changes. A new file that cannot be read or parsed
// changes nothing: the old keys stay, and `notice` gets one line.
//
// Threads: any; `notice` is called on the watcher's.
class ApiKeys final {
 public:
  using Notice = std::function<void(const std::string&)>;

  // kInvalidArgument or kNotFound with one line that says what is wrong with the file.
  static Result<std::unique_ptr<ApiKeys>> load(
      const std::filesystem::path& path, Notice notice,
      std::chrono::milliseconds interval = FileWatcher::kInterval);

  // Who sends this value of the `authorization` header, "Bearer KEY" (RFC 6750; the scheme's
  // letters in either case). kUnauthenticated with one and the same message, after the same work,
  // for a header that is absent, malformed or has a wrong key.
  Result<Client> authenticate(std::optional<std::string_view> authorization) const;
  ClientLimits limits_of(std::string_view name) const { return keys()->limits_of(name); }
  std::shared_ptr<const KeySet> keys() const { return keys_->current(); }

 private:
  explicit ApiKeys(std::unique_ptr<Reloaded<KeySet>> keys) : keys_(std::move(keys)) {}

  const std::unique_ptr<Reloaded<KeySet>> keys_;
};

// What a front end calls: ApiKeys::authenticate, or everybody as a client without a name where
// `keys` is null, which is a server without --api-keys.
Result<Client> authenticate(const ApiKeys* keys, std::optional<std::string_view> authorization);

}  // namespace sluice::server
