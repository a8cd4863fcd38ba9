#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/activation.h"
#include "kernels/dtype.h"
#include "kernels/kv_layout.h"
#include "kernels/weight_format.h"

// The seam between Sluice and its CUDA kernels: plain structs and one table of functions, without
// LibTorch and without CUDA's headers. libsluice_cuda.so fills the table for NVIDIA's devices
// (device/plugin.cpp); the tests fill it with the same kernels compiled for the host
// (tests/kernels/cuda_host).
//
// Pointers are the device's unless a name says host. Matrices are row-major and contiguous. Every
// kernel is put into `stream` and returns at once; its launch's error is the result.
// Letters: T tokens, B sequences, H query heads, Hkv KV heads, D head size, S tokens per block, M
// blocks per sequence, V vocabulary.
namespace sluice::kernels::cuda {

using Stream = void*;    // a cudaStream_t
using Event = void*;     // a cudaEvent_t
using Graph = void*;     // a cudaGraphExec_t
using Status = int32_t;  // a cudaError_t
inline constexpr Status kSuccess = 0;
inline constexpr Status kOutOfMemory = 2;
inline constexpr Status kNotSupported = 801;
inline constexpr int32_t kDeviceApiVersion = 4;

constexpr int64_t size_of(DType type) {
  return type == DType::kF32 ? 4 : 2;
}

struct DeviceInfo {
  char name[256] = {};
  int32_t compute_major = 0;
  int32_t compute_minor = 0;
  int32_t num_multiprocessors = 0;
  int32_t driver_version = 0;  // 13000: CUDA 13.0
  int64_t total_bytes = 0;
};

// A weight [rows, columns] as `linear` and `embed` read it (layout.h says how numbers lie in it).
struct Weight {
  DType type = DType::kBF16;  // of the activations that it meets
  WeightFormat format = WeightFormat::kPlain;
  bool is_wide = false;    // int8, fp8: becomes `type` for its products; else x becomes as it is
  int64_t rows = 0;        // N
  int64_t columns = 0;     // K
  int64_t group_size = 0;  // int4
  const void* tiles = nullptr;
  const float* scales = nullptr;         // of what is quantized, one a row
  const uint8_t* multipliers = nullptr;  // int4
};

// Puts a weight's numbers [rows, columns], as files have them, into its tiles.
// The host waits for it before it asks for `linear`, which may read tiles before the kernels ahead
// of it are done (device/awaited.cuh).
struct PackArgs {
  Weight weight;
  const void* source = nullptr;  // kPlain: weight.type; kInt4: two codes a byte; else a byte each
  void* tiles = nullptr;         // weight_bytes(weight)
};

// A token that is no row of the weight gets a row of NaN.
struct EmbedArgs {
  Weight weight;                    // [V, hidden]
  const int32_t* tokens = nullptr;  // [T]
  int64_t num_tokens = 0;
  void* output = nullptr;  // [T, hidden] of weight.type
};

struct SelectRowsArgs {
  const void* x = nullptr;           // [T, row_bytes]
  int64_t num_source_rows = 0;       // T; an index past them gives a row of NaN
  const int32_t* indices = nullptr;  // [R]
  int64_t num_rows = 0;              // R
  int64_t row_bytes = 0;
  void* output = nullptr;
};

// rms_norm, layer_norm (with bias); of rows, or of heads: `heads` of each row of `x` (row r's head
// i begins at r * stride + i * size), which is rms_norm with a weight of its own.
struct NormArgs {
  DType type = DType::kBF16;
  const void* x = nullptr;
  const void* weight = nullptr;  // [size]
  const void* bias = nullptr;    // [size]; layer_norm only
  void* output = nullptr;        // where x has it
  int64_t num_rows = 0;
  int64_t size = 0;
  int64_t stride = 0;  // numbers from a row to the next
  int64_t heads = 1;
  float epsilon = 0;
};

// Copies num_bytes of each row, from first_byte on, to the same place of the output's row.
struct CopyColumnsArgs {
  const void* x = nullptr;
  void* output = nullptr;
  int64_t num_rows = 0;
  int64_t row_bytes = 0;
  int64_t first_byte = 0;
  int64_t num_bytes = 0;
};

// x + y, number by number; the output may be x.
struct AddArgs {
  DType type = DType::kBF16;
  const void* x = nullptr;
  const void* y = nullptr;
  void* output = nullptr;
  int64_t count = 0;
};

struct SwigluArgs {
  DType type = DType::kBF16;
  const void* x = nullptr;  // [T, 2 size]
  void* output = nullptr;   // [T, size]
  int64_t num_rows = 0;
  int64_t size = 0;
};

// activation(x weight^T + bias) + residual
struct LinearArgs {
  Weight weight;
  const void* x = nullptr;         // [T, K] of weight.type
  const void* bias = nullptr;      // [N] or null
  const void* residual = nullptr;  // [T, N] or null
  void* output = nullptr;          // [T, N] of weight.type, or float32
  void* workspace = nullptr;       // linear_workspace() bytes
  int64_t num_rows = 0;            // T
  Activation activation = Activation::kNone;
  bool float_output = false;  // `logits`
  int32_t num_multiprocessors = 1;
};

// operators.h says what attention does. The cache is [N, Hkv, S, 2 D]: a slot's key, then its
// value; after a head's slots, where the format has scales, those of its slots in order.
struct AttentionArgs {
  DType type = DType::kBF16;
  KvFormat cache_format = KvFormat::kModel;  // kv_layout.h
  const void* qkv = nullptr;
  const int32_t* positions = nullptr;
  void* cache = nullptr;
  const int32_t* starts = nullptr;
  const int32_t* contexts = nullptr;
  const int32_t* tables = nullptr;
  const float* rope = nullptr;  // [rotary_positions, rotary_size / 2, 2]
  const float* alibi_slopes = nullptr;
  void* workspace = nullptr;  // attention_workspace() bytes
  void* output = nullptr;
  int64_t num_tokens = 0;
  int64_t num_sequences = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_size = 0;
  int64_t block_size = 0;
  int64_t max_blocks = 0;
  int64_t rotary_size = 0;
  int64_t rotary_positions = 0;  // a row at a position past them gets NaN
  int64_t num_blocks = 0;        // of the cache
  int64_t window = 0;
  float scale = 1;
};

// A row to draw from or to score; sampling/sampler.h says what each number does, and the device
// gives the same bits. Lists are parts of SampleArgs's arrays.
struct SampleRow {
  float temperature = 0;  // 0: the most likely token, nothing is drawn
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint32_t completion_index = 0;
  uint32_t position = 0;
  int32_t scored_token = -1;
  int32_t num_logprobs = -1;
  int32_t first_top = 0;  // place of the row's best in `top`: room for num_logprobs
  uint64_t seed = 0;
  int32_t first_count = 0;
  int32_t num_counts = 0;  // 0 if no penalty is in force
  int32_t first_bias = 0;
  int32_t num_biases = 0;
  int32_t first_forbidden = 0;
  int32_t num_forbidden = 0;
  // The row of SampleArgs::previous that has drawn the sequence's last token, which `counts` lacks;
  // then there is room for one more behind the row's counts. -1: `counts` has all.
  int32_t previous_row = -1;
};

// A token of the prompt or the completion. Of a row: by token id, ascending, each once.
struct SampleCount {
  int32_t token_id = 0;
  int32_t num_generated = 0;  // 0: in the prompt only
};

// Of a row: by token id, ascending, each once.
struct SampleBias {
  int32_t token_id = 0;
  float bias = 0;
};

struct alignas(8) SampleScore {
  int32_t token_id = 0;
  float logprob = 0;
};

// In the order of sampling::RowFault.
enum class SampleFault : int32_t { kNone, kNotFinite, kNothingLeft };

struct SampleResult {
  SampleFault fault = SampleFault::kNone;  // then the rest means nothing
  int32_t token_id = -1;                   // drawn, or the scored one
  float logprob = 0;                       // if there were logprobs to be computed
  int32_t num_top = 0;                     // of the row's best in `top`
};

// What is launched depends on the numbers and flags below, on no row's content.
// Requires: 1 <= V <= 2^24; ids in lists in [0, V).
struct SampleArgs {
  const float* logits = nullptr;           // [R, V]; only read
  SampleRow* rows = nullptr;               // changed where a row has a previous_row
  SampleCount* counts = nullptr;           // the same
  const SampleResult* previous = nullptr;  // of another call; null: no row has a previous_row
  const SampleBias* biases = nullptr;
  const int32_t* forbidden = nullptr;
  SampleResult* results = nullptr;  // [R]
  SampleScore* top = nullptr;
  void* workspace = nullptr;  // sample_workspace() bytes, aligned to 256
  int64_t num_rows = 0;       // R, at most 65535
  int64_t vocabulary_size = 0;
  bool draws = true;   // false: every row takes the most likely token or is scored
  bool scores = true;  // false: no row is scored or has logprobs
};

// Replaces each token -1 - r by what row r of a call of `sample` has drawn.
struct FeedTokensArgs {
  int32_t* tokens = nullptr;  // [T]
  int64_t num_tokens = 0;
  const SampleResult* drawn = nullptr;  // [num_drawn]
  int64_t num_drawn = 0;                // a token of a row past them, or of a fault, becomes -1
};

struct DeviceApi {
  int32_t version = 0;          // kDeviceApiVersion
  bool has_fixed_order = true;  // of sums; without it a row's bits depend on its company

