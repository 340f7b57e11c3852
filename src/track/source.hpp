// Sources: whoever has blocks, for those who ask who holds what.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "track/hooks.hpp"
#include "track/records.hpp"

// Used by component forebay::telemetry, which may be a library of its own.
#pragma GCC visibility push(default)
namespace forebay::detail {

// A live block as its source knows it.
struct SourceBlock {
  std::uintptr_t address = 0;
  std::uint64_t bytes = 0;  // that it takes
  BlockTag tag = 0;
  bool large = false;
  bool has_record = false;  // beside it, that is
  BlockRecord record{};
};

class BlockSource {
 public:
  virtual std::uint32_t source_number() const noexcept = 0;  // never 0, never used again
  virtual std::string_view source_name() const noexcept = 0;
  // Adds its blocks, in one view.
  virtual void copy_live(std::vector<SourceBlock>& blocks) const = 0;
  // They are not with the source, but all in the table of records.
  virtual bool blocks_are_in_table() const noexcept { return false; }
  // Adds to sums[context], and to sums[0] what is of no context. REQUIRES: kMaxContexts sums.
  virtual void add_tags(std::vector<TagSum>& sums) const = 0;
  virtual void add_statistics(std::vector<StatisticsGroup>& groups) const = 0;

 protected:
  ~BlockSource() = default;
};

std::uint32_t next_source_number() noexcept;

// One kind of sources: a function that visits each with its list locked. Entered once, for good.
using VisitSources = void (*)(const std::function<void(const BlockSource&)>& visit);
void add_sources(VisitSources visit_all) noexcept;
void visit_sources(const std::function<void(const BlockSource&)>& visit);

// The same for statistics of what has no blocks: adds a group a budget, say.
using AddStatistics = void (*)(std::vector<StatisticsGroup>& groups);
void add_statistics_of(AddStatistics add) noexcept;
// Of all sources, and of what was entered so.
void collect_from_sources(std::vector<StatisticsGroup>& groups);

// What a handler of signals may see: whatever is locked just now is left out, and no memory is
// taken. Names are valid until the call ends.
struct CounterSink {
  void* context = nullptr;
  void (*counter)(void* context, std::string_view kind, std::string_view group,
                  std::string_view name, double value) = nullptr;
  void (*tag)(void* context, ContextId id, const TagSum& sum) = nullptr;
  void (*block)(void* context, const TableRecord& record) = nullptr;  // large ones
};
using ShowCounters = void (*)(const CounterSink& sink) noexcept;
void add_counters_of(ShowCounters show) noexcept;  // entered once, for good
void show_counters(const CounterSink& sink) noexcept;

// Called by a thread whose reservation was refused, with nothing of the budgets locked, and never
// within a reclaimer or listener. The thread's own locks may be held: it is not to be made to wait
// without an end. Null: nobody wants to know.
extern constinit std::atomic<void (*)() noexcept> g_on_refusal;

}  // namespace forebay::detail
#pragma GCC visibility pop
