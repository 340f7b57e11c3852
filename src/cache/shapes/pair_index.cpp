// The pairs of each id.
//
// A side is in the chain of its id's bucket, beside those of other ids. Who is in a chain is
// alive: the end of an entry unlinks both its sides, each under its lock, before its memory goes.

#include <algorithm>
#include <bit>
#include <mutex>

#include "cache/hash.hpp"
#include "cache/reserved_array.hpp"
#include "forebay/cache_shapes.hpp"

namespace forebay::detail {
namespace {

constexpr std::uint64_t kSideBit = 1;
constexpr std::uint64_t kPairsPerBucket = 4;

struct Bucket {
  PairSide* first;
};

[[noreturn]] void refuse(const CacheOptions& options, const std::string& why) {
  throw Failure{Status{Code::invalid_argument, "cache " + options.name + ": " + why}};
}

// As many buckets as suit the pairs that fit.
std::uint64_t buckets_for(const CacheOptions& options, std::size_t size) {
  const std::uint64_t entry = size + cache_entry_overhead(options.policy).count();
  const std::uint64_t pairs = std::min(options.max_bytes.count() / entry, options.max_entries);
  return std::bit_ceil(std::max<std::uint64_t>(pairs / kPairsPerBucket, 64));
}

}  // namespace

std::uint64_t mix_id(std::uint64_t hash) noexcept { return mix_key(hash); }

struct PairIndex::Impl {
  explicit Impl(std::uint64_t count) : buckets(count) {}

  std::uint64_t bucket_of(std::uint64_t hash) const noexcept {
    return mix_key(hash) & (buckets.size() - 1);
  }
  std::mutex& mutex_of(std::uint64_t hash) noexcept {
    return mutexes[bucket_of(hash) % mutexes.size()];
  }
  // REQUIRES: the lock of its hash.
  void insert(PairSide& side) noexcept {
    if (side.before != nullptr) return;
    PairSide*& head = buckets[bucket_of(side.hash & ~kSideBit)].first;
    side.next = head;
    side.before = &head;
    if (head != nullptr) head->before = &side.next;
    head = &side;
  }
  static void remove(PairSide& side) noexcept {
    if (side.before == nullptr) return;
    *side.before = side.next;
    if (side.next != nullptr) side.next->before = side.before;
    side.next = nullptr;
    side.before = nullptr;
  }

  ReservedArray<Bucket> buckets;
  std::array<std::mutex, 64> mutexes;
  Reservation charge;
};

PairIndex::PairIndex(CacheOptions& options, std::size_t entry_size)
    : impl_(std::make_unique<Impl>(buckets_for(options, entry_size))) {
  const Bytes taken = bytes();
  if (taken >= options.max_bytes) {
    refuse(options, "max_bytes is " + to_string(options.max_bytes) +
                        ", and its index of pairs alone takes " + to_string(taken));
  }
  if (options.budget != nullptr) {
    auto charge = options.budget->reserve(taken);
    charge.status().throw_if_error();
    impl_->charge = std::move(*charge);
  }
  options.max_bytes -= taken;
}

PairIndex::~PairIndex() = default;

void PairIndex::link(PairLinks& links, const void* key, std::uint64_t a, std::uint64_t b) noexcept {
  const std::array<std::uint64_t, 2> hashes{a & ~kSideBit, b & ~kSideBit};
  for (std::size_t i = 0; i != 2; ++i) {
    const std::lock_guard lock{impl_->mutex_of(hashes[i])};
    if (links.key == nullptr) {
      links.key = key;
      links.sides[0].hash = hashes[0];
      links.sides[1].hash = hashes[1] | kSideBit;
    }
    impl_->insert(links.sides[i]);
  }
}

void PairIndex::unlink(PairLinks& links) noexcept {
  for (PairSide& side : links.sides) {
    const std::lock_guard lock{impl_->mutex_of(side.hash & ~kSideBit)};
    Impl::remove(side);
  }
}

void PairIndex::take(std::uint64_t hash, std::size_t most,
                     const std::function<bool(const void*)>& wanted) {
  const std::uint64_t whose = hash & ~kSideBit;
  const std::lock_guard lock{impl_->mutex_of(whose)};
  PairSide* next = nullptr;
  for (PairSide* side = impl_->buckets[impl_->bucket_of(whose)].first; side != nullptr && most != 0;
       side = next) {
    next = side->next;
    if ((side->hash & ~kSideBit) != whose) continue;
    PairSide* const first = side - (side->hash & kSideBit);
    const auto* const links = reinterpret_cast<const PairLinks*>(first);
    if (!wanted(links->key)) continue;
    Impl::remove(*side);
    --most;
  }
}

Bytes PairIndex::bytes() const noexcept {
  return Bytes{sizeof(Impl) + impl_->buckets.size() * sizeof(Bucket)};
}

void PairIndex::validate() const {
  for (std::uint64_t i = 0; i != impl_->buckets.size(); ++i) {
    const std::lock_guard lock{impl_->mutexes[i % impl_->mutexes.size()]};
    for (PairSide* const* at = &impl_->buckets[i].first; *at != nullptr; at = &(*at)->next) {
      FOREBAY_CHECK((*at)->before == at, "a list of pairs is linked both ways");
      FOREBAY_CHECK(impl_->bucket_of((*at)->hash & ~kSideBit) == i, "a pair is in its id's list");
    }
  }
}

}  // namespace forebay::detail
