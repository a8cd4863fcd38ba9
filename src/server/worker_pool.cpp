#include "server/worker_pool.h"

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

namespace sluice::server {

struct WorkerPool::Impl {
  explicit Impl(int num_threads) : pool(static_cast<size_t>(num_threads)) {}
  boost::asio::thread_pool pool;
};

WorkerPool::WorkerPool(int num_threads) : impl_(std::make_unique<Impl>(num_threads)) {}

WorkerPool::~WorkerPool() {
  impl_->pool.join();
}

void WorkerPool::post(std::function<void()> work) {
  boost::asio::post(impl_->pool, std::move(work));
}

}  // namespace sluice::server
