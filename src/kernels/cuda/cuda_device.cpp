#include "kernels/cuda/cuda_device.h"

#include <ATen/OpaqueTensorImpl.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <utility>

#include "kernels/checks.h"
#include "kernels/compute.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/plugin.h"
#include "kernels/packed_weight.h"
#include "kernels/quantized_parts.h"

namespace sluice::kernels::cuda {
namespace {

// The device in use belongs to a thread, and calls come from more than one in a process's life.
Status select_device(const DeviceApi& api, int32_t ordinal) {
  thread_local int32_t in_use = -1;
  if (in_use == ordinal) return kSuccess;
  const Status status = api.use(ordinal);
  in_use = status == kSuccess ? ordinal : -1;
  return status;
}

// What grows is given room for more at once.
constexpr size_t kSmallestGrowth = size_t{1} << 20;
// Rows of a weight on their way to their tiles: so many bytes at a time.
constexpr int64_t kPackedPieceBytes = int64_t{64} << 20;
constexpr int32_t kMostDevices = 64;

std::array<CudaDevice*, kMostDevices>& open_devices() {
  static std::array<CudaDevice*, kMostDevices> devices{};
  return devices;
}

// The number is the order of operations: it grows when that changes. 0: there is none.
std::string profile_of(const DeviceApi& api, const DeviceInfo& info) {
  const int32_t compute = info.compute_major * 10 + info.compute_minor;
  return (compute == 0 ? std::string("cuda-host") : "cuda-sm" + std::to_string(compute)) +
         (api.has_fixed_order ? "/1" : "/0");
}

using PackedHandle = std::shared_ptr<const CudaDevice::PackedWeight>;
using QuantizedParts = CudaDevice::QuantizedParts;
using Impl = at::OpaqueTensorImpl<PackedHandle>;

const CudaDevice::PackedWeight* packed(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.unsafeGetTensorImpl()->has_storage()) return nullptr;
  const auto* impl = dynamic_cast<const Impl*>(tensor.unsafeGetTensorImpl());
  return impl == nullptr ? nullptr : impl->opaque_handle().get();
}

// Where a tensor's memory goes back to.
struct Owner {
  CudaDevice& device;
  void* data;
};

struct CudaRecording final : Recording {
  CudaRecording(const DeviceApi& its_api, Graph its_graph) : api(its_api), graph(its_graph) {}
  ~CudaRecording() override { (void)api.destroy_graph(graph); }

  const DeviceApi& api;
  Graph graph;
};

// The vector as a tensor that does not own it.
template <typename T>
at::Tensor as_vector(const std::vector<T>& values, at::ScalarType dtype) {
  return at::from_blob(const_cast<T*>(values.data()), {static_cast<int64_t>(values.size())},
                       at::TensorOptions().dtype(dtype));
}

// A row's scale, and int4's multipliers where the tiles want them. False if the row is not as
// quantize.h says.
bool take_row(const QuantizedWeight& weight, const Weight& description, int64_t row,
              QuantizedParts& parts) {
  const int64_t num_scales = weight.scales.size(1);
  const float* scales = weight.scales.const_data_ptr<float>() + row * num_scales;
  if (!are_scales(scales, num_scales)) return false;
  if (description.format != WeightFormat::kInt4) {
    parts.scales[static_cast<size_t>(row)] = scales[0];
    const auto* values = static_cast<const uint8_t*>(weight.values.const_data_ptr());
    return are_values(values + row * description.columns, description.columns, description.format);
  }
  const float base = base_of(scales, num_scales);
  if (base < 0.0f) return false;
  parts.scales[static_cast<size_t>(row)] = base;
  const int64_t groups = num_groups(description.columns, description.group_size);
  for (int64_t group = 0; group < num_scales; ++group) {
    parts.multipliers[static_cast<size_t>(multiplier_offset(row, group, groups))] =
        static_cast<uint8_t>(multiplier_of(scales[group], base));
  }
  return true;
}

Result<QuantizedParts> parts_of(const QuantizedWeight& weight, const Weight& description) {
  QuantizedParts parts;
  parts.scales.resize(static_cast<size_t>(description.rows));
  if (description.format == WeightFormat::kInt4) {
    const int64_t groups = num_groups(description.columns, description.group_size);
    parts.multipliers.resize(
        static_cast<size_t>(divide_up(description.rows, kTileRows) * groups * kTileRows));
  }
  std::atomic<int64_t> bad_row{-1};
  auto task = [&](int64_t row) {
    if (!take_row(weight, description, row, parts)) bad_row.store(row);
  };
  parallel_for(description.rows, std::ref(task));
  if (bad_row.load() >= 0) return bad_quantized_row(weight, bad_row.load());
  return parts;
}

}  // namespace

