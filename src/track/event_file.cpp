#include "track/event_file.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <new>

#include "track/event_format.hpp"
#include "track/event_names.hpp"
#include "track/event_sink.hpp"

namespace forebay::detail {

namespace {

std::uint64_t coarse_time() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

constinit std::atomic<bool> g_event_file_open{false};
constinit std::atomic<ClockFunction> g_event_clock{&coarse_time};

namespace {

constexpr std::uint64_t kTickNs = 10'000'000;
constexpr std::uint64_t kOldChunkNs = 1'000'000'000;
// A look at the clock takes 5 ns. Threads that record fast look at every eighth event only, so
// that up to seven may bear the time before a pause; slow ones look at each.
constexpr std::uint32_t kMostEventsALook = 8;
constexpr std::size_t kMostEvent = 64;  // bytes of one with what goes before it; it has 46
constexpr std::uint32_t kMostLanes = 65535;

// What one thread at a time writes to. Invariants:
// 1. Bytes of the buffer before `cursor` are events that are whole; they do not change until the
//    chunk is written. So whoever has the mutex may write them out while the owner goes on.
// 2. Only the owner writes behind the cursor and moves it. It begins a chunk under the mutex.
// 3. Anyone with the mutex may set `limit` to 0, which sends the owner to make_room().
struct Lane {
  std::atomic<std::uint32_t> cursor{0};
  std::atomic<std::uint32_t> limit{0};
  std::uint16_t id = 0;
  std::uint16_t context = 0;
  StackId stack = 0;
  std::uint32_t until_look = 0;  // at the clock, in events
  std::uint32_t events_a_look = 1;
  std::uint64_t next_number = 0;
  std::uint64_t last_other = 0;  // number of the last block of another lane that was freed
  std::uint64_t time = 0;        // of the latest tick
  std::uint64_t looked = 0;      // when
  std::uint64_t first_number = 0;
  // Of the file that `generation` says: under the mutex, but for the owner's reading.
  std::uint64_t lane_first = 0;
  std::uint64_t chunk_time = 0;
  std::uint64_t chunk_events = 0;  // `events` when the chunk began
  std::uint64_t generation = 0;
  std::atomic<std::uint64_t> events{0};  // of that file; written by the owner
  Lane* next = nullptr;                  // in the list of all
  Lane* next_free = nullptr;
  alignas(64) std::array<std::byte, kChunkBytes> buffer;
};

enum class State { closed, recording, closing };

// Never destroyed: threads may end after static objects have.
struct EventFile {
  std::mutex mutex;  // of all here; never held while user code runs
  State state = State::closed;
  EventSink sink;
  NameWriter names;
  std::uint64_t generation = 0;
  Lane* lanes = nullptr;
  Lane* free_lanes = nullptr;
  std::uint32_t lane_count = 0;
  bool prepared = false;  // for forks, ends of threads, and exit
  pthread_key_t key{};
};

EventFile& file() noexcept {
  alignas(EventFile) static std::byte place[sizeof(EventFile)];
  static auto* const the = new (place) EventFile;
  return *the;
}

constinit std::atomic<bool> g_recording{false};  // open, and no write has failed
constinit std::atomic<std::uint64_t> g_dropped{0};
[[gnu::tls_model("initial-exec")]] constinit thread_local Lane* t_lane = nullptr;

// To 4 ms, of the same clock that Clock::steady() reads.
std::uint64_t coarse_now() noexcept { return g_event_clock.load(std::memory_order_relaxed)(); }

void drop(std::uint64_t events) noexcept { g_dropped.fetch_add(events, std::memory_order_relaxed); }

// ---- Lanes, with the mutex held

Lane* make_lane(EventFile& the) noexcept {
  if (the.lane_count == kMostLanes) return nullptr;
  void* const memory =
      ::mmap(nullptr, sizeof(Lane), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  Lane* const lane = new (memory) Lane;
  lane->id = static_cast<std::uint16_t>(++the.lane_count);
  lane->next = std::exchange(the.lanes, lane);
  return lane;
}

// The calling thread's, from here to its end.
Lane* attach(EventFile& the) noexcept {
  Lane* const lane = the.free_lanes != nullptr ? the.free_lanes : make_lane(the);
  if (lane == nullptr || ::pthread_setspecific(the.key, lane) != 0) return nullptr;
  if (lane == the.free_lanes) the.free_lanes = lane->next_free;
  t_lane = lane;
  return lane;
}

void put_on_free_list(EventFile& the, Lane& lane) noexcept {
  lane.next_free = std::exchange(the.free_lanes, &lane);
}

// Runs after all thread_local objects have gone; a later event attaches again, and is followed by
// this again. The chunk is left as it is, for the next owner or the file's end.
void on_thread_end(void* lane) {
  const std::lock_guard lock{file().mutex};
  put_on_free_list(file(), *static_cast<Lane*>(lane));
  t_lane = nullptr;
}

void begin_chunk(EventFile& the, Lane& lane) noexcept {
  if (lane.generation != the.generation) {
    lane.generation = the.generation;
    lane.lane_first = lane.next_number;
    lane.events.store(0, std::memory_order_relaxed);
  }
  lane.first_number = lane.next_number;
  lane.context = 0;
  lane.stack = 0;
  lane.last_other = 0;
  lane.until_look = 1;
  lane.time = lane.chunk_time = coarse_now();
  lane.chunk_events = lane.events.load(std::memory_order_relaxed);
  lane.cursor.store(sizeof(ChunkHeader), std::memory_order_relaxed);
  lane.limit.store(kChunkBytes - kMostEvent, std::memory_order_relaxed);
}

// What is whole of a lane's chunk, after the names that it needs.
void write_chunk(EventFile& the, Lane& lane) noexcept {
  const std::uint32_t end = lane.cursor.load(std::memory_order_acquire);
  if (lane.generation != the.generation || end <= sizeof(ChunkHeader)) return;
  the.names.write_new();
  ChunkHeader header;
  header.magic = kChunkMagic;
  header.version = kEventVersion;
  header.kind = ChunkKind::events;
  header.length = end - static_cast<std::uint32_t>(sizeof header);
  header.lane = lane.id;
  header.first_number = lane.first_number;
  header.lane_first = lane.lane_first;
  header.time = lane.chunk_time;
  header.checksum = checksum_of(header, lane.buffer.data() + sizeof header);
  std::memcpy(lane.buffer.data(), &header, sizeof header);
  if (the.sink.append({lane.buffer.data(), end})) return;
  g_recording.store(false, std::memory_order_relaxed);
  drop(lane.events.exchange(lane.chunk_events, std::memory_order_relaxed) - lane.chunk_events);
}

// ---- Forks

void before_fork() { file().mutex.lock(); }
void after_fork_in_parent() { file().mutex.unlock(); }

// The child's one thread keeps its lane; the others' have no owner any more.
void after_fork_in_child() {
  EventFile& the = file();
  g_recording.store(false, std::memory_order_relaxed);
  g_event_file_open.store(false, std::memory_order_relaxed);
  if (the.state != State::closed) the.sink.abandon();
  the.state = State::closed;
  the.free_lanes = nullptr;
  for (Lane* lane = the.lanes; lane != nullptr; lane = lane->next) {
    lane->limit.store(0, std::memory_order_relaxed);
    if (lane != t_lane) put_on_free_list(the, *lane);
  }
  the.mutex.unlock();
}

Status prepare(EventFile& the) {
  if (the.prepared) return {};
  if (::pthread_key_create(&the.key, on_thread_end) != 0) {
    return {Code::io_error, "no key for data of threads is left"};
  }
  ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  static_cast<void>(std::atexit([] { static_cast<void>(close_event_file()); }));
  the.prepared = true;
  return {};
}

// ---- The first and the last chunk

void write_begin(EventFile& the) noexcept {
  std::array<char, NameChunks::kMostText> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  NameChunks& chunk = the.names.chunks();
  chunk.start(the.sink, ChunkKind::begin);
  chunk.number(static_cast<std::uint64_t>(::getpid()));
  chunk.number(static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
               static_cast<std::uint64_t>(now.tv_nsec));
  chunk.number(coarse_now());
  chunk.text({path.data(), static_cast<std::size_t>(std::max<ssize_t>(length, 0))});
  chunk.finish();
}

void write_end(EventFile& the) noexcept {
  NameChunks& chunk = the.names.chunks();
  chunk.start(the.sink, ChunkKind::end);
  chunk.number(g_dropped.load(std::memory_order_relaxed));
  chunk.number(coarse_now());
  chunk.finish();
}

// ---- Events, by a lane's owner

bool has_room(const Lane& lane) noexcept {
  return lane.cursor.load(std::memory_order_relaxed) < lane.limit.load(std::memory_order_relaxed);
}

// Not the usual way: the file is closed or failed, the thread is new, its chunk full or old.
[[gnu::noinline]] Lane* make_room() noexcept {
  if (!g_recording.load(std::memory_order_relaxed)) {
    if (event_file_is_open()) drop(1);
    return nullptr;
  }
  EventFile& the = file();
  const std::lock_guard lock{the.mutex};
  Lane* const lane = t_lane != nullptr ? t_lane : attach(the);
  if (the.state == State::recording && lane != nullptr) {
    if (has_room(*lane) && lane->generation == the.generation) return lane;  // one taken over
    write_chunk(the, *lane);
    if (!the.sink.failed()) {
      begin_chunk(the, *lane);
      return lane;
    }
    lane->cursor.store(0, std::memory_order_relaxed);
    lane->limit.store(0, std::memory_order_relaxed);
  }
  drop(1);
  return nullptr;
}

inline Lane* lane_with_room() noexcept {
  Lane* const lane = t_lane;
  if (lane != nullptr && has_room(*lane)) [[likely]]
    return lane;
  return make_room();
}

[[gnu::noinline]] std::byte* look_at_clock(Lane& lane, std::byte* at) noexcept {
  const std::uint64_t now = coarse_now();
  const bool fast = now - std::exchange(lane.looked, now) < kTickNs;
  lane.events_a_look = fast ? std::min(2 * lane.events_a_look, kMostEventsALook) : 1;
  lane.until_look = lane.events_a_look;
  if (now - lane.time < kTickNs) return at;
  const std::uint64_t microseconds = (now - lane.time) / 1000;
  lane.time += microseconds * 1000;
  // A process that is killed is to lose the last second at most, of threads that are busy.
  if (now - lane.chunk_time > kOldChunkNs) lane.limit.store(0, std::memory_order_relaxed);
  return put_number(put_number(put_number(at, 1), kTickControl), microseconds);
}

// Where the next event is to be written.
inline std::byte* event_place(Lane& lane) noexcept {
  std::byte* const at = lane.buffer.data() + lane.cursor.load(std::memory_order_relaxed);
  return --lane.until_look == 0 ? look_at_clock(lane, at) : at;
}

// From here on, the event is one of the file's.
inline void commit(Lane& lane, const std::byte* end) noexcept {
  lane.events.store(lane.events.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  lane.cursor.store(static_cast<std::uint32_t>(end - lane.buffer.data()),
                    std::memory_order_release);
}

std::byte* put_free_of_other(Lane& lane, std::byte* at, BlockNumber block) noexcept {
  at = put_number(put_number(at, 1), block.thread + std::uint64_t{1});
  at = put_number(at, from_difference(block.number - lane.last_other));
  lane.last_other = block.number;
  return at;
}

}  // namespace

BlockNumber record_allocate(std::uint64_t bytes, std::uint16_t context, StackId stack) noexcept {
  Lane* const lane = lane_with_room();
  if (lane == nullptr) return {};
  std::byte* at = event_place(*lane);
  if (context != lane->context) [[unlikely]] {
    lane->context = context;
    at = put_number(put_number(put_number(at, 1), kContextControl), context);
  }
  const std::uint64_t size = std::min(bytes, kMostBlock) << 2;
  if (stack == lane->stack) {
    at = put_number(at, size);
  } else {
    lane->stack = stack;
    at = put_number(put_number(at, size | 2), stack);
  }
  const BlockNumber block{lane->id, lane->next_number++};
  commit(*lane, at);
  return block;
}

void record_free(BlockNumber block) noexcept {
  if (block.thread == 0) return;
  Lane* const lane = lane_with_room();
  if (lane == nullptr) return;
  const bool own = block.thread == lane->id;
  if (own && block.number < lane->lane_first) return;  // of an earlier file
  std::byte* const at = event_place(*lane);
  commit(*lane, own ? put_number(at, (lane->next_number - block.number) << 1 | 1)
                    : put_free_of_other(*lane, at, block));
}

Status open_event_file(const std::string& path, const EventNames& names, std::uint64_t most_bytes) {
  EventFile& the = file();
  const std::lock_guard lock{the.mutex};
  if (the.state != State::closed) {
    return {Code::invalid_argument, path + ": events are recorded to another file already"};
  }
  if (Status status = prepare(the); !status.ok()) return status;
  if (Status status = the.sink.open(path, most_bytes); !status.ok()) return status;
  ++the.generation;
  g_dropped.store(0, std::memory_order_relaxed);
  write_begin(the);
  the.names.start(names, the.sink);
  the.names.write_new();
  if (the.sink.failed()) {
    ::unlink(path.c_str());
    return the.sink.close();
  }
  the.state = State::recording;
  g_recording.store(true, std::memory_order_relaxed);
  g_event_file_open.store(true, std::memory_order_relaxed);
  return {};
}

Status close_event_file() {
  EventFile& the = file();
  {
    const std::lock_guard lock{the.mutex};
    if (the.state != State::recording) return {};
    the.state = State::closing;
    g_event_file_open.store(false, std::memory_order_relaxed);
    g_recording.store(false, std::memory_order_relaxed);
    for (Lane* lane = the.lanes; lane != nullptr; lane = lane->next) {
      write_chunk(the, *lane);
      lane->limit.store(0, std::memory_order_relaxed);
    }
  }
  // Without the mutex: finding names takes locks, and memory that may be tracked.
  try {
    if (!the.sink.failed()) the.names.write_functions();
  } catch (const std::bad_alloc&) {
    // Names of functions can be found later, too.
  }
  const std::lock_guard lock{the.mutex};
  write_end(the);
  the.state = State::closed;
  return the.sink.close();
}

std::uint64_t events_recorded() noexcept {
  EventFile& the = file();
  const std::lock_guard lock{the.mutex};
  std::uint64_t events = 0;
  for (const Lane* lane = the.lanes; lane != nullptr; lane = lane->next) {
    if (lane->generation == the.generation) events += lane->events.load(std::memory_order_relaxed);
  }
  return events;
}

std::uint64_t events_dropped() noexcept { return g_dropped.load(std::memory_order_relaxed); }

}  // namespace forebay::detail
