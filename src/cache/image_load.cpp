// Loading a cache: the file is checked from end to end, and then read again.

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <new>

#include "base/text.hpp"
#include "cache/core.hpp"
#include "cache/image.hpp"

namespace forebay::detail {
namespace {

std::int64_t aged(const ImageHeader& header, const CacheLoadOptions& options) noexcept {
  if (options.down_for) return std::max<std::int64_t>(options.down_for->count(), 0);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const std::int64_t nanoseconds = std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  // A wall clock that was set back says nothing.
  return nanoseconds > header.saved_at && header.saved_at > 0 ? nanoseconds - header.saved_at : 0;
}

std::uint64_t entries_of(const CacheImpl& impl) noexcept {
  std::uint64_t entries = 0;
  for (const auto& shard : impl.shards) entries += shard->in_policy.load() + shard->aside.load();
  return entries;
}

class Loading {
 public:
  Loading(CacheImpl& impl, const EntryForm& form, ImageReader& file, std::int64_t age)
      : impl_(impl),
        form_(form),
        file_(file),
        age_(age),
        overhead_(impl.entry_overhead + impl.shards.front()->newcomer_bytes.load()) {}

  // All that can be said without the serializer: whether the file is whole, and how much it holds.
  Status check() {
    for (;;) {
      const auto record = file_.next();
      if (!record) return record.status();
      if (record->kind == ImageRecordKind::end) break;
      if (Status status = file_.skip(*record); !status.ok()) return status;
      if (is_over(*record)) continue;
      const std::uint64_t charge = charge_of(*record);
      bytes_left_ = charge > ~bytes_left_ ? ~std::uint64_t{0} : bytes_left_ + charge;
      ++entries_left_;
    }
    file_.rewind();
    return {};
  }

  Result<CacheLoaded> run() {
    const std::uint64_t evicted = evictions();
    for (;;) {
      const auto record = file_.next();
      if (!record) return record.status();
      if (record->kind == ImageRecordKind::end) break;
      if (Status status = take_in(*record); !status.ok()) return status;
    }
    // Newcomers make room as always: for what weighs more than it did, or for others' entries.
    const std::uint64_t gone = std::min(evictions() - evicted, loaded_.loaded);
    loaded_.loaded -= gone;
    loaded_.did_not_fit += gone;
    return loaded_;
  }

 private:
  bool is_over(const ImageRecord& record) const noexcept {
    return record.remaining != 0 && record.remaining <= age_;
  }
  // In this cache, as far as can be said before it is weighed.
  std::uint64_t charge_of(const ImageRecord& record) const noexcept {
    const std::uint64_t without = record.charge - std::min(record.charge, file_.header().overhead);
    return without > ~overhead_ ? ~std::uint64_t{0} : without + overhead_;
  }
  std::uint64_t evictions() const noexcept {
    std::uint64_t count = 0;
    for (const auto& shard : impl_.shards) {
      count += shard->removed[static_cast<std::size_t>(RemovalReason::evicted)].load();
    }
    return count;
  }

  // Whether it and all behind it have room. What does not fit is what stands first.
  bool fits(const ImageRecord& record) noexcept {
    const bool fits = bytes_left_ <= impl_.max_bytes.load(std::memory_order_relaxed) &&
                      entries_left_ <= impl_.options.max_entries;
    bytes_left_ -= std::min(bytes_left_, charge_of(record));
    --entries_left_;
    return fits;
  }

  Status take_in(const ImageRecord& record) {
    const bool over = is_over(record);
    if (over || !fits(record)) {
      ++(over ? loaded_.expired : loaded_.did_not_fit);
      return file_.skip(record);
    }
    if (Status status = file_.read(record, key_, value_); !status.ok()) return status;
    EntryOptions options;
    options.cost = record.cost;
    options.utility = record.utility;
    if (record.remaining != 0) options.ttl = Duration{record.remaining - age_};
    std::optional<PutOutcome> outcome;
    const Status unreadable = form_.put(form_.context, key_, value_, options, outcome);
    if (!unreadable.ok()) return file_.refused(unreadable);
    if (!outcome || *outcome == PutOutcome::declined) {
      ++loaded_.did_not_fit;
    } else {
      ++(*outcome == PutOutcome::present ? loaded_.present : loaded_.loaded);
    }
    return {};
  }

  CacheImpl& impl_;
  const EntryForm& form_;
  ImageReader& file_;
  const std::int64_t age_;
  const std::uint64_t overhead_;
  std::uint64_t bytes_left_ = 0;    // charges of what is still to come and not over
  std::uint64_t entries_left_ = 0;  // their number
  std::string key_;
  std::string value_;
  CacheLoaded loaded_;
};

// Empties the cache, unless the loading ends well.
struct Emptying {
  ~Emptying() {
    if (!done) core.clear();
  }
  CacheCore& core;
  bool done = false;
};

}  // namespace

Result<CacheLoaded> CacheCore::load(const std::string& path, const EntryForm& form,
                                    const CacheLoadOptions& options) {
  if (const std::uint64_t entries = entries_of(*impl_); entries != 0) {
    return Status{Code::failed_precondition,
                  fmt::format("cache {}: it has {} entries, and only an empty one can load {}",
                              impl_->options.name, entries, printable_text(path))};
  }
  try {
    auto file = ImageReader::open(path, form.type);
    if (!file) return file.status();
    Loading loading{*impl_, form, *file, aged(file->header(), options)};
    if (Status status = loading.check(); !status.ok()) return status;
    Emptying emptying{*this};
    auto loaded = loading.run();
    emptying.done = loaded.ok();
    return loaded;
  } catch (const std::bad_alloc&) {
    return Status{Code::memory_refused,
                  "cache " + impl_->options.name + ": no memory is left to load it"};
  }
}

}  // namespace forebay::detail