class CudaDevice::HostStaging final : public Staging {
 public:
  explicit HostStaging(CudaDevice& device) : device_(device) {}
  ~HostStaging() override { device_.release_host(memory_); }

  std::byte* room_for(size_t num_bytes) override {
    device_.use();
    device_.grow_host(memory_, num_bytes);
    return static_cast<std::byte*>(memory_.data);
  }

 private:
  CudaDevice& device_;
  Memory memory_;
};

Result<CudaDevice*> CudaDevice::open(const DeviceApi& api, int32_t ordinal) {
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  const auto devices = list_devices(api);
  if (!devices) return std::unexpected(devices.error());
  if (ordinal < 0 || ordinal >= std::ssize(*devices) || ordinal >= kMostDevices) {
    return fail(ErrorCode::kFailedPrecondition, "there is no cuda:" + std::to_string(ordinal) +
                                                    ", the driver knows " +
                                                    std::to_string(devices->size()) + " GPUs");
  }
  CudaDevice*& device = open_devices()[static_cast<size_t>(ordinal)];
  if (device != nullptr) return device;
  const DeviceInfo& info = (*devices)[static_cast<size_t>(ordinal)];
  if (const std::string why = why_unusable(info); !why.empty()) {
    return fail(ErrorCode::kFailedPrecondition, std::string(info.name) + ": " + why);
  }
  Stream stream = nullptr;
  Status status = select_device(api, ordinal);
  if (status == kSuccess) status = api.create_stream(&stream);
  if (status != kSuccess) {
    return fail(ErrorCode::kFailedPrecondition,
                std::string(info.name) + " cannot be opened: " + api.error_text(status));
  }
  device = new CudaDevice(api, ordinal, info, stream);
  return device;
}

CudaDevice::CudaDevice(const DeviceApi& api, int32_t ordinal, const DeviceInfo& info, Stream stream)
    : api_(api),
      ordinal_(ordinal),
      info_(info),
      stream_(stream),
      name_("cuda:" + std::to_string(ordinal)),
      profile_(profile_of(api, info)),
      download_(std::make_unique<HostCopy>(*this)) {}

CudaDevice::~CudaDevice() = default;

// A lost device has lost its memory too: there is nobody to tell.
void CudaDevice::release_memory(void* owner) {
  const std::unique_ptr<Owner> last(static_cast<Owner*>(owner));
  CudaDevice& device = last->device;
  device.memory_changes_.fetch_add(1, std::memory_order_relaxed);
  (void)device.select();
  (void)device.api_.release(last->data);
}

Status CudaDevice::select() const {
  return select_device(api_, ordinal_);
}

void CudaDevice::use() const {
  check(select());
}

void CudaDevice::check(Status status) const {
  if (status == kOutOfMemory) was_refused_.store(true, std::memory_order_relaxed);
  TORCH_CHECK_WITH(OutOfMemoryError, status != kOutOfMemory, name_, ": ", api_.error_text(status));
  TORCH_CHECK(status == kSuccess, name_, ": ", api_.error_text(status));
}

Float8Product CudaDevice::float8_product() const {
  return float8_product_of(info_);
}

int64_t CudaDevice::free_bytes() const {
  int64_t num_bytes = 0;
  use();
  return api_.count_free_bytes(&num_bytes) == kSuccess ? num_bytes : 0;
}

