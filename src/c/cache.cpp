#include "forebay/cache.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "c/boundary.hpp"
#include "c/budget.hpp"

namespace {

using forebay::c::bytes_at;
using forebay::c::fail;
using forebay::c::guarded;
using forebay::c::options_of;
using forebay::c::require;

using Blobs = forebay::Cache<std::string, forebay::CacheBytes>;
using Handle = Blobs::Handle;

// An entry's pin is the handle itself.
static_assert(sizeof(Handle) == sizeof(forebay_entry::pin));
static_assert(alignof(Handle) <= alignof(void*));

// Time as the caller's function tells it.
class CallbackClock final : public forebay::Clock {
 public:
  using Now = std::uint64_t (*)(void* context);
  CallbackClock(Now tell, void* context) noexcept : now_(tell), context_(context) {}

  TimePoint now() const noexcept override {
    return TimePoint{forebay::Duration{static_cast<std::int64_t>(now_(context_))}};
  }
  // Nobody tells it when time goes on: it looks again.
  void wait_until(std::condition_variable& changed, std::unique_lock<std::mutex>& lock,
                  TimePoint /*deadline*/) override {
    changed.wait_for(lock, std::chrono::milliseconds{1});
  }

 private:
  Now now_;
  void* context_;
};

// What the system's allocator takes for a text that is not inside the string itself.
forebay::Bytes held_by(const std::string& text) noexcept {
  constexpr std::size_t kInside = 15;
  if (text.capacity() <= kInside) return {};
  return forebay::Bytes{(text.capacity() + 1 + 8 + 15) / 16 * 16};
}

forebay::Duration nanoseconds(std::uint64_t count) noexcept {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  return forebay::Duration{static_cast<std::int64_t>(std::min(count, kMost))};
}

const char* or_default(const char* text, const char* otherwise) noexcept {
  return text == nullptr ? otherwise : text;
}

// Bytes to bytes, and what the user says that they are.
struct Content : forebay::CacheSerializer<std::string, forebay::CacheBytes> {
  explicit Content(std::string text) : content(std::move(text)) {}
  std::string type() const { return content.empty() ? "bytes" : "bytes: " + content; }
  std::string content;
};

forebay::CacheOptions cache_options(const forebay_cache_options& given, forebay::Clock* clock) {
  forebay::CacheOptions options;
  options.name = or_default(given.name, "cache");
  if (given.max_bytes != 0) options.max_bytes = forebay::Bytes{given.max_bytes};
  if (given.max_entries != 0) options.max_entries = given.max_entries;
  options.policy = or_default(given.policy, options.policy.c_str());
  options.objective = or_default(given.objective, options.objective.c_str());
  if (given.seed != 0) options.seed = given.seed;
  options.max_age = nanoseconds(given.max_age_ns);
  options.shards = given.shards;
  options.priority = given.priority;
  if (given.budget != nullptr) options.budget = &given.budget->budget;
  if (clock != nullptr) options.clock = clock;
  return options;
}

Blobs::Hooks hooks_of(const forebay_cache_options& given) {
  Blobs::Hooks hooks;
  hooks.weigher = [](const std::string& key, const Blobs::Given&) { return held_by(key); };
  if (given.listener == nullptr) return hooks;
  hooks.listener = [listener = given.listener, context = given.listener_context](
                       const std::string& key, const forebay::CacheBytes& value,
                       forebay::RemovalReason reason) {
    listener(context, key.data(), key.size(), value.bytes().data(), value.size(),
             static_cast<forebay_removal>(reason));
  };
  return hooks;
}

forebay::EntryOptions entry_options(const forebay_put_options* options) {
  const auto given = options_of(options, "options");
  return {.ttl = nanoseconds(given.ttl_ns),
          .cost = given.cost_us,
          .utility = given.utility,
          .failure_ttl = nanoseconds(given.failure_ttl_ns)};
}

void fill(forebay_entry& entry, Handle handle) noexcept {
  entry = {handle.key().data(), handle.key().size(), handle->bytes().data(), handle->size(), {}};
  new (static_cast<void*>(entry.pin)) Handle(std::move(handle));
}

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): C's names of them
struct forebay_cache {
  explicit forebay_cache(const forebay_cache_options& given)
      : clock(given.clock, given.clock_context),
        content(or_default(given.content, "")),
        budget(given.budget),
        cache(cache_options(given, given.clock == nullptr ? nullptr : &clock), hooks_of(given)) {}

