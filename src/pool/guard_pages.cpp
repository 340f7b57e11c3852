#include "pool/guard_pages.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <utility>

#include "device/mapping.hpp"
#include "forebay/check.hpp"
#include "pool/core.hpp"

namespace forebay::detail {
namespace {

// Text in a handler of signals: no allocation, no locale. What does not fit is left out.
class Line {
 public:
  Line& operator<<(std::string_view text) noexcept {
    const std::size_t length = std::min(text.size(), text_.size() - length_);
    std::memcpy(text_.data() + length_, text.data(), length);
    length_ += length;
    return *this;
  }
  Line& number(std::uint64_t value, unsigned base = 10) noexcept {
    std::array<char, 20> digits{};
    std::size_t first = digits.size();
    do {
      digits[--first] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    return *this << std::string_view{digits.data() + first, digits.size() - first};
  }
  Line& size(std::uint64_t bytes) noexcept {
    if (bytes % (1ULL << 20) == 0) return number(bytes >> 20) << " MiB";
    if (bytes % (1ULL << 10) == 0) return number(bytes >> 10) << " KiB";
    return number(bytes) << " B";
  }
  void write() const noexcept { static_cast<void>(!::write(STDERR_FILENO, text_.data(), length_)); }

 private:
  std::array<char, 512> text_{};
  std::size_t length_ = 0;
};

void describe(std::uintptr_t address) noexcept {
  const Region* const region = region_of(address);
  if (region == nullptr || address < region->base || address >= region->end()) return;
  const PoolCore::Guarded found = region->core->guarded_before(address);
  if (found.block == 0) return;
  Line line;
  line << "forebay: pool '" << region->core->name() << "': access ";
  line.number(address - (found.block + found.bytes) + 1) << " B past the end of block 0x";
  line.number(found.block, 16) << " of ";
  line.size(found.bytes) << "\n";
  line.write();
}

struct sigaction g_previous {};

// The system's own way is taken by coming back: the access faults again, without us.
void pass_on(int signal, siginfo_t* info, void* context) noexcept {
  if ((g_previous.sa_flags & SA_SIGINFO) != 0) {
    return g_previous.sa_sigaction(signal, info, context);
  }
  if (g_previous.sa_handler != SIG_DFL && g_previous.sa_handler != SIG_IGN) {
    return g_previous.sa_handler(signal);
  }
  struct sigaction system {};
  system.sa_handler = SIG_DFL;
  ::sigaction(signal, &system, nullptr);
  if (info->si_code <= 0) ::raise(signal);  // sent by somebody: it does not come again by itself
}

void on_fault(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  if (info->si_code > 0) describe(reinterpret_cast<std::uintptr_t>(info->si_addr));
  errno = error;
  pass_on(signal, info, context);
}

bool set_reachable(std::uintptr_t at, bool reachable) noexcept {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): pages of a range
  auto* const page = reinterpret_cast<std::byte*>(at);
  return set_access(page, Bytes{kGuard}, reachable ? Access::read_write : Access::none);
}

void lower_guard(const Extent& extent) noexcept {
  FOREBAY_CHECK(set_reachable(extent.end() - kGuard, true),
                "the page is a mapping of its own: to change it takes no other");
}

}  // namespace

void report_faults() noexcept {
  static const bool installed = [] {
    struct sigaction ours {};
    if (::sigaction(SIGSEGV, nullptr, &g_previous) != 0) return false;
    ours.sa_sigaction = on_fault;
    ours.sa_mask = g_previous.sa_mask;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    return ::sigaction(SIGSEGV, &ours, nullptr) == 0;
  }();
  static_cast<void>(installed);  // without it a fault is still a fault, just without a name
}

// A page of another access cuts the range's mapping in three; the system may be out of those, and
// then the block is one without a guard.
bool PoolCore::raise_guard(ExtentId id, const Need& need) noexcept {
  const std::uintptr_t guard = extents_[id].end() - kGuard;
  if (!set_reachable(guard, false)) return false;
  const Lock lock{mutex_};  // others may be walking over the extents
  extents_[id].region->extent_at(guard) = id;
  place_before_guard(id, need);
  return true;
}

void PoolCore::place_before_guard(ExtentId id, const Need& need) noexcept {
  Extent& extent = extents_[id];
  const std::uint64_t unit = std::min(need.alignment, kPage);
  const std::uint64_t bytes = (need.bytes + unit - 1) & ~(unit - 1);
  extent.next = static_cast<ExtentId>(extent.bytes() - kGuard - bytes);
  extent.become(ExtentState::guarded);
}

void PoolCore::release_guarded(ExtentId id, Stream stream) noexcept {
  Extent& extent = extents_[id];
  {
    const Lock lock{mutex_};
    StreamId on = 0;
    if (find_stream(stream, on) && rest(id, on)) return;
  }
  lower_guard(extent);
  extent.become(ExtentState::live);
  release_large_slow(id, stream, false);
}

// Two system calls are most of what a guard costs: a few wait for the next of their size.
bool PoolCore::rest(ExtentId id, StreamId stream) noexcept {
  const auto place = std::find(resting_.begin(), resting_.end(), 0U);
  Extent& extent = extents_[id];
  if (place == resting_.end() || stream != extent.stream || !options_.max_retained.is_unlimited()) {
    return false;
  }
  *place = id;
  extent.become(ExtentState::resting);
  count_given(*shared_cache_, extent.tag, extent.bytes());
  return true;
}

// What lies under the guard cannot be zeroed: it must be the same tenant's.
ExtentId PoolCore::take_resting(std::uint32_t pages, const Need& need, StreamId stream) noexcept {
  for (ExtentId& id : resting_) {
    if (id == 0) continue;
    const Extent& extent = extents_[id];
    const bool fits = extent.pages == pages && extent.stream == stream &&
                      extent.soil == need.soil && (extent.start & (need.alignment - 1)) == 0;
    if (fits) return std::exchange(id, 0);
  }
  return 0;
}

Taken PoolCore::take_guarded(Lock& lock, ThreadCache& cache, ExtentId id,
                             const Need& need) noexcept {
  Soil old = kPristine;
  auto* const start = static_cast<std::byte*>(hand_out(cache, id, need, old));
  place_before_guard(id, need);
  void* const block = start + extents_[id].next;
  lock.unlock();
  clean(block, need.bytes, old, need);
  return {block, kNoHandle};
}

void PoolCore::empty_resting() noexcept {
  for (ExtentId& id : resting_) {
    if (id == 0) continue;
    lower_guard(extents_[id]);
    large_.heap.give_warm(std::exchange(id, 0));
  }
}

PoolCore::Guarded PoolCore::guarded_before(std::uintptr_t address) const noexcept {
  const Region& region = *region_of(address);
  const Extent& extent = extents_[region.extent_at(address)];
  if (extent.is() != ExtentState::guarded || extent.region != &region) return {};
  if (address < extent.end() - kGuard || address >= extent.end()) return {};
  return {extent.start + extent.next, extent.requested};
}

}  // namespace forebay::detail
