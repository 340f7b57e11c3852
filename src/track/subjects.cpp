// Names of subjects, by number.
#include "track/subjects.hpp"

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <new>
#include <unordered_map>

#include "track/context.hpp"
#include "track/timeline.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kMostSubjects = 1U << 16;
// Texts of marks may be without end ("step 123456"); they leave half of the numbers to the names
// of pools and budgets.
constexpr std::size_t kMostMarks = kMostSubjects / 2;
constexpr std::size_t kLongest = 1000;

// Written once each, before g_used says so; read by handlers of signals. Untouched pages of it
// take no memory.
constinit std::array<std::string_view, kMostSubjects> g_names{};
constinit std::atomic<std::uint32_t> g_used{1};

struct Numbers {
  std::mutex mutex;
  std::unordered_map<std::string_view, SubjectId> of;
  std::size_t marks = 0;
};

void hold_numbers() noexcept;
void release_numbers() noexcept;

// Never destroyed: threads may end after static objects have. Whole in the child of a fork.
Numbers& numbers() noexcept {
  alignas(Numbers) static std::byte place[sizeof(Numbers)];
  static auto* const the = [] {
    auto* const made = new (place) Numbers;
    prepare_contexts();
    ::pthread_atfork(hold_numbers, release_numbers, release_numbers);
    return made;
  }();
  return *the;
}

void hold_numbers() noexcept { numbers().mutex.lock(); }
void release_numbers() noexcept { numbers().mutex.unlock(); }

SubjectId number_of(Numbers& all, std::string_view name, bool is_mark) {
  if (const auto known = all.of.find(name); known != all.of.end()) return known->second;
  const std::uint32_t next = g_used.load(std::memory_order_relaxed);
  if (next == kMostSubjects || (is_mark && all.marks == kMostMarks)) return 0;
  const std::string_view kept = keep_text(name);
  if (kept.empty()) return 0;
  all.of.emplace(kept, static_cast<SubjectId>(next));
  if (is_mark) ++all.marks;
  g_names[next] = kept;
  g_used.store(next + 1, std::memory_order_release);
  return static_cast<SubjectId>(next);
}

SubjectId numbered(std::string_view name, bool is_mark) noexcept {
  if (name.empty()) return 0;
  try {
    Numbers& all = numbers();
    const std::lock_guard lock{all.mutex};
    return number_of(all, name.substr(0, kLongest), is_mark);
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

}  // namespace

SubjectId subject(std::string_view name) noexcept { return numbered(name, false); }
SubjectId subject_of_mark(std::string_view text) noexcept { return numbered(text, true); }

std::string_view subject_name(SubjectId id) noexcept {
  return id < g_used.load(std::memory_order_acquire) ? g_names[id] : std::string_view{};
}

}  // namespace forebay::detail
