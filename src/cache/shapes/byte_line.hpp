// ByteLine: a hard line of bytes, and the budget that they are charged to as well.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "forebay/budget.hpp"
#include "forebay/device.hpp"

namespace forebay::detail {

// Reservations of a budget without memory behind them, and without an object for each.
class Unbacked final : public MemoryResource {
 public:
  std::string_view name() const noexcept override { return "entries"; }
  bool host_accessible() const noexcept override { return false; }

 private:
  Result<void*> do_allocate(Bytes, Bytes, Stream) override { return static_cast<void*>(this); }
  void do_deallocate(void*, Bytes, Bytes, Stream) noexcept override {}
};

// Charge before memory is taken, release after it is back. Thread safety: thread-safe.
class ByteLine {
 public:
  ByteLine(Bytes most, Budget* budget) : most_(most.count()) {
    if (budget != nullptr) budget_ = budget->meter(std::make_shared<Unbacked>());
  }

  std::uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }
  std::uint64_t peak() const noexcept { return peak_.load(std::memory_order_relaxed); }
  std::uint64_t most() const noexcept { return most_.load(std::memory_order_relaxed); }
  void set_most(std::uint64_t bytes) noexcept { most_.store(bytes, std::memory_order_relaxed); }
  // Whether `bytes` more do not fit when `leaving` are gone.
  bool lacks(std::uint64_t bytes, std::uint64_t leaving) const noexcept {
    return used() - leaving + bytes > most();
  }

  // The line alone.
  bool try_charge(std::uint64_t bytes) noexcept {
    std::uint64_t now = used();
    do {
      const std::uint64_t line = most();
      if (now > line || bytes > line - now) return false;
    } while (!used_.compare_exchange_weak(now, now + bytes, std::memory_order_acq_rel));
    std::uint64_t highest = peak();
    while (highest < now + bytes &&
           !peak_.compare_exchange_weak(highest, now + bytes, std::memory_order_relaxed)) {
    }
    return true;
  }
  // Charges the budget what the line was charged; if it refuses, the line is released.
  Status charge_budget(std::uint64_t bytes) {
    if (budget_ == nullptr || bytes == 0) return {};
    auto granted = budget_->allocate(Bytes{bytes}, Bytes{1});
    if (granted) return {};
    used_.fetch_sub(bytes, std::memory_order_acq_rel);
    return granted.status();
  }
  void release(std::uint64_t bytes) noexcept {
    if (bytes == 0) return;
    if (budget_ != nullptr) budget_->deallocate(budget_.get(), Bytes{bytes}, Bytes{1});
    used_.fetch_sub(bytes, std::memory_order_acq_rel);
  }

 private:
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> peak_{0};
  std::atomic<std::uint64_t> most_;
  std::shared_ptr<MemoryResource> budget_;
};

}  // namespace forebay::detail
