// Records: a table of blocks that have no place for a record beside them: samples, and blocks of
// tracked resources.
#pragma once

#include <cstdint>
#include <functional>

#include "track/hooks.hpp"

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

struct TableRecord {
  BlockFacts facts;
  BlockRecord record;
  BlockTag tag = 0;
  bool full = false;  // not a sample
};

// False if there is no room: bounded, and counted. Its lock is one of many, held for some tens of
// nanoseconds.
bool add_record(const TableRecord& record) noexcept;
// The record that was there; its tag is 0 if there was none.
TableRecord drop_record(std::uint32_t source, std::uintptr_t address) noexcept;
// Each record, of each lock's share one view.
void visit_records(const std::function<void(const TableRecord&)>& visit);
// For a handler of signals: takes no lock, so that what it shows may be half of two.
void visit_records_unlocked(void (*visit)(const TableRecord&, void*), void* context) noexcept;
std::uint64_t records_refused() noexcept;
std::size_t record_bytes() noexcept;

// Those that a source which ends leaves behind; `dropped` is called with a lock held. Returns how
// many.
std::uint64_t drop_records_of(std::uint32_t source,
                              const std::function<void(const TableRecord&)>& dropped);

// Held over a fork: see prepare_contexts().
void prepare_records() noexcept;
void lock_records() noexcept;
void unlock_records() noexcept;

}  // namespace forebay::detail
#pragma GCC visibility pop
