#include "tests/model/fixtures.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <fstream>
#include <sstream>
#include <system_error>

#include "base/json.h"
#include "model/safetensors.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kBlockSize = 16;  // LoadOptions' default

}  // namespace

TemporaryFolder::TemporaryFolder() {
  static std::atomic<int> count = 0;
  path_ = fs::temp_directory_path() /
          ("sluice-model-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
  fs::create_directories(path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

void write_text(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  ASSERT_TRUE(file.good()) << path;
}

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

fs::path variant(const std::string& name) {
  return fs::path(SLUICE_SOURCE_DIR) / "tests/golden/variants" / name;
}

void copy_variant(const std::string& name, const fs::path& folder) {
  fs::create_directories(folder);
  for (const char* file : {"config.json", "model.safetensors"}) {
    fs::copy_file(variant(name) / file, folder / file);
  }
}

void replace_in(const fs::path& path, const std::string& from, const std::string& to) {
  std::string text = read_text(path);
  const size_t place = text.find(from);
  ASSERT_NE(place, std::string::npos) << from << " in " << path;
  write_text(path, text.replace(place, from.size(), to));
}

void split_checkpoint(const fs::path& folder, size_t num_shards) {
  const auto file = SafetensorsFile::open(folder / "model.safetensors");
  ASSERT_TRUE(file.has_value());
  Json index = {{"weight_map", Json::object()}};
  for (size_t shard = 0; shard < num_shards; ++shard) {
    const std::string name = "shard-" + std::to_string(shard) + ".safetensors";
    std::vector<TensorEntry> entries;
    std::map<std::string, std::string> content;
    for (size_t i = shard; i < file->tensors().size(); i += num_shards) {
      const TensorEntry& entry = file->tensors()[i];
      const auto bytes = file->bytes(entry);
      content[entry.name] = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
      entries.push_back(entry);
      index["weight_map"][entry.name] = name;
    }
    std::string text = lay_out_safetensors(entries);
    for (const TensorEntry& entry : entries) text += content[entry.name];
    write_text(folder / name, text);
  }
  write_text(folder / "model.safetensors.index.json", index.dump());
  fs::remove(folder / "model.safetensors");
}

kernels::ThreadPool& test_pool() {
  static kernels::ThreadPool pool(2);
  return pool;
}

std::unique_ptr<ModelRunner> load(const fs::path& folder, const LoadOptions& options) {
  auto runner = ModelRunner::load(folder, options, test_pool());
  EXPECT_TRUE(runner.has_value()) << (runner ? "" : runner.error().message);
  return runner ? *std::move(runner) : nullptr;
}

std::string load_error(const fs::path& folder, const LoadOptions& options) {
  const auto runner = ModelRunner::load(folder, options, test_pool());
  EXPECT_FALSE(runner.has_value()) << "loaded, but must be refused";
  if (runner) return "";
  const std::string& message = runner.error().message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << "one line: " << message;
  EXPECT_EQ(message.find("/tmp"), std::string::npos) << "no paths: " << message;
  return message;
}

Session::Session(ModelRunner& runner, int32_t max_tokens) : runner_(runner) {
  const int32_t count = (max_tokens + kBlockSize - 1) / kBlockSize;
  const auto allocated = runner.allocate_kv(2 * count + 1);
  EXPECT_TRUE(allocated.has_value());
  for (int32_t i = 0; i < count; ++i) blocks_.push_back(2 * (count - i));
}

std::vector<std::vector<float>> Session::step(const std::vector<int32_t>& tokens) {
  StepBatch batch;
  batch.clear();
  for (const int32_t token : tokens) {
    batch.logit_rows.push_back(static_cast<int32_t>(batch.tokens.size()));
    batch.tokens.push_back(token);
    batch.positions.push_back(length_++);
  }
  batch.sequence_starts.push_back(static_cast<int32_t>(tokens.size()));
  batch.context_lengths.push_back(length_);
  batch.max_blocks = (length_ + kBlockSize - 1) / kBlockSize;
  batch.block_tables.assign(blocks_.begin(), blocks_.begin() + batch.max_blocks);
  const auto logits = runner_.forward(batch);
  EXPECT_TRUE(logits.has_value()) << runner_.failure_detail();
  std::vector<std::vector<float>> rows;
  if (!logits) return rows;
  const float* data = logits->const_data_ptr<float>();
  const auto width = static_cast<size_t>(logits->size(1));
  for (size_t row = 0; row < tokens.size(); ++row) {
    rows.emplace_back(data + row * width, data + (row + 1) * width);
  }
  return rows;
}

std::vector<std::vector<float>> prompt_logits(ModelRunner& runner,
                                              const std::vector<int32_t>& tokens, size_t chunk) {
  Session session(runner, static_cast<int32_t>(tokens.size()));
  if (chunk == 0) chunk = tokens.size();
  std::vector<std::vector<float>> rows;
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t end = std::min(tokens.size(), begin + chunk);
    auto part = session.step(
        {tokens.begin() + static_cast<int64_t>(begin), tokens.begin() + static_cast<int64_t>(end)});
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

void expect_stops_leave_nothing(ImportOptions options, int stride) {
  int calls = 0;
  options.progress = [&calls](int64_t done, int64_t total) {
    EXPECT_LE(done, total);
    return ++calls > 0;
  };
  ASSERT_TRUE(import_model(options).has_value());
  std::filesystem::remove_all(options.package);
  for (int stop_at = 1; stop_at <= calls; stop_at += stride) {
    int count = 0;
    options.progress = [&](int64_t, int64_t) { return ++count < stop_at; };
    EXPECT_FALSE(import_model(options).has_value());
    EXPECT_TRUE(std::filesystem::is_empty(options.package.parent_path()))
        << "after " << stop_at << " calls";
  }
}

}  // namespace sluice::model