void CudaDevice::synchronize() {
  use();
  check(api_.synchronize(stream_));
}

at::Tensor CudaDevice::allocate(at::IntArrayRef sizes, at::ScalarType dtype) {
  size_t num_bytes = c10::elementSize(dtype);
  for (const int64_t size : sizes) num_bytes *= static_cast<size_t>(size);
  void* data = nullptr;
  use();
  check(api_.allocate(&data, std::max<size_t>(num_bytes, 1)));
  const c10::Device place(c10::kCUDA, static_cast<c10::DeviceIndex>(ordinal_));
  c10::DataPtr pointer(data, new Owner{*this, data}, &CudaDevice::release_memory, place);
  c10::Storage storage(c10::Storage::use_byte_size_t(), num_bytes, std::move(pointer), nullptr,
                       /*resizable=*/false);
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::CUDA),
      c10::scalarTypeToTypeMeta(dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
  return tensor;
}

void CudaDevice::grow(Memory& memory, size_t num_bytes, Status (*allocate)(void**, size_t),
                      Status (*release)(void*)) {
  if (memory.bytes >= num_bytes) return;
  synchronize();  // what is under way may use the old one
  if (memory.data != nullptr) check(release(memory.data));
  memory.data = nullptr;
  memory.bytes = 0;
  const size_t wanted = std::max(num_bytes, kSmallestGrowth);
  check(allocate(&memory.data, wanted));
  memory.bytes = wanted;
}

// To twice as much where there is room: what it waits for, and pinning memory, take as long as a
// step.
void CudaDevice::grow_host(Memory& memory, size_t num_bytes) {
  if (memory.bytes >= num_bytes) return;
  const size_t twice = 2 * memory.bytes;
  try {
    grow(memory, std::max(num_bytes, twice), api_.allocate_host, api_.release_host);
  } catch (const c10::OutOfMemoryError&) {
    if (twice <= num_bytes) throw;
    grow(memory, num_bytes, api_.allocate_host, api_.release_host);
    take_refusal();
  }
}

// A lost device has nothing under way.
void CudaDevice::release_host(Memory& memory) const {
  if (memory.data == nullptr) return;
  (void)select();
  (void)api_.synchronize(stream_);
  (void)api_.release_host(std::exchange(memory.data, nullptr));
}

// In powers of two, so that it seldom moves; exactly, where there is no room for that.
void* CudaDevice::workspace(int64_t num_bytes) {
  const auto wanted = static_cast<size_t>(num_bytes);
  if (workspace_.bytes >= wanted) return workspace_.data;
  memory_changes_.fetch_add(1, std::memory_order_relaxed);
  try {
    grow(workspace_, std::bit_ceil(wanted), api_.allocate, api_.release);
  } catch (const c10::OutOfMemoryError&) {
    grow(workspace_, wanted, api_.allocate, api_.release);
    take_refusal();
  }
  return workspace_.data;
}

std::unique_ptr<Staging> CudaDevice::make_staging() {
  return std::make_unique<HostStaging>(*this);
}

void CudaDevice::copy_to(const at::Tensor& tensor, const void* host, size_t num_bytes) {
  use();
  TORCH_CHECK(num_bytes <= tensor.nbytes(), "tensor has ", tensor.nbytes(), " bytes, expected ",
              num_bytes);
  if (num_bytes == 0) return;
  check(api_.copy_to_device(tensor.data_ptr(), host, num_bytes, stream_));
}

void CudaDevice::copy(const at::Tensor& to, const at::Tensor& from) {
  use();
  TORCH_CHECK(to.nbytes() == from.nbytes(), "tensor has ", to.nbytes(), " bytes, expected ",
              from.nbytes());
  check(api_.copy_on_device(to.data_ptr(), from.const_data_ptr(), to.nbytes(), stream_));
}

at::Tensor CudaDevice::upload(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.is_cpu(), "tensor is on ", tensor.device(), ", expected the CPU");
  const at::Tensor source = tensor.contiguous();
  at::Tensor copy = allocate(source.sizes(), source.scalar_type());
  copy_to(copy, source.const_data_ptr(), source.nbytes());
  synchronize();  // the source may go
  return copy;
}

