// What a pool tells the tracker of its blocks.

#include <algorithm>

#include "pool/core.hpp"
#include "pool/tag_sums.hpp"
#include "track/records.hpp"
#include "track/retired_tags.hpp"

namespace forebay::detail {
PoolCore::Place PoolCore::place_of(const void* block) const noexcept {
  const ExtentId id = extent_of(block);
  auto& extent = const_cast<Extent&>(extents_[id]);
  if (extent.is() != ExtentState::slab) return {&extent.tag, nullptr, id};
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(block) - extent.start;
  const BlockState* const state = extent.states + block_at(kClasses[extent.size_class], offset);
  return {&slabs_.tag_of(state), state, 0};
}

PoolCore::Place PoolCore::place_of(const Taken& taken) const noexcept {
  const auto kind = static_cast<std::uint8_t>(taken.handle & 0xff);
  if (kind > kLargeHandle) return place_of(taken.block);
  if (kind == kLargeHandle) {
    const auto id = static_cast<ExtentId>(taken.handle >> 8);
    return {&const_cast<Extent&>(extents_[id]).tag, nullptr, id};
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): packed by small_handle()
  const auto* const state = reinterpret_cast<const BlockState*>(taken.handle >> 8);
  return {&slabs_.tag_of(state), state, 0};
}

BlockRecord* PoolCore::record_at(const Place& place, bool make) noexcept {
  if (!make) return nullptr;
  if (place.state != nullptr) return slabs_.record_of(place.state);
  BlockRecord* const records = extent_records_.map();
  return records == nullptr ? nullptr : records + place.extent;
}

// The block is the caller's alone, so that its tag may be written without the lock.
void PoolCore::record(const Taken& taken, const Need& need) noexcept {
  const Place place = place_of(taken);
  const BlockFacts facts{source_,
                         subject_,
                         reinterpret_cast<std::uintptr_t>(taken.block),
                         need.bytes,
                         need.context,
                         0,
                         place.state == nullptr};
  const bool beside = facts.large || tracking_is_full();
  const BlockTag tag = record_taken(facts, record_at(place, beside), need.frame);
  place.tag->store(tag, std::memory_order_release);  // after what it says is there
}

// Its context stays, to be counted when it goes.
void PoolCore::forget(const void* block, const Place& place) noexcept {
  const BlockTag tag = place.tag->load(std::memory_order_relaxed);
  const BlockFacts facts{source_, subject_, reinterpret_cast<std::uintptr_t>(block), 0,
                         static_cast<ContextId>(tag & kContextOf)};
  record_given(facts, tag, record_at(place, (tag & kBeside) != 0));
  place.tag->store(tag & kContextOf, std::memory_order_relaxed);
}

ContextId PoolCore::context_of(const void* block) const noexcept {
  return place_of(block).tag->load(std::memory_order_relaxed) & kContextOf;
}

void PoolCore::carry_over(const void* from, const void* to) noexcept {
  const Place old_place = place_of(from);
  const Place new_place = place_of(to);
  const BlockTag tag = old_place.tag->load(std::memory_order_relaxed);
  if ((tag & kRecorded) == 0) return;
  BlockTag kept = tag & kContextOf;
  if ((tag & kBeside) != 0) {
    if (BlockRecord* const record = record_at(new_place, true)) {
      *record = *record_at(old_place, true);
      kept |= kBeside;
    }
  }
  if ((tag & kSampled) != 0) {
    TableRecord sample = drop_record(source_, reinterpret_cast<std::uintptr_t>(from));
    sample.facts.address = reinterpret_cast<std::uintptr_t>(to);
    if (sample.facts.source != 0 && add_record(sample)) kept |= kSampled;
  }
  if ((tag & kEventful) != 0) {
    const std::uint64_t bytes = live_block_bytes(from);
    detail::record(EventKind::free, subject_, Bytes{bytes}, reinterpret_cast<std::uintptr_t>(from),
                   tag & kContextOf);
    detail::record(EventKind::allocate, subject_, Bytes{bytes},
                   reinterpret_cast<std::uintptr_t>(to), tag & kContextOf);
    kept |= kEventful;
  }
  new_place.tag->store(kept, std::memory_order_release);
  old_place.tag->store(tag & kContextOf, std::memory_order_relaxed);
}

// Counts in the calling thread's cache, if it has one; else in that of all.
template <typename Count>
void PoolCore::count_tag(Count count) noexcept {
  ThreadCache* const mine = cached_for_this_thread(Stream{});
  if (mine != nullptr && mine->lock.enter()) {
    count(*mine);
    mine->lock.leave();
    return;
  }
  const std::lock_guard lock{mutex_};
  count(*shared_cache_);
}

void PoolCore::disown(const void* block) noexcept {
  const Place place = place_of(block);
  if (has_record(*place.tag)) forget(block, place);
  const BlockTag tag = place.tag->load(std::memory_order_relaxed);
  if (tag == 0) return;
  const std::uint64_t bytes = live_block_bytes(block);
  count_tag([&](ThreadCache& cache) {
    cache.tags[tag & kContextOf].gave(bytes);
    place.tag->store(0, std::memory_order_relaxed);
  });
}

void PoolCore::own(const void* block, std::uint64_t bytes, const void* frame) noexcept {
  Need need{.bytes = bytes, .alignment = 1, .frame = frame};
  const Noted noted = note_taken(bytes);
  need.context = noted.context;
  const Place place = place_of(block);
  if (noted.context != 0) {
    const std::uint64_t taken = live_block_bytes(block);
    count_tag([&](ThreadCache& cache) {
      cache.tags[noted.context].took(taken);
      place.tag->store(noted.context, std::memory_order_relaxed);
    });
  }
  if (noted.wanted) record({const_cast<void*>(block), kNoHandle}, need);
}

// ---- Sums

void PoolCore::retire_tags(const ThreadCache& cache) noexcept {
  visit_contexts([&](ContextId context) {
    const TagSum sum = cache.tags[context].read();
    TagCounters& to = shared_cache_->tags[context];
    to.taken.add(sum.taken);
    to.given.add(sum.given);
    to.bytes_taken.add(sum.bytes_taken);
    to.bytes_given.add(sum.bytes_given);
  });
}

TagSum PoolCore::total() const noexcept {
  TagSum sum{retired_.acquires.read(), retired_.releases.read(), retired_.handed_out.read(),
             retired_.handed_out.read() - retired_.live.read()};
  for (const ThreadCache* c = caches_; c != nullptr; c = c->next) {
    const Counters& counters = c->counters;
    sum += {counters.acquires.read(), counters.releases.read(), counters.handed_out.read(),
            counters.handed_out.read() - counters.live.read()};
  }
  return sum;
}

void PoolCore::retire_all_tags() noexcept {
  const std::lock_guard lock{mutex_};
  visit_tags(retire_tag);
}

void PoolCore::add_tags(std::vector<TagSum>& sums) const {
  const std::lock_guard lock{mutex_};
  visit_tags([&](ContextId context, const TagSum& sum) { sums[context] += sum; });
}

// Tags and records take memory where there are such: no more than if each block had them.
Bytes PoolCore::tracking_bytes() const noexcept {
  Bytes bytes;
  if (contexts_used() > 1) bytes += slabs_.used() * sizeof(BlockTag);
  if (slabs_.has_records()) bytes += slabs_.used() * sizeof(BlockRecord);
  if (extent_records_.data() != nullptr) {
    bytes += extents_.used() / sizeof(Extent) * sizeof(BlockRecord);
  }
  return bytes;
}

std::uint64_t PoolCore::large_in_caches() const noexcept {
  const std::lock_guard lock{mutex_};
  return cached_pages() << kPageShift;
}

void PoolCore::add_statistics(std::vector<StatisticsGroup>& groups) const {
  const PoolStats now = stats();
  const auto bytes = [](Bytes of) { return static_cast<double>(of.count()); };
  const auto count = [](std::uint64_t of) { return static_cast<double>(of); };
  groups.push_back({"pool",
                    options_.name,
                    {{"live_bytes", bytes(now.live)},
                     {"idle_bytes", bytes(now.idle)},
                     {"reserved_bytes", bytes(now.reserved)},
                     {"largest_free_bytes", bytes(now.largest_free)},
                     {"metadata_bytes", bytes(now.metadata)},
                     {"peak_live_bytes", bytes(now.peak_live)},
                     {"peak_reserved_bytes", bytes(now.peak_reserved)},
                     {"fragmentation_ratio", now.fragmentation()},
                     {"hit_rate_ratio", now.hit_rate()},
                     {"thread_cache_bytes", count(large_in_caches())},
                     {"live_blocks", count(now.live_blocks)},
                     {"acquires_total", count(now.acquires)},
                     {"hits_total", count(now.hits)},
                     {"misses_total", count(now.misses)},
                     {"refused_total", count(now.refused)}}});
}

// Those with a record beside them. Their owners are not held up: what comes or goes just now may be
// missed or shown half.
void PoolCore::show_large(const CounterSink& sink) const noexcept {
  for (const auto& region : large_.regions) {
    for (ExtentId id = region->extent_at(region->base); id != 0; id = extents_[id].right) {
      const Extent& extent = extents_[id];
      const BlockTag tag = extent.tag.load(std::memory_order_acquire);
      if (extent.is() != ExtentState::live || (tag & kBeside) == 0) continue;
      const BlockRecord& record = extent_records_.data()[id];
      const BlockFacts facts{source_,
                             subject_,
                             extent.start,
                             extent.requested,
                             static_cast<ContextId>(tag & kContextOf),
                             0,
                             true};
      const TableRecord shown{facts, record, static_cast<BlockTag>(facts.context | kSampled),
                              record.bytes == 0};
      sink.block(sink.context, shown);
    }
  }
}

void PoolCore::try_show_counters(const CounterSink& sink) const noexcept {
  if (!mutex_.try_lock()) return;
  const auto show = [&](std::string_view name, std::uint64_t value) {
    sink.counter(sink.context, "pool", options_.name, name, static_cast<double>(value));
  };
  const std::uint64_t reserved = committed_pages_ << kPageShift;
  const std::uint64_t live = std::min(live_bytes(), reserved);
  show("live_bytes", live);
  show("idle_bytes", reserved - live);
  show("reserved_bytes", reserved);
  show("peak_reserved_bytes", peak_committed_ << kPageShift);
  show("live_blocks", live_blocks_now());
  show("refused_total", refused_);
  visit_tags([&](ContextId id, const TagSum& sum) { sink.tag(sink.context, id, sum); });
  if (extent_records_.data() != nullptr) show_large(sink);
  mutex_.unlock();
}

// ---- Live blocks

namespace {

class Copier {
 public:
  Copier(std::vector<SourceBlock>& blocks, const Slabs& slabs, const BlockRecord* records) noexcept
      : blocks_(blocks), slabs_(slabs), records_(records) {}