  // The process's devices. What is done next on this thread is done on the one in use, which takes
  // memory of it from then on; to count and to describe takes none.
  Status (*count_devices)(int32_t* count) = nullptr;
  Status (*describe)(int32_t ordinal, DeviceInfo* info) = nullptr;
  Status (*use)(int32_t ordinal) = nullptr;
  // Of the one in use.
  Status (*count_free_bytes)(int64_t* num_bytes) = nullptr;
  const char* (*error_text)(Status status) = nullptr;

  Status (*create_stream)(Stream* stream) = nullptr;
  Status (*destroy_stream)(Stream stream) = nullptr;
  // Waits for all that is in the stream, and tells of what failed in it.
  Status (*synchronize)(Stream stream) = nullptr;

  // Marks what is in the stream; the host can wait for it, whatever comes behind it.
  Status (*create_event)(Event* event) = nullptr;
  Status (*destroy_event)(Event event) = nullptr;
  Status (*record_event)(Event event, Stream stream) = nullptr;
  Status (*wait_for_event)(Event event) = nullptr;

  // What is put into the stream between the two is kept and not done; launch_graph does it, each
  // time with the same arguments. Nothing may be waited for between them. A failed end_capture
  // gives no graph, and the stream is as before begin_capture.
  Status (*begin_capture)(Stream stream) = nullptr;
  Status (*end_capture)(Stream stream, Graph* graph) = nullptr;
  Status (*launch_graph)(Graph graph, Stream stream) = nullptr;
  Status (*destroy_graph)(Graph graph) = nullptr;

