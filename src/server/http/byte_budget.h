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

   private:
    friend class ByteBudget;
    std::shared_ptr<ByteBudget> budget_;
    int64_t num_bytes_ = 0;
  };

  explicit ByteBudget(int64_t limit) : limit_(limit) {}

  // Makes the share, which is of this budget or of none, so large. False, and it stays as it is,
  // when so many are not left.
  bool grow(Share& share, int64_t num_bytes) {
    const int64_t more = num_bytes - share.num_bytes_;
    if (more <= 0) return true;
    if (used_.fetch_add(more) + more > limit_) {
      used_ -= more;
      return false;
    }
    share.budget_ = shared_from_this();
    share.num_bytes_ = num_bytes;
    return true;
  }
  // Whether so many are left now.
  bool has_room(int64_t num_bytes) const { return used_ + num_bytes <= limit_; }

 private:
  const int64_t limit_;
  std::atomic<int64_t> used_{0};
};

}  // namespace sluice::server
