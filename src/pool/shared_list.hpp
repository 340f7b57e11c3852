// Shared blocks that were shared while the tracker's grade was full, for those who look for cycles.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace forebay::detail {

// Part of what the owners of a block share.
struct SharedLink {
  SharedLink* previous = nullptr;
  SharedLink* next = nullptr;
  const void* count = nullptr;  // what each owner points to, and its number of owners
  const std::atomic<std::uint32_t>* owners = nullptr;
  std::span<const std::byte> content{};  // empty if the CPU does not reach it
  const void* block = nullptr;
  std::size_t bytes = 0;
};

void enlist(SharedLink& link) noexcept;
// Waits for a look under way: then the content may go.
void delist(SharedLink& link) noexcept;

// Held over a fork.
void lock_shared_list() noexcept;
void unlock_shared_list() noexcept;

}  // namespace forebay::detail
