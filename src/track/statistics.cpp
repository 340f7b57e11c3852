// Sources of statistics, and the calls to all of them.
#include <pthread.h>

#include <cstddef>
#include <mutex>
#include <new>
#include <utility>

#include "forebay/tracker.hpp"
#include "track/source.hpp"

namespace forebay {
namespace {

struct Entry {
  std::string kind;
  std::string name;
  StatisticsRegistration::Collect collect;
  Entry* next = nullptr;
};

// In the order of registration. `calls` is held while sources are called, and by whoever takes an
// entry out; `list` for an instant, over each change. A source may take any lock of a pool or
// budget, so that a fork, which holds those, must not wait for `calls`.
struct Sources {
  std::mutex calls;
  std::mutex list;
  Entry* first = nullptr;
  Entry** last = &first;
};

void before_fork() noexcept;
void after_fork_in_parent() noexcept;
void after_fork_in_child() noexcept;

// Never destroyed: registrations may end after static objects have.
Sources& sources() noexcept {
  alignas(Sources) static std::byte place[sizeof(Sources)];
  static auto* const the = [] {
    auto* const made = new (place) Sources;
    ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
    return made;
  }();
  return *the;
}

void before_fork() noexcept { sources().list.lock(); }
void after_fork_in_parent() noexcept { sources().list.unlock(); }
// Whoever held it is not here.
void after_fork_in_child() noexcept {
  sources().list.unlock();
  new (&sources().calls) std::mutex;
}

Entry* after(Sources& all, const Entry* entry) noexcept {
  const std::lock_guard lock{all.list};
  return entry == nullptr ? all.first : entry->next;
}

void take_out(Sources& all, const Entry* entry) noexcept {
  const std::lock_guard lock{all.list};
  Entry** link = &all.first;
  while (*link != entry) link = &(*link)->next;
  *link = entry->next;
  if (all.last == &entry->next) all.last = link;
}

void add_tracker(std::vector<StatisticsGroup>& groups) {
  groups.push_back({"tracker",
                    std::string{to_string(Tracker::options().grade)},
                    {{"metadata_bytes", static_cast<double>(Tracker::metadata().count())},
                     {"dropped_total", static_cast<double>(Tracker::dropped())},
                     {"events_total", static_cast<double>(Timeline::recorded())},
                     {"events_dropped_total", static_cast<double>(Timeline::dropped())}}});
}

}  // namespace

StatisticsRegistration::StatisticsRegistration(std::string kind, std::string name,
                                               Collect collect) {
  Sources& all = sources();
  auto* const entry = new Entry{std::move(kind), std::move(name), std::move(collect), nullptr};
  entry_.reset(entry);
  const std::lock_guard lock{all.list};
  *all.last = entry;
  all.last = &entry->next;
}

void StatisticsRegistration::Leave::operator()(void* entry) const noexcept {
  Sources& all = sources();
  auto* const mine = static_cast<Entry*>(entry);
  {
    const std::lock_guard lock{all.calls};
    take_out(all, mine);
  }
  delete mine;
}

std::vector<StatisticsGroup> collect_statistics() {
  std::vector<StatisticsGroup> groups;
  add_tracker(groups);
  detail::collect_from_sources(groups);
  Sources& all = sources();
  const std::lock_guard lock{all.calls};
  for (Entry* entry = after(all, nullptr); entry != nullptr; entry = after(all, entry)) {
    StatisticsGroup& group = groups.emplace_back();
    group.kind = entry->kind;
    group.name = entry->name;
    if (entry->collect) entry->collect(group.statistics);
  }
  return groups;
}

}  // namespace forebay