  void add(std::uintptr_t address, std::uint64_t bytes, BlockTag tag, const BlockRecord* record,
           bool large) {
    if (count_ < blocks_.size()) {
      SourceBlock& block = blocks_[count_];
      block.address = address;
      block.bytes = bytes;
      block.tag = tag;
      block.large = large;
      block.has_record = record != nullptr && (tag & kBeside) != 0;
      if (block.has_record) block.record = *record;
    }
    ++count_;
  }
  void add_large(const Extent& extent, ExtentId id) {
    const bool guarded = extent.is() == ExtentState::guarded;
    if (!guarded && extent.is() != ExtentState::live) return;
    const std::uintptr_t offset = guarded ? ExtentId{extent.next} : 0;
    add(extent.start + offset, extent.requested, extent.tag.load(std::memory_order_acquire),
        records_ == nullptr ? nullptr : records_ + id, true);
  }
  void add_slab(const Extent& slab) {
    const ClassLayout& layout = kClasses[slab.size_class];
    for (std::uint32_t i = 0; i != layout.slab_blocks; ++i) {
      const BlockState& state = slab.states[i];
      if ((state.load(std::memory_order_relaxed) & kLive) == 0) continue;
      add(slab.start + std::uint64_t{i} * layout.bytes, layout.bytes,
          slabs_.tag_of(&state).load(std::memory_order_acquire), slabs_.known_record_of(&state),
          false);
    }
  }
  std::size_t count() const noexcept { return count_; }

