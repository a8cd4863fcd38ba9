#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace sluice::server {

// How many bytes many may hold together. Threads: any.
class ByteBudget final : public std::enable_shared_from_this<ByteBudget> {
 public:
  // Holds its bytes until it is reset or goes.
  class Share final {
   public:
    Share() = default;
    Share(std::shared_ptr<ByteBudget> budget, int64_t num_bytes)
        : budget_(std::move(budget)), num_bytes_(num_bytes) {}
    Share(Share&& other) noexcept
        : budget_(std::move(other.budget_)), num_bytes_(std::exchange(other.num_bytes_, 0)) {}
    Share& operator=(Share&& other) noexcept {
      reset();
      budget_ = std::move(other.budget_);
      num_bytes_ = std::exchange(other.num_bytes_, 0);
      return *this;
    }
    ~Share() { reset(); }
    void reset() {
      if (budget_) budget_->used_ -= std::exchange(num_bytes_, 0);
      budget_.reset();
    }
    explicit operator bool() const { return budget_ != nullptr; }

   private:
    std::shared_ptr<ByteBudget> budget_;
    int64_t num_bytes_ = 0;
  };

  explicit ByteBudget(int64_t limit) : limit_(limit) {}

  // False, if converted, when so many are not left.
  Share take(int64_t num_bytes) {
    if (used_.fetch_add(num_bytes) + num_bytes <= limit_) return {shared_from_this(), num_bytes};
    used_ -= num_bytes;
    return {};
  }
  int64_t used() const { return used_; }

 private:
  const int64_t limit_;
  std::atomic<int64_t> used_{0};
};

}  // namespace sluice::server
