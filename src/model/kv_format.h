#pragma once

#include <c10/core/ScalarType.h>

#include <string>

#include "kernels/device.h"
#include "kernels/kv_layout.h"
#include "sluice/error.h"

namespace sluice::model {

// The KV cache's format by its name on the command line: "auto" (or empty) and the model's own
// dtype are the model's numbers, "int8" is int8, "fp8" e4m3. kInvalidArgument for anything else.
Result<kernels::KvFormat> find_kv_format(const std::string& name, at::ScalarType model_dtype);

// kInvalidArgument where the device has no kernels for the format.
Result<void> check_kv_format(kernels::KvFormat format, const kernels::Device& device,
                             at::ScalarType model_dtype);

// Bytes of one token of one layer.
int64_t kv_bytes(kernels::KvFormat format, at::ScalarType model_dtype, int64_t num_kv_heads,
                 int64_t head_size);

// The dtype of the cache's tensors.
at::ScalarType kv_scalar_type(kernels::KvFormat format, at::ScalarType model_dtype);

// What a kernel profile's name gets behind it: the format decides bits. "", "+kv8" or "+kvf8".
const char* profile_suffix(kernels::KvFormat format);

}  // namespace sluice::model