at::Tensor CudaDevice::download(const at::Tensor& tensor) {
  download_->start(tensor, tensor.nbytes());
  return at::from_blob(const_cast<std::byte*>(download_->wait()), tensor.sizes(),
                       at::TensorOptions().dtype(tensor.scalar_type()));
}

bool CudaDevice::can_record() const {
  static const bool is_wished = [] {
    const char* wish = std::getenv("SLUICE_CUDA_GRAPHS");
    return wish == nullptr || std::strcmp(wish, "0") != 0;
  }();
  return is_wished;
}

Result<std::unique_ptr<Recording>> CudaDevice::record(c10::function_ref<void()> calls) {
  use();
  std::string why;
  const Status begun = api_.begin_capture(stream_);
  if (begun != kSuccess) return fail(ErrorCode::kFailedPrecondition, api_.error_text(begun));
  try {
    calls();
  } catch (const c10::Error& error) {
    why = error.what_without_backtrace();
  } catch (...) {
    // Of whatever kind: the stream must not be left capturing. The caller makes the calls instead,
    // and learns what is wrong with them.
    why = "a call failed";
  }
  Graph graph = nullptr;
  const Status status = api_.end_capture(stream_, &graph);
  std::unique_ptr<Recording> recording;
  if (graph != nullptr) recording = std::make_unique<CudaRecording>(api_, graph);
  if (why.empty() && status != kSuccess) why = api_.error_text(status);
  if (!why.empty()) return fail(ErrorCode::kFailedPrecondition, std::move(why));
  return recording;
}

void CudaDevice::play(const Recording& recording) {
  use();
  check(api_.launch_graph(static_cast<const CudaRecording&>(recording).graph, stream_));
}

// A piece of rows at a time, so that the device holds little of a weight twice.
void CudaDevice::pack_tiles(const at::Tensor& rows, void* tiles, const Weight& description) {
  const int64_t row_bytes = description.columns * file_bits(description) / 8;
  Weight one_tile = description;
  one_tile.rows = kTileRows;
  const int64_t tile_bytes = weight_bytes(one_tile);
  const int64_t piece_rows =
      std::max(kPackedPieceBytes / row_bytes / kTileRows * kTileRows, kTileRows);
  const at::Tensor piece =
      allocate({std::min(piece_rows, description.rows) * row_bytes}, at::kByte);
  const auto* source = static_cast<const std::byte*>(rows.const_data_ptr());
  for (int64_t row = 0; row < description.rows; row += piece_rows) {
    PackArgs args;
    args.weight = description;
    args.weight.rows = std::min(piece_rows, description.rows - row);
    args.source = piece.const_data_ptr();
    args.tiles = static_cast<std::byte*>(tiles) + row / kTileRows * tile_bytes;
    copy_to(piece, source + row * row_bytes, static_cast<size_t>(args.weight.rows * row_bytes));
    run(api_.pack, args);
    synchronize();
  }
}

at::Tensor CudaDevice::as_tensor(PackedWeight weight) const {
  const at::ScalarType type = scalar_type_of(weight.description.type);
  const int64_t sizes[] = {weight.description.rows, weight.description.columns};
  const c10::Device place(c10::kCUDA, static_cast<c10::DeviceIndex>(ordinal_));
  return at::detail::make_tensor<Impl>(
      c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::scalarTypeToTypeMeta(type), place,
      std::make_shared<const PackedWeight>(std::move(weight)), at::IntArrayRef(sizes));
}

