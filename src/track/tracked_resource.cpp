// track(): the tracker before any resource.

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "device/mapping.hpp"
#include "device/request.hpp"
#include "forebay/check.hpp"
#include "track/records.hpp"
#include "track/retired_tags.hpp"
#include "track/source.hpp"

namespace forebay {
namespace detail {
namespace {

struct AtomicSum {
  std::atomic<std::uint64_t> taken;
  std::atomic<std::uint64_t> given;
  std::atomic<std::uint64_t> bytes_taken;
  std::atomic<std::uint64_t> bytes_given;

  TagSum read() const noexcept {
    return {taken.load(std::memory_order_relaxed), given.load(std::memory_order_relaxed),
            bytes_taken.load(std::memory_order_relaxed),
            bytes_given.load(std::memory_order_relaxed)};
  }
};

class TrackedResource final : public MemoryResource, public BlockSource {
 public:
  explicit TrackedResource(std::shared_ptr<MemoryResource> upstream);
  ~TrackedResource() override;

  Bytes good_size(Bytes bytes, Bytes alignment) const noexcept override {
    return upstream_->good_size(bytes, alignment);
  }
  std::string_view name() const noexcept override { return name_; }
  bool host_accessible() const noexcept override { return upstream_->host_accessible(); }
  bool stream_ordered() const noexcept override { return upstream_->stream_ordered(); }
  void stream_wait(Stream waiter, Stream earlier) noexcept override {
    upstream_->stream_wait(waiter, earlier);
  }
  void zero(void* data, Bytes bytes, Stream stream) noexcept override {
    upstream_->zero(data, bytes, stream);
  }
  void copy(void* to, const void* from, Bytes bytes, Stream stream) noexcept override {
    upstream_->copy(to, from, bytes, stream);
  }
  bool allocates_zeroed() const noexcept override { return upstream_->allocates_zeroed(); }

  std::uint32_t source_number() const noexcept override { return source_; }
  std::string_view source_name() const noexcept override { return name_; }
  // All of them are in the table.
  void copy_live(std::vector<SourceBlock>&) const override {}
  bool blocks_are_in_table() const noexcept override { return true; }
  void add_tags(std::vector<TagSum>& sums) const override;
  void add_statistics(std::vector<StatisticsGroup>& groups) const override;

  TrackedResource* next = nullptr;  // in the list of all
  TrackedResource* previous = nullptr;

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override;
  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override;
  // What is committed there is not a block: it is not tracked.
  Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& options) override {
    return upstream_->reserve_address(bytes, options);
  }
  AtomicSum& sum(ContextId context) const noexcept {
    return reinterpret_cast<AtomicSum*>(sums_->data())[context];
  }
  void note(void* block, Bytes bytes, Bytes alignment, const void* frame) noexcept;

