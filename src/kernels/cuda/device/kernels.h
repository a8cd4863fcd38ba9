#pragma once

#include "kernels/cuda/device/sum_order.h"
#include "kernels/cuda/device_api.h"

// The functions that device_api.h's table points to; one .cu file each, or a few that belong
// together. All but these are the same for NVIDIA's devices and for the tests' host.
namespace sluice::kernels::cuda {

Status pack(const PackArgs& args, Stream stream);                 // linear_pack.cu
Status embed(const EmbedArgs& args, Stream stream);               // rows.cu
Status select_rows(const SelectRowsArgs& args, Stream stream);    // rows.cu
Status copy_columns(const CopyColumnsArgs& args, Stream stream);  // rows.cu
Status add(const AddArgs& args, Stream stream);                   // rows.cu
Status swiglu(const SwigluArgs& args, Stream stream);             // rows.cu
Status rms_norm(const NormArgs& args, Stream stream);             // norm.cu
Status layer_norm(const NormArgs& args, Stream stream);           // norm.cu
int64_t linear_workspace(const LinearArgs& args);                 // linear.cu
Status linear(const LinearArgs& args, Stream stream);             // linear.cu
int64_t attention_workspace(const AttentionArgs& args);           // attention.cu
Status attention(const AttentionArgs& args, Stream stream);       // attention.cu
Status feed_tokens(const FeedTokensArgs& args, Stream stream);    // sample_previous.cu
int64_t sample_workspace(const SampleArgs& args);                 // sample.cu
Status sample(const SampleArgs& args, Stream stream);             // sample.cu

// Sets the table's members above; the others are the device's own.
inline void set_kernels(DeviceApi& api) {
  api.version = kDeviceApiVersion;
  api.has_fixed_order = kFixedOrder;
  api.pack = &pack;
  api.embed = &embed;
  api.select_rows = &select_rows;
  api.copy_columns = &copy_columns;
  api.add = &add;
  api.swiglu = &swiglu;
  api.rms_norm = &rms_norm;
  api.layer_norm = &layer_norm;
  api.linear_workspace = &linear_workspace;
  api.linear = &linear;
  api.attention_workspace = &attention_workspace;
  api.attention = &attention;
  api.feed_tokens = &feed_tokens;
  api.sample_workspace = &sample_workspace;
  api.sample = &sample;
}

}  // namespace sluice::kernels::cuda
