// SharedCurve: the miss-ratio curve of a cache, for all of its shards. WatchedPolicy tells it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "cache/miss_ratio_curve.hpp"
#include "cache/policy.hpp"
#include "forebay/cache.hpp"

namespace forebay::detail {

// Thread safety: thread-safe. Its lock is an innermost one, and is taken for some two requests in a
// hundred.
class SharedCurve {
 public:
  // What a shard has not told of yet, and how many requests it counts until it draws one.
  struct Tally {
    std::uint64_t requests = 0;
    std::uint64_t bytes = 0;
    std::uint32_t until_draw = 1;
    SmallRandom random{1};
  };

  // What it may take for a cache of that size: a sixty-fourth, from 256 KiB to 1 MiB. Zero: there
  // is not enough for a sample that says something.
  static std::uint64_t bytes_for(std::uint64_t max_bytes) noexcept;

  // REQUIRES: bytes came from bytes_for(). Exceptions: std::bad_alloc.
  explicit SharedCurve(std::uint64_t bytes);

  // For one more shard.
  Tally tally() noexcept;
  void request(const EntryFacts& facts, Tally& tally) noexcept;
  // Forgets all, and takes no memory any more.
  void close() noexcept;
  // At sizes a quarter of an octave apart, from 2^-6 to 2^3 of `max_bytes`. Exceptions:
  // std::bad_alloc.
  std::vector<MissRatioPoint> points(std::uint64_t max_bytes) const;
  // Lock-free.
  std::size_t metadata_bytes() const noexcept { return metadata_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::size_t> metadata_{0};
  mutable std::mutex mutex_;
  std::optional<MissRatioCurve> curve_;  // guarded by mutex_
  std::uint64_t tallies_ = 0;            // guarded by mutex_
  // The curve's own; it stays when the curve goes, as shards look at it without a lock.
  std::shared_ptr<const HashSlots> slots_;
};

// Tells the curve of each request, and is otherwise the policy that it was given.
// See EvictionPolicy for the order of calls, threads and exceptions.
class WatchedPolicy final : public EvictionPolicy {
 public:
  WatchedPolicy(std::shared_ptr<SharedCurve> curve, std::unique_ptr<EvictionPolicy> policy) noexcept
      : curve_(std::move(curve)), policy_(std::move(policy)), tally_(curve_->tally()) {}

  PolicyKind kind() const noexcept override { return policy_->kind(); }
  void use_facts(const EntryFactsSource& source) noexcept override {
    facts_ = &source;
    policy_->use_facts(source);
  }
  void hit(EntryId id) noexcept override {
    curve_->request(facts_->facts_of(id), tally_);
    policy_->hit(id);
  }
  void missed(const EntryFacts& incoming) override {
    curve_->request(incoming, tally_);
    policy_->missed(incoming);
  }
  void fetch(std::span<const EntryId> entries) const noexcept override { policy_->fetch(entries); }
  std::uint32_t likely_victims(std::span<EntryId> entries) const noexcept override {
    return policy_->likely_victims(entries);
  }
  EntryId victim(const EntryFacts& incoming) noexcept override { return policy_->victim(incoming); }
  void evicted(EntryId id) noexcept override { policy_->evicted(id); }
  void inserted(EntryId id, const EntryFacts& facts) override { policy_->inserted(id, facts); }
  void erased(EntryId id) noexcept override { policy_->erased(id); }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    curve_->request(facts, tally_);
    policy_->updated(id, facts);
  }
  void resized(std::uint64_t capacity) override { policy_->resized(capacity); }
  PolicyCharge charge(std::uint64_t outside) const noexcept override {
    return policy_->charge(outside);
  }
  void charged(std::uint64_t bytes, std::uint64_t outside) noexcept override {
    policy_->charged(bytes, outside);
  }
  void order(std::vector<EntryId>& entries) const override { policy_->order(entries); }
  std::size_t metadata_bytes() const noexcept override { return policy_->metadata_bytes(); }

 private:
  std::shared_ptr<SharedCurve> curve_;
  std::unique_ptr<EvictionPolicy> policy_;
  const EntryFactsSource* facts_ = nullptr;
  SharedCurve::Tally tally_;
};

}  // namespace forebay::detail