  const std::shared_ptr<MemoryResource> upstream_;
  const std::string name_{upstream_->name()};  // asked once: never with a lock held
  const std::uint32_t source_ = next_source_number();
  const SubjectId subject_;
  std::optional<Mapping> sums_;  // one a context; takes memory as contexts are used
};

struct List {
  std::mutex mutex;
  TrackedResource* first = nullptr;
};
constinit List g_resources;

void visit_resources(const std::function<void(const BlockSource&)>& visit) {
  const std::lock_guard lock{g_resources.mutex};
  for (const auto* at = g_resources.first; at != nullptr; at = at->next) visit(*at);
}

TrackedResource::TrackedResource(std::shared_ptr<MemoryResource> upstream)
    : upstream_(std::move(upstream)),
      subject_(subject(name_)),
      sums_(Mapping::map(align_up(Bytes{kMaxContexts * sizeof(AtomicSum)}, system_page()).value(),
                         Access::read_write, system_page())) {
  if (!sums_) throw std::bad_alloc{};
  static const int prepared = [] {
    prepare_records();
    return ::pthread_atfork([] { g_resources.mutex.lock(); }, [] { g_resources.mutex.unlock(); },
                            [] { g_resources.mutex.unlock(); });
  }();
  static_cast<void>(prepared);
  add_sources(visit_resources);
  const std::lock_guard lock{g_resources.mutex};
  next = std::exchange(g_resources.first, this);
  if (next != nullptr) next->previous = this;
}

TrackedResource::~TrackedResource() {
  {
    const std::lock_guard lock{g_resources.mutex};
    (previous != nullptr ? previous->next : g_resources.first) = next;
    if (next != nullptr) next->previous = previous;
  }
  // An arena lets go of all at once, without a word for each.
  drop_records_of(source_, [this](const TableRecord& record) {
    AtomicSum& to = sum(record.facts.context);
    to.given.fetch_add(1, std::memory_order_relaxed);
    const Bytes taken = good_size(Bytes{record.facts.bytes}, Bytes{record.facts.alignment});
    to.bytes_given.fetch_add(taken.count(), std::memory_order_relaxed);
  });
  for (std::uint32_t c = 0; c != kMaxContexts; ++c) {
    const TagSum left = sum(static_cast<ContextId>(c)).read();
    if (left.taken != 0) retire_tag(static_cast<ContextId>(c), left);
  }
}

// Every block needs a record: where it is, whose it is.
void TrackedResource::note(void* block, Bytes bytes, Bytes alignment, const void* frame) noexcept {
  if (!kTracking || g_tracking.load(std::memory_order_relaxed) == 0) return;
  const Noted noted = note_taken(bytes.count());
  const BlockFacts facts{source_,       subject_,      reinterpret_cast<std::uintptr_t>(block),
                         bytes.count(), noted.context, alignment.count()};
  const BlockTag tag = noted.wanted ? record_taken(facts, nullptr, frame) : noted.context;
  if ((tag & kSampled) == 0 && !add_record({facts, {}, tag})) return;
  AtomicSum& to = sum(noted.context);
  to.taken.fetch_add(1, std::memory_order_relaxed);
  to.bytes_taken.fetch_add(good_size(bytes, alignment).count(), std::memory_order_relaxed);
}

Result<void*> TrackedResource::do_allocate(Bytes bytes, Bytes alignment, Stream stream) {
  auto block = upstream_->allocate(bytes, alignment, stream);
  if (block) {
    note(*block, bytes, alignment, __builtin_frame_address(0));
  } else {
    record(EventKind::deny, subject_, bytes);
  }
  return block;
}

// The record goes first: once upstream has the block, another may be there.
void TrackedResource::do_deallocate(void* block, Bytes bytes, Bytes alignment,
                                    Stream stream) noexcept {
  const TableRecord known = drop_record(source_, reinterpret_cast<std::uintptr_t>(block));
  if (known.facts.source != 0) {
    record_end(known.facts, known.tag, known.record.number);
    AtomicSum& to = sum(known.facts.context);
    to.given.fetch_add(1, std::memory_order_relaxed);
    to.bytes_given.fetch_add(good_size(bytes, alignment).count(), std::memory_order_relaxed);
  }
  upstream_->deallocate(block, bytes, alignment, stream);
}

void TrackedResource::add_tags(std::vector<TagSum>& sums) const {
  for (std::size_t context = 0; context != sums.size(); ++context) {
    sums[context] += sum(static_cast<ContextId>(context)).read();
  }
}

void TrackedResource::add_statistics(std::vector<StatisticsGroup>& groups) const {
  TagSum all;
  for (std::uint32_t c = 0; c != kMaxContexts; ++c) all += sum(static_cast<ContextId>(c)).read();
  groups.push_back({"resource",
                    name_,
                    {{"live_bytes", static_cast<double>(all.bytes_taken - all.bytes_given)},
                     {"live_blocks", static_cast<double>(all.taken - all.given)},
                     {"allocations_total", static_cast<double>(all.taken)}}});
}

}  // namespace
}  // namespace detail

std::shared_ptr<MemoryResource> track(std::shared_ptr<MemoryResource> upstream) {
  FOREBAY_CHECK(upstream != nullptr, "what is tracked must be there");
  return std::make_shared<detail::TrackedResource>(std::move(upstream));
}

}  // namespace forebay
