#include "model/program_file.h"

#include <caffe2/serialize/inline_container.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/serialization/import.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <sstream>
#include <string_view>

#include "base/mapped_file.h"
#include "kernels/operators.h"
#include "model/failure.h"

namespace sluice::model {
namespace {

constexpr size_t kMaxCodeBytes = 64 << 20;  // of all records but tensors, unpacked

// Reads an archive from a mapping: LibTorch sees the very bytes whose hash was checked.
class MappedAdapter final : public caffe2::serialize::ReadAdapterInterface {
 public:
  explicit MappedAdapter(std::shared_ptr<const MappedFile> file) : file_(std::move(file)) {}

  size_t size() const override { return file_->bytes().size(); }
  size_t read(uint64_t pos, void* buf, size_t n, const char*) const override {
    const auto bytes = file_->bytes();
    if (pos >= bytes.size()) return 0;
    const size_t count = std::min(n, bytes.size() - static_cast<size_t>(pos));
    std::memcpy(buf, bytes.data() + pos, count);
    return count;
  }

 private:
  std::shared_ptr<const MappedFile> file_;
};

bool is_tensor_record(const std::string& name) {
  return name.starts_with("data/") || name.starts_with("constants/");
}

// Looks into the archive's code and pickles for what runs while they load.
Result<void> check_records(const std::shared_ptr<MappedAdapter>& adapter, ProgramOrigin origin) {
  caffe2::serialize::PyTorchStreamReader reader(adapter);
  size_t num_bytes = 0;
  for (const std::string& name : reader.getAllRecords()) {
    if (is_tensor_record(name) && origin == ProgramOrigin::kUser) continue;
    num_bytes += reader.getRecordSize(name);
    if (num_bytes > kMaxCodeBytes) {
      return invalid_argument("holds more than " + std::to_string(kMaxCodeBytes >> 20) +
                              " MiB besides weights");
    }
    if (is_tensor_record(name)) continue;
    const auto [data, size] = reader.getRecord(name);
    const std::string_view text(static_cast<const char*>(data.get()), size);
    for (const char* word : {"__setstate__", "__torch__.torch.classes"}) {
      if (text.find(word) != std::string_view::npos) {
        return invalid_argument(std::string("uses ") + word +
                                ", which is not allowed in a program");
      }
    }
  }
  return {};
}

}  // namespace

Result<torch::jit::Module> load_program(const std::filesystem::path& path, ProgramOrigin origin) {
  kernels::register_operators();
  const std::string where = path.filename().string() + ": ";
  auto file = MappedFile::open(path);
  if (!file) return std::unexpected(file.error());
  try {
    const auto adapter = std::make_shared<MappedAdapter>(*std::move(file));
    if (auto checked = check_records(adapter, origin); !checked) {
      return fail(checked.error().code, where + checked.error().message);
    }
    torch::jit::Module program =
        torch::jit::load(adapter, at::Device(at::kCPU), /*load_debug_files=*/false);
    program.eval();
    return program;
  } catch (const std::exception& exception) {
    return invalid_argument(where +
                            "is not a TorchScript program that loads: " + one_line(exception));
  }
}

Result<std::string> save_program(const torch::jit::Module& program) {
  try {
    std::ostringstream stream;
    program.save(stream);
    return std::move(stream).str();
  } catch (const std::exception& exception) {
    return fail(ErrorCode::kInternal, "the program cannot be saved: " + one_line(exception));
  }
}

}  // namespace sluice::model
