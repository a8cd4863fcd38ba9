#include "model/kv_format.h"

#include <functional>
#include <numeric>

#include "model/dtype.h"

namespace sluice::model {

using kernels::KvFormat;

Result<KvFormat> find_kv_format(const std::string& name, at::ScalarType model_dtype) {
  const std::string own(dtype_of(model_dtype).name);
  if (name.empty() || name == "auto" || name == own) return KvFormat::kModel;
  if (name == "int8") return KvFormat::kInt8;
  if (name == "fp8") return KvFormat::kFloat8;
  return invalid_argument("KV cache dtype is \"" + name.substr(0, 32) + "\", the model's is " +
                          own + ": supported are auto, " + own +
                          ", int8 and, on a GPU, fp8 (--kv-cache-dtype)");
}

Result<void> check_kv_format(KvFormat format, const kernels::Device& device,
                             at::ScalarType model_dtype) {
  if (format != KvFormat::kFloat8 || !device.is_cpu()) return {};
  return invalid_argument("KV cache dtype is \"fp8\", which needs a GPU: the CPU supports auto, " +
                          std::string(dtype_of(model_dtype).name) + " and int8 (--kv-cache-dtype)");
}

int64_t kv_bytes(KvFormat format, at::ScalarType model_dtype, int64_t num_kv_heads,
                 int64_t head_size) {
  const std::vector<int64_t> shape = kernels::kv_cache_shape({.num_blocks = 1,
                                                              .num_kv_heads = num_kv_heads,
                                                              .block_size = 1,
                                                              .head_size = head_size,
                                                              .format = format});
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>()) *
         static_cast<int64_t>(c10::elementSize(kv_scalar_type(format, model_dtype)));
}

at::ScalarType kv_scalar_type(KvFormat format, at::ScalarType model_dtype) {
  switch (format) {
    case KvFormat::kInt8:
      return at::kChar;
    case KvFormat::kFloat8:
      return at::kByte;
    case KvFormat::kModel:
      break;
  }
  return model_dtype;
}

const char* profile_suffix(KvFormat format) {
  return format == KvFormat::kInt8 ? "+kv8" : format == KvFormat::kFloat8 ? "+kvf8" : "";
}

}  // namespace sluice::model