// The rows of a weight to the device, and what else it has.
Result<at::Tensor> CudaDevice::pack_rows(PackedWeight weight, const at::Tensor& rows,
                                         const QuantizedParts& parts) {
  Weight& description = weight.description;
  try {
    weight.tiles = allocate({weight_bytes(description)}, at::kByte);
    description.tiles = weight.tiles.const_data_ptr();
    if (!parts.scales.empty()) {
      weight.scales = upload(as_vector(parts.scales, at::kFloat));
      description.scales = weight.scales.const_data_ptr<float>();
    }
    if (!parts.multipliers.empty()) {
      weight.multipliers = upload(as_vector(parts.multipliers, at::kByte));
      description.multipliers = weight.multipliers.const_data_ptr<uint8_t>();
    }
    pack_tiles(rows, weight.tiles.data_ptr(), description);
  } catch (const c10::OutOfMemoryError&) {
    return fail(ErrorCode::kResourceExhausted,
                "no memory of " + name_ + " for a packed weight of " +
                    std::to_string(weight_bytes(description)) + " bytes");
  } catch (const c10::Error& error) {
    return fail(ErrorCode::kInternal,
                std::string("a weight cannot be packed: ") + error.what_without_backtrace());
  }
  return as_tensor(std::move(weight));
}

Result<at::Tensor> CudaDevice::pack(const at::Tensor& weight) {
  const at::ScalarType type = weight.scalar_type();
  if (type != at::kFloat && type != at::kHalf && type != at::kBFloat16) {
    return invalid_argument(std::string("weight has dtype ") + c10::toString(type) +
                            ", expected float32, float16 or bfloat16");
  }
  if (is_packed(weight)) return invalid_argument("weight is packed already");
  if (weight.dim() != 2 || !weight.is_cpu() || !weight.is_contiguous() || weight.numel() == 0) {
    return invalid_argument("weight is not a contiguous matrix of the CPU's memory");
  }
  PackedWeight packed;
  packed.description.type = dtype_of(type);
  packed.description.rows = weight.size(0);
  packed.description.columns = weight.size(1);
  return pack_rows(std::move(packed), weight, {});
}

Result<at::Tensor> CudaDevice::pack(const QuantizedWeight& weight, at::ScalarType activations) {
  if (const auto checked = check_quantized(weight, activations); !checked) {
    return std::unexpected(checked.error());
  }
  const WeightFormat format = format_of(weight);
  const bool is_int4 = format == WeightFormat::kInt4;
  if (weight.keeps_activations && (is_int4 || activations == at::kFloat)) {
    return invalid_argument(
        "a quantized weight keeps its activations where it is int8 or fp8 and they are float16 or "
        "bfloat16");
  }
  if (format == WeightFormat::kFloat8 && !weight.keeps_activations &&
      float8_product() == Float8Product::kNone) {
    return invalid_argument("an fp8 weight keeps its activations on " + name_ +
                            ", which does not multiply fp8");
  }
  PackedWeight packed;
  Weight& description = packed.description;
  description.type = dtype_of(activations);
  description.format = format;
  description.is_wide = weight.keeps_activations;
  description.group_size = weight.group_size;
  description.rows = weight.values.size(0);
  description.columns = weight.values.size(1) * (is_int4 ? 2 : 1);
  const auto parts = parts_of(weight, description);
  if (!parts) return std::unexpected(parts.error());
  return pack_rows(std::move(packed), weight.values, *parts);
}

CudaDevice& device_of(const at::Tensor& tensor) {
  const c10::Device place = tensor.device();
  const auto ordinal = static_cast<size_t>(place.has_index() ? place.index() : 0);
  CudaDevice* device =
      place.is_cuda() && ordinal < open_devices().size() ? open_devices()[ordinal] : nullptr;
  TORCH_CHECK(device != nullptr, "tensor is on ", place, ", which is not open");
  return *device;
}

std::optional<Weight> packed_weight(const at::Tensor& tensor) {
  const auto* weight = packed(tensor);
  if (weight == nullptr) return std::nullopt;
  return weight->description;
}

int64_t packed_bytes(const at::Tensor& tensor) {
  const auto* weight = packed(tensor);
  if (weight == nullptr) return 0;
  size_t num_bytes = weight->tiles.nbytes();
  for (const at::Tensor& part : {weight->scales, weight->multipliers}) {
    if (part.defined()) num_bytes += part.nbytes();
  }
  return static_cast<int64_t>(num_bytes);
}

}  // namespace sluice::kernels::cuda