  CallbackClock clock;
  Content content;
  forebay::c::BudgetUse budget;
  Blobs cache;
};

struct forebay_value {
  std::vector<std::byte> bytes;
};
// NOLINTEND(readability-identifier-naming)

namespace {

// The way of all functions that take a key.
template <typename Body>
forebay_status with_key(forebay_cache* cache, const void* key, std::size_t key_size,
                        Body body) noexcept {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    return body(cache->cache, bytes_at(key, key_size, "key"));
  });
}

forebay_status put(forebay_cache* cache, const void* key, std::size_t key_size, const void* value,
                   std::size_t value_size, const forebay_put_options* options,
                   forebay_put_outcome* outcome, bool only_if_absent) noexcept {
  return with_key(cache, key, key_size, [&](Blobs& blobs, std::string_view name) {
    const forebay::EntryOptions entry = entry_options(options);
    const auto bytes = std::as_bytes(std::span{bytes_at(value, value_size, "value")});
    const auto done = only_if_absent ? blobs.put_if_absent(std::string{name}, bytes, entry)
                                     : blobs.put(std::string{name}, bytes, entry);
    if (!done) return fail(done.status());
    if (outcome != nullptr) *outcome = static_cast<forebay_put_outcome>(*done);
    return forebay_status{FOREBAY_OK};
  });
}

// The status of a loader is that of all who wait, and so goes through the cache as one.
forebay::Result<std::vector<std::byte>> run_loader(forebay_loader loader, void* context,
                                                   const std::string& key) {
  forebay_value value;
  fail(FOREBAY_OK, "");
  const forebay_status status = loader(context, key.data(), key.size(), &value);
  if (status == FOREBAY_OK) return std::move(value.bytes);
  std::string text = forebay_last_error();
  if (text.empty()) text = "the loader failed with status " + std::to_string(status);
  return forebay::Status{static_cast<forebay::Code>(status), std::move(text)};
}

}  // namespace

