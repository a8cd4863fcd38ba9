#include "host_stream.h"

#include <deque>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "fibers.h"

namespace sluice::kernels::cuda::host {
namespace {

using Work = std::function<Status()>;

struct HostStream {
  std::deque<Work> waiting;
  Status failure = kSuccess;  // of what was deferred
  bool is_capturing = false;
  Status capture_failure = kSuccess;
  std::vector<Work> captured;
};

struct HostEvent {
  HostStream* stream = nullptr;  // of the last mark; null: there was none
  bool is_done = true;
};

struct HostGraph {
  std::vector<Work> works;
};

// A launch may wait for its kernel's own lock in fibers.cpp, never the other way round.
std::recursive_mutex mutex;
std::set<HostStream*> streams;
bool is_deferred = false;

HostStream& of(Stream stream) {
  return *static_cast<HostStream*>(stream);
}

Status do_next(HostStream& stream) {
  const Work work = std::move(stream.waiting.front());
  stream.waiting.pop_front();
  if (stream.failure == kSuccess) stream.failure = work();
  return stream.failure;
}

Status finish(HostStream& stream) {
  while (!stream.waiting.empty()) (void)do_next(stream);
  return stream.failure;
}

Status create_stream(Stream* stream) {
  const std::scoped_lock lock(mutex);
  *stream = *streams.insert(new HostStream).first;
  return kSuccess;
}

Status destroy_stream(Stream stream) {
  const std::scoped_lock lock(mutex);
  const Status status = finish(of(stream));
  streams.erase(&of(stream));
  delete &of(stream);
  return status;
}

// Nobody may wait for what is only being captured.
Status refuse(HostStream& stream) {
  stream.capture_failure = kCaptureInvalidated;
  return kCaptureUnsupported;
}

Status synchronize(Stream stream) {
  const std::scoped_lock lock(mutex);
  if (of(stream).is_capturing) return refuse(of(stream));
  return finish(of(stream));
}

Status create_event(Event* event) {
  *event = new HostEvent;
  return kSuccess;
}

Status destroy_event(Event event) {
  const std::scoped_lock lock(mutex);
  const auto* mark = static_cast<HostEvent*>(event);
  const Status status = mark->is_done ? kSuccess : finish(*mark->stream);
  delete mark;
  return status;
}

Status record_event(Event event, Stream stream) {
  const std::scoped_lock lock(mutex);
  if (of(stream).is_capturing) return refuse(of(stream));
  auto* mark = static_cast<HostEvent*>(event);
  mark->stream = &of(stream);
  mark->is_done = false;
  return put(stream, [mark] {
    mark->is_done = true;
    return kSuccess;
  });
}

Status wait_for_event(Event event) {
  const std::scoped_lock lock(mutex);
  const auto* mark = static_cast<HostEvent*>(event);
  while (!mark->is_done && !mark->stream->waiting.empty()) (void)do_next(*mark->stream);
  return mark->stream == nullptr ? kSuccess : mark->stream->failure;
}

Status begin_capture(Stream stream) {
  const std::scoped_lock lock(mutex);
  if (std::exchange(of(stream).is_capturing, true)) return kInvalidValue;
  of(stream).capture_failure = kSuccess;
  of(stream).captured.clear();
  return kSuccess;
}

Status end_capture(Stream stream, Graph* graph) {
  const std::scoped_lock lock(mutex);
  *graph = nullptr;
  if (!std::exchange(of(stream).is_capturing, false)) return kInvalidValue;
  if (of(stream).capture_failure != kSuccess) return of(stream).capture_failure;
  *graph = new HostGraph{std::exchange(of(stream).captured, {})};
  return kSuccess;
}

Status launch_graph(Graph graph, Stream stream) {
  for (const Work& work : static_cast<HostGraph*>(graph)->works) {
    if (const Status status = put(stream, work); status != kSuccess) return status;
  }
  return kSuccess;
}

Status destroy_graph(Graph graph) {
  delete static_cast<HostGraph*>(graph);
  return kSuccess;
}

}  // namespace

Status put(Stream stream, Work work) {
  {
    const std::scoped_lock lock(mutex);
    HostStream* to = streams.contains(static_cast<HostStream*>(stream)) ? &of(stream) : nullptr;
    if (to != nullptr && to->is_capturing) {
      to->captured.push_back(std::move(work));
      return kSuccess;
    }
    if (to != nullptr && is_deferred) {
      to->waiting.push_back(std::move(work));
      return to->failure;
    }
  }
  return work();
}

void set_deferred(bool deferred) {
  const std::scoped_lock lock(mutex);
  is_deferred = deferred;
}

Status finish_streams() {
  const std::scoped_lock lock(mutex);
  Status failure = kSuccess;
  for (HostStream* stream : streams) {
    if (const Status status = finish(*stream); status != kSuccess) failure = status;
  }
  return failure;
}

void set_streams(DeviceApi& api) {
  api.create_stream = &create_stream;
  api.destroy_stream = &destroy_stream;
  api.synchronize = &synchronize;
  api.create_event = &create_event;
  api.destroy_event = &destroy_event;
  api.record_event = &record_event;
  api.wait_for_event = &wait_for_event;
  api.begin_capture = &begin_capture;
  api.end_capture = &end_capture;
  api.launch_graph = &launch_graph;
  api.destroy_graph = &destroy_graph;
}

}  // namespace sluice::kernels::cuda::host
