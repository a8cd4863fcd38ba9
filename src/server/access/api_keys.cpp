#include "server/access/api_keys.h"

#include <algorithm>
#include <charconv>

#include "base/sha256.h"
#include "server/access/small_file.h"

namespace sluice::server {
namespace {

constexpr size_t kMaxNameBytes = 64;
constexpr int64_t kMaxLimit = 1'000'000'000'000;

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

// Takes the next word off `line`; empty at its end.
std::string_view next_word(std::string_view& line) {
  line.remove_prefix(static_cast<size_t>(std::ranges::find_if_not(line, is_blank) - line.begin()));
  const auto end = static_cast<size_t>(std::ranges::find_if(line, is_blank) - line.begin());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_name(std::string_view word) {
  return !word.empty() && word.size() <= kMaxNameBytes && std::ranges::all_of(word, [](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  });
}

Result<std::array<char, 64>> parse_digest(std::string_view word) {
  std::array<char, 64> digest{};
  const auto is_digit = [](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'f');
  };
  if (word.size() != digest.size() || !std::ranges::all_of(word, is_digit)) {
    return invalid_argument("the first word is not the 64 hexadecimal digits of a SHA-256");
  }
  std::ranges::transform(word, digest.begin(), lower);
  return digest;
}

Result<void> parse_limit(std::string_view word, ClientLimits& limits) {
  const size_t equals = word.find('=');
  const std::string_view name = word.substr(0, equals);
  std::optional<int64_t>* limit = name == "requests_per_minute"   ? &limits.requests_per_minute
                                  : name == "tokens_per_minute"   ? &limits.tokens_per_minute
                                  : name == "concurrent_requests" ? &limits.concurrent_requests
                                                                  : nullptr;
  if (limit == nullptr || equals == std::string_view::npos) {
    return invalid_argument(
        "what follows the name is not requests_per_minute=N, tokens_per_minute=N or "
        "concurrent_requests=N");
  }
  if (*limit) return invalid_argument(std::string(name) + " stands twice");
  const std::string_view digits = word.substr(equals + 1);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || value < 1 ||
      value > kMaxLimit) {
    return invalid_argument(std::string(name) + " is not a whole number from 1 to " +
                            std::to_string(kMaxLimit));
  }
  *limit = value;
  return {};
}

// 0 if equal. Reads all of both, whatever they hold.
uint8_t difference(const std::array<char, 64>& a, std::string_view b) {
  uint8_t bits = 0;
  for (size_t i = 0; i < a.size(); ++i) bits |= static_cast<uint8_t>(a[i] ^ b[i]);
  return bits;
}

// What stands behind "Bearer "; empty, which is nobody's key, if nothing does.
std::string_view bearer_key(std::optional<std::string_view> authorization) {
  constexpr std::string_view kScheme = "bearer ";
  std::string_view value = authorization.value_or("");
  if (value.size() < kScheme.size() ||
      !std::ranges::equal(value.substr(0, kScheme.size()), kScheme, {}, lower)) {
    return {};
  }
  value.remove_prefix(kScheme.size());
  while (!value.empty() && is_blank(value.front())) value.remove_prefix(1);
  while (!value.empty() && is_blank(value.back())) value.remove_suffix(1);
  return value;
}

}  // namespace

Result<KeySet> KeySet::parse(std::string_view text) {
  KeySet keys;
  std::set<Digest> seen;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (auto added = keys.add_line(line, seen); !added) {
      return invalid_argument("line " + std::to_string(number) + ": " + added.error().message);
    }
  }
  if (keys.keys_.empty()) return invalid_argument("it has no key");
  return keys;
}

Result<void> KeySet::add_line(std::string_view line, std::set<Digest>& seen) {
  const std::string_view first = next_word(line);
  if (first.empty() || first.front() == '#') return {};
  if (keys_.size() == kMaxKeys) {
    return invalid_argument("more than " + std::to_string(kMaxKeys) + " keys");
  }
  const auto digest = parse_digest(first);
  if (!digest) return std::unexpected(digest.error());
  if (!seen.insert(*digest).second) return invalid_argument("the same key stood above");
  Client client;
  client.name = next_word(line);
  if (!is_name(client.name)) {
    return invalid_argument(
        "the second word is not a name of 1 to 64 letters, digits, '.', '_' and '-'");
  }
  for (std::string_view word = next_word(line); !word.empty(); word = next_word(line)) {
    if (auto parsed = parse_limit(word, client.limits); !parsed) return parsed;
  }
  const auto client_idx = add_client(std::move(client));
  if (!client_idx) return std::unexpected(client_idx.error());
  keys_.push_back({*digest, *client_idx});
  return {};
}

Result<size_t> KeySet::add_client(Client client) {
  const auto [place, is_new] = client_by_name_.emplace(client.name, clients_.size());
  if (is_new) {
    clients_.push_back(std::move(client));
  } else if (clients_[place->second].limits != client.limits) {
    return invalid_argument("the same name stood above with other limits");
  }
  return place->second;
}

const Client* KeySet::find(std::string_view key) const {
  const std::string digest = sha256_hex(key.substr(0, kMaxKeyBytes));
  size_t found = 0;  // the place plus one, of the only key that can be equal
  for (size_t i = 0; i < keys_.size(); ++i) {
    const size_t bits = difference(keys_[i].digest, digest);
    const size_t is_equal = ((bits - 1) >> 8) & 1;  // 1 for 0, 0 for 1 to 255
    found |= (~is_equal + 1) & (i + 1);
  }
  const bool is_right = found != 0 && !key.empty() && key.size() <= kMaxKeyBytes;
  return is_right ? &clients_[keys_[found - 1].client_idx] : nullptr;
}

ClientLimits KeySet::limits_of(std::string_view name) const {
  const auto place = client_by_name_.find(name);
  return place == client_by_name_.end() ? ClientLimits{} : clients_[place->second].limits;
}

Result<std::unique_ptr<ApiKeys>> ApiKeys::load(const std::filesystem::path& path, Notice notice,
                                               std::chrono::milliseconds interval) {
  const auto read = [path]() -> Result<KeySet> {
    const auto text = read_small_file(path, KeySet::kMaxFileBytes);
    if (!text) return std::unexpected(text.error());
    return KeySet::parse(*text);
  };
  const auto tell = [notice = std::move(notice)](const auto& keys) {
    notice(keys ? "the file of --api-keys has changed: " + std::to_string((*keys)->size()) + " keys"
                : "the file of --api-keys has changed and is not used, the old keys stay: " +
                      keys.error().message);
  };
  auto keys = Reloaded<KeySet>::load({path}, read, tell, interval);
  if (!keys) return std::unexpected(std::move(keys.error()));
  return std::unique_ptr<ApiKeys>(new ApiKeys(*std::move(keys)));
}

Result<Client> ApiKeys::authenticate(std::optional<std::string_view> authorization) const {
  const auto keys = this->keys();
  const Client* const client = keys->find(bearer_key(authorization));
  if (client != nullptr) return *client;
  return fail(
      ErrorCode::kUnauthenticated,
      "this server needs an API key: authorization must be \"Bearer KEY\" with a valid key");
}

Result<Client> authenticate(const ApiKeys* keys, std::optional<std::string_view> authorization) {
  return keys == nullptr ? Result<Client>(Client{}) : keys->authenticate(authorization);
}

}  // namespace sluice::server