forebay_status forebay_cache_create(const forebay_cache_options* options, forebay_cache** cache) {
  return guarded([&]() -> forebay_status {
    require(options, "options");
    require(static_cast<const void*>(cache), "cache");
    const auto given = options_of(options, "options");
    *cache = std::make_unique<forebay_cache>(given).release();
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_destroy(forebay_cache* cache) {
  return guarded([&]() -> forebay_status {
    if (cache == nullptr) return FOREBAY_OK;
    cache->cache.clear();
    if (const auto held = cache->cache.stats().leaving; held != 0) {
      return fail(FOREBAY_FAILED_PRECONDITION,
                  "the cache is empty now, and stays: " + std::to_string(held) +
                      " of its entries are held");
    }
    delete cache;
    return FOREBAY_OK;
  });
}

void forebay_entry_release(forebay_entry* entry) {
  if (entry == nullptr || entry->key == nullptr) return;
  std::launder(reinterpret_cast<Handle*>(entry->pin))->~Handle();
  *entry = {};
}

forebay_status forebay_cache_find(forebay_cache* cache, const void* key, size_t key_size,
                                  forebay_entry* entry) {
  if (entry != nullptr) *entry = {};
  return with_key(cache, key, key_size, [&](Blobs& blobs, std::string_view name) -> forebay_status {
    require(entry, "entry");
    Handle found = blobs.find(name);
    if (!found) return FOREBAY_NOT_FOUND;
    fill(*entry, std::move(found));
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_put(forebay_cache* cache, const void* key, size_t key_size,
                                 const void* value, size_t value_size,
                                 const forebay_put_options* options, forebay_put_outcome* outcome) {
  return put(cache, key, key_size, value, value_size, options, outcome, false);
}

forebay_status forebay_cache_put_if_absent(forebay_cache* cache, const void* key, size_t key_size,
                                           const void* value, size_t value_size,
                                           const forebay_put_options* options,
                                           forebay_put_outcome* outcome) {
  return put(cache, key, key_size, value, value_size, options, outcome, true);
}

forebay_status forebay_value_resize(forebay_value* value, size_t size, void** bytes) {
  return guarded([&]() -> forebay_status {
    require(value, "value");
    require(static_cast<const void*>(bytes), "bytes");
    value->bytes.resize(size);
    *bytes = value->bytes.data();
    return FOREBAY_OK;
  });
}

forebay_status forebay_value_assign(forebay_value* value, const void* bytes, size_t size) {
  return guarded([&]() -> forebay_status {
    require(value, "value");
    const auto from = std::as_bytes(std::span{bytes_at(bytes, size, "bytes")});
    value->bytes.assign(from.begin(), from.end());
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_get_or_compute(forebay_cache* cache, const void* key, size_t key_size,
                                            forebay_loader loader, void* context,
                                            const forebay_put_options* options,
                                            forebay_entry* entry) {
  if (entry != nullptr) *entry = {};
  return with_key(cache, key, key_size, [&](Blobs& blobs, std::string_view name) -> forebay_status {
    require(reinterpret_cast<const void*>(loader), "loader");
    require(entry, "entry");
    const forebay::EntryOptions with = entry_options(options);
    auto made = blobs.get_or_compute(
        std::string{name},
        [&](const std::string& wanted) { return run_loader(loader, context, wanted); }, with);
    if (!made) return fail(made.status());
    fill(*entry, std::move(*made));
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_erase(forebay_cache* cache, const void* key, size_t key_size,
                                   bool* erased) {
  return with_key(cache, key, key_size, [&](Blobs& blobs, std::string_view name) -> forebay_status {
    const bool was_there = blobs.erase(std::string{name});
    if (erased != nullptr) *erased = was_there;
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_clear(forebay_cache* cache) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    cache->cache.clear();
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_set_max_bytes(forebay_cache* cache, uint64_t max_bytes) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    cache->cache.set_max_bytes(forebay::Bytes{max_bytes});
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_reclaim(forebay_cache* cache, uint64_t goal, uint64_t* freed) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    const forebay::Bytes bytes = cache->cache.reclaim(forebay::Bytes{goal});
    if (freed != nullptr) *freed = bytes.count();
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_cleanup_expired(forebay_cache* cache, uint64_t* count) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    const std::uint64_t expired = cache->cache.cleanup_expired();
    if (count != nullptr) *count = expired;
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_get_stats(const forebay_cache* cache, forebay_cache_stats* stats) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    forebay::c::check_figures(stats, "stats");
    const forebay::CacheStats now = cache->cache.stats();
    forebay_cache_stats figures{};
    figures.used = now.used.count();
    figures.peak = now.peak.count();
    figures.max_bytes = now.max_bytes.count();
    figures.entries = now.entries;
    figures.pinned = now.set_aside + now.leaving;
    figures.lookups = now.lookups;
    figures.hits = now.hits;
    figures.misses = now.misses;
    figures.stale = now.stale;
    figures.insertions = now.insertions;
    figures.declined = now.declined;
    figures.refused = now.refused;
    figures.evicted = now.evicted;
    figures.expired = now.expired;
    figures.erased = now.erased;
    figures.replaced = now.replaced;
    figures.cleared = now.cleared;
    figures.loads = now.loads;
    figures.load_failures = now.load_failures;
    figures.loads_shared = now.loads_shared;
    figures.load_time_ns = static_cast<std::uint64_t>(now.load_time.count());
    forebay::c::give_figures(figures, stats);
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_each(forebay_cache* cache, forebay_visitor visitor, void* context) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    require(reinterpret_cast<const void*>(visitor), "visitor");
    for (const Handle& entry : cache->cache.snapshot()) {
      if (!visitor(context, entry.key().data(), entry.key().size(), entry->bytes().data(),
                   entry->size())) {
        break;
      }
    }
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_save(forebay_cache* cache, const char* path, forebay_saved* saved) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    require(path, "path");
    if (saved != nullptr) forebay::c::check_figures(saved, "saved");
    const auto done = cache->cache.save(path, cache->content);
    if (!done) return fail(done.status());
    if (saved != nullptr) forebay::c::give_figures({0, done->entries, done->file.count()}, saved);
    return FOREBAY_OK;
  });
}

forebay_status forebay_cache_load(forebay_cache* cache, const char* path,
                                  const forebay_load_options* options, forebay_loaded* loaded) {
  return guarded([&]() -> forebay_status {
    require(cache, "cache");
    require(path, "path");
    if (loaded != nullptr) forebay::c::check_figures(loaded, "loaded");
    const auto given = options_of(options, "options");
    forebay::CacheLoadOptions load;
    if (given.down_for_given) load.down_for = nanoseconds(given.down_for_ns);
    const auto done = cache->cache.load(path, load, cache->content);
    if (!done) return fail(done.status());
    if (loaded != nullptr) {
      forebay::c::give_figures({0, done->loaded, done->expired, done->did_not_fit, done->present},
                               loaded);
    }
    return FOREBAY_OK;
  });
}