 private:
  std::vector<SourceBlock>& blocks_;
  const Slabs& slabs_;
  const BlockRecord* records_;
  std::size_t count_ = 0;
};

}  // namespace

// Fills `blocks` as far as they go; returns how many there are.
std::uint64_t PoolCore::copy_live_into(std::vector<SourceBlock>& blocks) const {
  auto& self = const_cast<PoolCore&>(*this);
  const std::lock_guard lock{mutex_};
  Copier copier{blocks, slabs_, extent_records_.data()};
  self.shut_caches();
  for (const Part* part : {&small_, &large_}) {
    for (const auto& region : part->regions) {
      for (ExtentId id = region->extent_at(region->base); id != 0; id = extents_[id].right) {
        const Extent& extent = extents_[id];
        if (extent.is() == ExtentState::slab) {
          copier.add_slab(extent);
        } else {
          copier.add_large(extent, id);
        }
      }
    }
  }
  self.open_caches();
  return copier.count();
}

std::vector<PoolView::Segment> PoolCore::segments() const {
  std::vector<PoolView::Segment> found;
  const std::lock_guard lock{mutex_};
  for (const Part* part : {&small_, &large_}) {
    for (const auto& region : part->regions) {
      for (ExtentId id = region->extent_at(region->base); id != 0; id = extents_[id].right) {
        const Extent& extent = extents_[id];
        if (extent.is() == ExtentState::cold) continue;
        const bool follows =
            !found.empty() && found.back().address + found.back().bytes.count() == extent.start;
        if (!follows) found.push_back({extent.start, Bytes{}});
        found.back().bytes += Bytes{extent.bytes()};
      }
    }
  }
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.address < b.address; });
  return found;
}

// Room is made, and touched, before the threads are made to wait.
void PoolCore::copy_live(std::vector<SourceBlock>& blocks) const {
  std::size_t room = 0;
  std::size_t found = static_cast<std::size_t>(live_blocks());
  while (found > room || room == 0) {
    room = found + found / 8 + 64;
    blocks.resize(room);
    found = static_cast<std::size_t>(copy_live_into(blocks));
  }
  blocks.resize(found);
}

}  // namespace forebay::detail