  // Memory of the device, and of the host where copies need no staging. Aligned to 256 bytes.
  Status (*allocate)(void** data, size_t bytes) = nullptr;
  Status (*release)(void* data) = nullptr;
  Status (*allocate_host)(void** data, size_t bytes) = nullptr;
  Status (*release_host)(void* data) = nullptr;
  Status (*copy_to_device)(void* to, const void* from_host, size_t bytes, Stream stream) = nullptr;
  Status (*copy_to_host)(void* to_host, const void* from, size_t bytes, Stream stream) = nullptr;
  Status (*copy_on_device)(void* to, const void* from, size_t bytes, Stream stream) = nullptr;

  Status (*pack)(const PackArgs& args, Stream stream) = nullptr;
  Status (*embed)(const EmbedArgs& args, Stream stream) = nullptr;
  Status (*select_rows)(const SelectRowsArgs& args, Stream stream) = nullptr;
  Status (*rms_norm)(const NormArgs& args, Stream stream) = nullptr;
  Status (*layer_norm)(const NormArgs& args, Stream stream) = nullptr;
  Status (*copy_columns)(const CopyColumnsArgs& args, Stream stream) = nullptr;
  Status (*add)(const AddArgs& args, Stream stream) = nullptr;
  Status (*swiglu)(const SwigluArgs& args, Stream stream) = nullptr;
  int64_t (*linear_workspace)(const LinearArgs& args) = nullptr;
  Status (*linear)(const LinearArgs& args, Stream stream) = nullptr;
  int64_t (*attention_workspace)(const AttentionArgs& args) = nullptr;
  Status (*attention)(const AttentionArgs& args, Stream stream) = nullptr;
  Status (*feed_tokens)(const FeedTokensArgs& args, Stream stream) = nullptr;
  int64_t (*sample_workspace)(const SampleArgs& args) = nullptr;
  Status (*sample)(const SampleArgs& args, Stream stream) = nullptr;
};

// What libsluice_cuda.so exports, as a function of this type.
inline constexpr const char* kDeviceApiSymbol = "sluice_cuda_device_api";
using DeviceApiFunction = const DeviceApi* (*)();

}  // namespace sluice::kernels::cuda
