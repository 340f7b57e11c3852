// One loader a key at a time.

#include <algorithm>
#include <new>

#include "cache/core.hpp"
#include "cache/hash.hpp"

namespace forebay::detail {
namespace {

template <typename List>
CacheFlight* flight_with(List& list, const EntryDraft& draft, std::uint64_t hash) {
  for (const auto& flight : list) {
    if (flight->hash == hash && draft.equal_keys(flight->key.get(), draft.key)) {
      return flight.get();
    }
  }
  return nullptr;
}

}  // namespace

CacheFlight* CacheCore::join_flight(const EntryDraft& draft, Status* failure, PinnedEntry* result) {
  const std::uint64_t hash = mix_key(draft.hash);
  FlightTable& table = impl_->flights_of(hash);
  auto made = std::make_shared<CacheFlight>();
  made->hash = hash;
  made->key = draft.shared_key;
  made->leader = std::this_thread::get_id();
  // Now, since the end of a flight cannot fail.
  made->failure = Status{Code::failed_precondition,
                         "cache " + impl_->options.name + ": the loader of this key threw"};
  std::unique_lock lock{table.mutex};
  if (!table.failures.empty()) {
    const Clock::TimePoint now = impl_->options.clock->now();
    std::erase_if(table.failures, [&](const auto& flight) { return flight->forgotten_at <= now; });
    if (const CacheFlight* const failed = flight_with(table.failures, draft, hash)) {
      impl_->loads_shared.fetch_add(1, std::memory_order_relaxed);
      *failure = failed->failure;
      return nullptr;
    }
  }
  CacheFlight* const under_way = flight_with(table.flights, draft, hash);
  if (under_way == nullptr) {
    table.flights.push_back(made);
    return made.get();
  }
  if (under_way->leader == made->leader) {
    *failure = Status{Code::failed_precondition,
                      "cache " + impl_->options.name + ": a loader asks for its own key"};
    return nullptr;
  }
  const auto flight = *std::find_if(table.flights.begin(), table.flights.end(),
                                    [&](const auto& other) { return other.get() == under_way; });
  ++flight->waiters;
  flight->changed.wait(lock, [&] { return flight->done; });
  impl_->loads_shared.fetch_add(1, std::memory_order_relaxed);
  *failure = flight->failure;
  *result = flight->result;
  return nullptr;
}

void CacheCore::end_flight(CacheFlight* flight, Status failure, PinnedEntry result, Duration took,
                           Duration failure_ttl) noexcept {
  impl_->loads.fetch_add(1, std::memory_order_relaxed);
  impl_->load_nanoseconds.fetch_add(took.count(), std::memory_order_relaxed);
  const bool failed = result.state == nullptr;
  if (failed) impl_->load_failures.fetch_add(1, std::memory_order_relaxed);
  FlightTable& table = impl_->flights_of(flight->hash);
  const std::lock_guard lock{table.mutex};
  const auto at = std::find_if(table.flights.begin(), table.flights.end(),
                               [&](const auto& other) { return other.get() == flight; });
  if (!failed || !failure.ok()) flight->failure = std::move(failure);
  flight->result = result;
  flight->done = true;
  if (!failed && flight->waiters != 0) {
    result.state->fetch_add(flight->waiters, std::memory_order_acq_rel);
  }
  flight->changed.notify_all();
  if (failed && failure_ttl > Duration::zero()) {
    flight->forgotten_at = impl_->options.clock->now() + failure_ttl;
    table.failures.splice(table.failures.end(), table.flights, at);
  } else {
    table.flights.erase(at);
  }
}

PinnedEntry CacheCore::detached(const EntryDraft& draft) {
  const std::size_t alignment = std::max<std::size_t>(impl_->type.alignment, 32);
  const std::size_t before = (sizeof(EntryHeader) + alignment - 1) / alignment * alignment;
  void* const memory =
      ::operator new (before + impl_->type.size + draft.tail, std::align_val_t{alignment});
  void* const block = static_cast<std::byte*>(memory) + before;
  try {
    draft.construct(block, draft.parts);
  } catch (...) {
    ::operator delete (memory, std::align_val_t{alignment});
    throw;
  }
  auto* const header = new (memory) EntryHeader{};
  header->block = block;
  // Doomed from the start: its last handle destroys it.
  header->state.store(kDoomed + kDetached + 1, std::memory_order_release);
  return {&header->state, block};
}

}  // namespace forebay::detail
