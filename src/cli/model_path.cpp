#include "cli/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>

#include "base/mapped_file.h"
#include "cli/parse.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxIdBytes = 200;
constexpr size_t kMaxRefBytes = 200;

// A variable's value as a path, with "~" for the home folder as huggingface_hub allows it.
std::optional<fs::path> path_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  const std::string_view text = value;
  const char* home = std::getenv("HOME");
  if (home != nullptr && (text == "~" || text.starts_with("~/"))) {
    return fs::path(std::string(home) + std::string(text.substr(1)));
  }
  return fs::path(text);
}

// A path as a message shows it: all of it, as it says where to look.
std::string whole(const fs::path& path) {
  return "'" + path.string() + "'";
}

// The cache's folder and the variable that decides it.
std::pair<fs::path, std::string> hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto cache = path_variable(name)) return {*cache, name};
  }
  if (const auto home = path_variable("HF_HOME")) return {*home / "hub", "HF_HOME"};
  if (const auto cache = path_variable("XDG_CACHE_HOME")) {
    return {*cache / "huggingface/hub", "HF_HOME"};
  }
  const auto home = path_variable("HOME");
  return {home.value_or("/") / ".cache/huggingface/hub", "HF_HOME"};
}

bool is_plain_name(std::string_view text) {
  return !text.empty() && text.front() != '.' && text.front() != '-' &&
         std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
         });
}

// "name" or "org/name", as the hub allows them.
bool is_hub_id(const std::string& text) {
  const size_t slash = text.find('/');
  if (text.size() > kMaxIdBytes) return false;
  if (slash == std::string::npos) return is_plain_name(text);
  return is_plain_name(std::string_view(text).substr(0, slash)) &&
         is_plain_name(std::string_view(text).substr(slash + 1));
}

// The folder's name in the cache: "models--org--name".
std::string cache_name(const std::string& id) {
  std::string name = "models--" + id;
  const size_t slash = name.find('/');
  return slash == std::string::npos ? name : name.replace(slash, 1, "--");
}

Result<fs::path> find_snapshot(const std::string& id) {
  const auto [cache, variable] = hub_cache();
  const fs::path model = cache / cache_name(id);
  std::error_code error;
  const auto absent = [&](const std::string& what) {
    return fail(ErrorCode::kNotFound, "there is no folder " + quote(id) + ", and " + what +
                                          "; to download it: hf download " + id);
  };
  if (!fs::is_directory(model, error)) {
    return absent("no model of that name in the cache " + whole(cache) + " (" + variable + ")");
  }
  const auto main = read_file(model / "refs/main", kMaxRefBytes);
  if (!main) return absent("its copy in the cache has no " + whole(model / "refs/main"));
  std::string_view revision = *main;
  while (revision.ends_with('\n')) revision.remove_suffix(1);
  const fs::path snapshot = model / "snapshots" / revision;
  if (!is_plain_name(revision) || !fs::is_directory(snapshot, error)) {
    return absent("its copy in the cache has no snapshot " + whole(snapshot));
  }
  return snapshot;
}

}  // namespace

Result<ModelSource> find_model(const std::string& text, bool may_be_named) {
  ModelSource source;
  std::string path = text;
  const size_t equals = text.find('=');
  const bool is_named = may_be_named && equals != std::string::npos &&
                        text.substr(0, equals).find('/') == std::string::npos;
  if (is_named) {
    source.name = text.substr(0, equals);
    path = text.substr(equals + 1);
  }
  if (path.empty()) return invalid_argument("the path is empty");
  source.path = path;
  std::error_code error;
  if (path == "null" || fs::exists(source.path, error)) return source;
  if (!is_hub_id(path)) {
    return fail(ErrorCode::kNotFound, "there is no folder " + whole(path));
  }
  auto snapshot = find_snapshot(path);
  if (!snapshot) return std::unexpected(snapshot.error());
  source.path = *std::move(snapshot);
  if (source.name.empty()) source.name = path;
  return source;
}

}  // namespace sluice::cli
