#include "support/failing_new.hpp"

#include <cstdlib>
#include <limits>
#include <new>

namespace forebay::testing {
namespace {

constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

struct Plan {
  std::uint64_t left = kNever;
  bool once = true;
  bool failed = false;
};
thread_local Plan plan;

// Counts one allocation of this thread; whether it must fail.
bool must_fail() noexcept {
  if (plan.left == kNever) return false;
  if (plan.left != 0) {
    --plan.left;
    return false;
  }
  plan.failed = true;
  if (plan.once) plan.left = kNever;
  return true;
}

}  // namespace

FailingNew::FailingNew(std::uint64_t n, Failing failing) noexcept {
  plan = {n, failing == Failing::once, false};
}
FailingNew::~FailingNew() { plan = {}; }
bool FailingNew::has_failed() noexcept { return plan.failed; }

// operator new of size zero still gives an address of its own.
void* allocate_or_null(std::size_t size, std::size_t alignment) noexcept {
  if (must_fail()) return nullptr;
  if (size == 0) size = 1;
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::malloc(size);
  void* block = nullptr;
  return ::posix_memalign(&block, alignment, size) == 0 ? block : nullptr;
}

void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* const block = allocate_or_null(size, alignment);
  if (block == nullptr) throw std::bad_alloc{};
  return block;
}

}  // namespace forebay::testing

using forebay::testing::allocate_or_null;
using forebay::testing::allocate_or_throw;

void* operator new(std::size_t size) { return allocate_or_throw(size, 1); }
void* operator new[](std::size_t size) { return allocate_or_throw(size, 1); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return allocate_or_throw(size, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return allocate_or_null(size, 1);
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return allocate_or_null(size, 1);
}
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate_or_null(size, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate_or_null(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }
void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete[](void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { std::free(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { std::free(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { std::free(block); }
void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept {
  std::free(block);
}
void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept {
  std::free(block);
}
