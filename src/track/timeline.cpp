#include "track/timeline.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <new>

#include "track/context.hpp"
#include "track/event_chunks.hpp"
#include "track/hooks.hpp"
#include "track/settings.hpp"
#include "track/subjects.hpp"

namespace forebay {
namespace detail {

constinit std::atomic<std::uint32_t> g_timeline_kinds{0};

namespace {

constexpr Bytes kLeastCapacity{64ULL << 10};
constexpr unsigned kThreadBits = 24;  // of the system's numbers: at most 2^22

// What all events of one start have in common. Written by start() alone.
struct Timelines {
  std::atomic<EventRegion*> region{nullptr};
  std::atomic<std::uint32_t> session{0};
  std::atomic<std::uint64_t> start_ticks{0};
  std::atomic<std::uint64_t> start_nanoseconds{0};
};
constinit Timelines g_timeline;
constinit std::atomic<EventRegion*> g_regions{nullptr};  // all that were ever made

// Serializes start(). Never destroyed.
std::mutex& start_mutex() noexcept {
  alignas(std::mutex) static std::byte place[sizeof(std::mutex)];
  static auto* const the = new (place) std::mutex;
  return *the;
}

struct ThisThread {
  ChunkWriter writer;
  std::uint32_t number = 0;  // the system's; 0: it never recorded anything
  // Set while the thread writes: a handler of signals that comes then must leave it alone.
  std::atomic<bool> busy{false};
  bool ended = false;
};
[[gnu::tls_model("initial-exec")]] constinit thread_local ThisThread this_thread;

class Busy {
 public:
  explicit Busy(ThisThread& me) noexcept : me_(me) {
    me_.busy.store(true, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~Busy() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    me_.busy.store(false, std::memory_order_relaxed);
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;

 private:
  ThisThread& me_;
};

// Its end is the thread's: another one goes on with the chunk.
struct ThreadEnd {
  ~ThreadEnd() {
    const Busy busy{this_thread};
    this_thread.ended = true;
    this_thread.writer.release();
  }
};

void prepare_thread() noexcept {
  this_thread.number = static_cast<std::uint32_t>(::gettid());
  static thread_local ThreadEnd end;
  static_cast<void>(&end);
}

[[gnu::noinline]] bool next_chunk(ThisThread& me, std::uint32_t session) noexcept {
  if (me.number == 0) prepare_thread();
  return me.writer.make_room(g_timeline.region.load(std::memory_order_acquire), session);
}

void before_fork() noexcept { start_mutex().lock(); }
void after_fork_in_parent() noexcept { start_mutex().unlock(); }
void child_after_fork() noexcept {
  if (this_thread.number != 0) this_thread.number = static_cast<std::uint32_t>(::gettid());
  const std::uint32_t session = g_timeline.session.load(std::memory_order_relaxed);
  for (EventRegion* region = g_regions.load(std::memory_order_relaxed); region != nullptr;
       region = region->next) {
    after_fork_in_child(*region, session, this_thread.writer);
  }
  after_fork_in_parent();
}

TimelineEvent event_of(const EventWords& event, const TickScale& scale) noexcept {
  const std::uint64_t names = event.words[3];
  return {.kind = static_cast<EventKind>(names >> 56),
          .tag = static_cast<std::uint16_t>(names >> kThreadBits),
          .thread = static_cast<std::uint32_t>(names & ((1U << kThreadBits) - 1)),
          .at = scale.at(event.ticks()),
          .address = static_cast<std::uintptr_t>(event.words[1]),
          .bytes = Bytes{event.words[2]},
          .subject = subject_name(static_cast<SubjectId>(names >> (kThreadBits + 16)))};
}

TickScale scale_now() noexcept {
  const TickAnchor start{g_timeline.start_ticks.load(std::memory_order_relaxed),
                         g_timeline.start_nanoseconds.load(std::memory_order_relaxed)};
  return {start, take_anchor()};
}

// Calls look(region, session) until no start() came between; not at all if there was none yet.
template <typename Look>
void look_at_session(Look look) {
  for (;;) {
    const std::uint32_t session = g_timeline.session.load(std::memory_order_acquire);
    EventRegion* const region = g_timeline.region.load(std::memory_order_acquire);
    if (region == nullptr) return;
    look(*region, session);
    if (g_timeline.session.load(std::memory_order_acquire) == session) return;
  }
}

std::vector<TimelineEvent> by_time(const std::vector<EventWords>& events) {
  const TickScale scale = scale_now();
  std::vector<TimelineEvent> result;
  result.reserve(events.size());
  for (const EventWords& event : events) result.push_back(event_of(event, scale));
  std::ranges::stable_sort(result, {}, &TimelineEvent::at);
  return result;
}

// When a chunk's latest event was; empty if it has none of the session.
struct ChunkEnd {
  std::uint64_t ticks = 0;
  TimelineChunk* chunk = nullptr;
  std::uint32_t count = 0;
};
std::vector<ChunkEnd> ends_of_chunks(EventRegion& region, std::uint32_t session) {
  std::vector<ChunkEnd> ends;
  for (std::uint32_t i = 0; i < region.used(); ++i) {
    TimelineChunk& chunk = region.first[i];
    const std::uint32_t count = chunk.count.load(std::memory_order_acquire);
    std::array<EventWords, 1> last;
    if (count == 0 || !copy_events(region, chunk, session, count - 1, last)) continue;
    ends.push_back({last[0].ticks(), &chunk, count});
  }
  std::ranges::sort(ends, std::greater{}, &ChunkEnd::ticks);
  return ends;
}

// From the chunks that end last, until what they hold is later than all others' ends.
std::vector<EventWords> latest_of(EventRegion& region, std::uint32_t session, std::size_t most) {
  std::vector<EventWords> latest;
  for (const ChunkEnd& end : ends_of_chunks(region, session)) {
    if (latest.size() == most && end.ticks <= latest.back().ticks()) break;
    std::vector<EventWords> events{std::min<std::size_t>(end.count, most)};
    const auto from = end.count - static_cast<std::uint32_t>(events.size());
    if (!copy_events(region, *end.chunk, session, from, events)) continue;
    latest.insert(latest.end(), events.begin(), events.end());
    std::ranges::sort(latest, std::greater{}, &EventWords::ticks);
    if (latest.size() > most) latest.resize(most);
  }
  return latest;
}

std::uint32_t mask_of(const std::vector<EventKind>& kinds) noexcept {
  if (kinds.empty()) return ~0U;
  std::uint32_t mask = 0;
  for (const EventKind kind : kinds) mask |= 1U << static_cast<unsigned>(kind);
  return mask;
}

// One that was made before, of the same size, or a new one; null if there is no memory.
EventRegion* region_for(Bytes capacity) noexcept {
  const std::uint32_t chunks = EventRegion::chunks_in(capacity);
  EventRegion* const first = g_regions.load(std::memory_order_relaxed);
  for (EventRegion* region = first; region != nullptr; region = region->next) {
    if (region->chunks == chunks) return region;
  }
  EventRegion* const made = EventRegion::make(capacity);
  if (made == nullptr) return nullptr;
  made->next = first;
  g_regions.store(made, std::memory_order_release);
  return made;
}

void prepare_process() noexcept {
  static const int prepared = [] {
    choose_tick_clock();
    return ::pthread_atfork(before_fork, after_fork_in_parent, child_after_fork);
  }();
  static_cast<void>(prepared);
}

void begin_session(EventRegion* region) noexcept {
  EventRegion* const before = g_timeline.region.load(std::memory_order_relaxed);
  const TickAnchor now = take_anchor();
  g_timeline.start_ticks.store(now.ticks, std::memory_order_relaxed);
  g_timeline.start_nanoseconds.store(now.nanoseconds, std::memory_order_relaxed);
  g_timeline.region.store(region, std::memory_order_release);
  g_timeline.session.fetch_add(1, std::memory_order_acq_rel);
  g_events_lost.store(0, std::memory_order_relaxed);
  if (before != nullptr && before != region) before->give_pages_back();
}

}  // namespace

void record_event(EventKind kind, SubjectId subject, Bytes bytes, std::uintptr_t address,
                  std::uint16_t tag) noexcept {
  ThisThread& me = this_thread;
  if (me.busy.load(std::memory_order_relaxed)) {
    g_events_lost.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const Busy busy{me};
  const std::uint32_t session = g_timeline.session.load(std::memory_order_acquire);
  if (!me.writer.has_room(session) && !next_chunk(me, session)) [[unlikely]] {
    g_events_lost.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::uint64_t names = static_cast<std::uint64_t>(kind) << 56 |
                              std::uint64_t{subject} << (kThreadBits + 16) |
                              std::uint64_t{tag} << kThreadBits | me.number;
  me.writer.put({{read_ticks(), address, bytes.count(), names}});
  // What the thread records while its objects end is gone on with by others at once.
  if (me.ended) [[unlikely]] {
    me.writer.release();
  }
}

void visit_events_unlocked(EventVisitor visit, void* context) noexcept {
  const std::uint32_t session = g_timeline.session.load(std::memory_order_acquire);
  EventRegion* const region = g_timeline.region.load(std::memory_order_acquire);
  if (region == nullptr) return;
  const TickScale scale = scale_now();
  visit_events(*region, session,
               [&](const EventWords& event) { visit(event_of(event, scale), context); });
}

std::vector<TimelineEvent> latest_events(std::size_t most) {
  std::vector<EventWords> events;
  if (most == 0) return {};
  look_at_session([&](EventRegion& region, std::uint32_t session) {
    events = latest_of(region, session, most);
  });
  std::ranges::reverse(events);
  return by_time(events);
}

}  // namespace detail

std::string_view to_string(EventKind kind) noexcept {
  constexpr std::array<std::string_view, 12> kNames{"allocate", "free",    "map",      "unmap",
                                                    "reserve",  "release", "deny",     "reclaim",
                                                    "evict",    "spill",   "pressure", "mark"};
  const auto index = static_cast<std::size_t>(kind);
  return index < kNames.size() ? kNames[index] : std::string_view{"unknown"};
}

Status Timeline::start(const TimelineOptions& options) {
  using namespace detail;
  if (options.capacity < kLeastCapacity) {
    return {Code::invalid_argument,
            fmt::format("timeline: capacity {} is not allowed; allowed: {} or more",
                        to_string(options.capacity), to_string(kLeastCapacity))};
  }
  prepare_process();
  const std::lock_guard lock{start_mutex()};
  EventRegion* const region = region_for(options.capacity);
  if (region == nullptr) {
    return {Code::memory_refused, fmt::format("timeline: the system has no {} for its events",
                                              to_string(options.capacity))};
  }
  g_timeline_kinds.store(0, std::memory_order_relaxed);
  begin_session(region);
  g_timeline_kinds.store(mask_of(options.kinds), std::memory_order_release);
  want_events(records(EventKind::allocate) || records(EventKind::free));
  return {};
}

void Timeline::stop() noexcept {
  const std::lock_guard lock{detail::start_mutex()};
  detail::want_events(false);
  detail::g_timeline_kinds.store(0, std::memory_order_relaxed);
}

bool Timeline::running() noexcept {
  return detail::g_timeline_kinds.load(std::memory_order_relaxed) != 0;
}

void Timeline::mark(std::string_view text) noexcept {
  if (!detail::records(EventKind::mark)) return;
  detail::record_event(EventKind::mark, detail::subject_of_mark(text), Bytes{}, 0,
                       detail::this_tracking.context);
}

std::vector<TimelineEvent> Timeline::read() {
  using namespace detail;
  std::vector<EventWords> events;
  look_at_session([&](EventRegion& region, std::uint32_t session) {
    events.clear();
    events.reserve(events_kept(region, session));
    visit_events(region, session, [&](const EventWords& event) { events.push_back(event); });
  });
  return by_time(events);
}

std::uint64_t Timeline::recorded() noexcept {
  using namespace detail;
  const std::uint64_t lost = dropped();
  EventRegion* const region = g_timeline.region.load(std::memory_order_acquire);
  if (region == nullptr) return lost;
  return lost + events_kept(*region, g_timeline.session.load(std::memory_order_acquire));
}

std::uint64_t Timeline::dropped() noexcept {
  return detail::g_events_lost.load(std::memory_order_relaxed);
}

TagStats Timeline::tag_of(const TimelineEvent& event) {
  const detail::ContextName name = detail::name_of(event.tag);
  TagStats stats;
  stats.tag = name.tag;
  stats.owner = name.owner;
  return stats;
}

}  // namespace forebay
