// EvictionPolicy: in what order the entries of a cache go.
//
// The same code orders a Cache's shard, the miniature simulations of `auto`, and the caches of
// `forebay replay cache`: what a replay says holds for the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#pragma GCC visibility push(default)  // the command replays with it
namespace forebay::detail {

// An entry's number in its shard: small, given again after the entry has gone.
using EntryId = std::uint32_t;
inline constexpr EntryId kNoEntry = ~EntryId{0};

enum class PolicyKind : std::uint8_t {
  lru,
  lfu,
  random,
  utility,
  hybrid,
  fifo,
  clock,
  sieve,
  s3fifo,
  arc,
  lirs,
  twoq,
  wtinylfu,
  gdsf,
  learned,
  automatic
};
inline constexpr std::size_t kPolicyKinds = static_cast<std::size_t>(PolicyKind::automatic) + 1;
// "lru" ... "auto".
std::string_view to_string(PolicyKind kind) noexcept;
std::optional<PolicyKind> policy_kind(std::string_view name) noexcept;

// What a cache is to keep low.
enum class Objective : std::uint8_t {
  objects,  // requests that miss
  bytes,    // bytes of requests that miss
  cost,     // what it costs to make again what was missed
};

// What a policy knows of an entry.
struct EntryFacts {
  std::uint64_t hash =
      0;  // of the key, all 64 bits mixed: equal hashes are the same key to a policy
  std::uint64_t bytes = 1;  // what it is charged, above zero
  float cost = 1;           // to make it again, microseconds
  float utility = 0;        // the user's score; higher stays longer
};

// Knows the facts of entries, so that a policy need not keep them.
class EntryFactsSource {
 public:
  // REQUIRES: the entry is in the policy.
  virtual EntryFacts facts_of(EntryId id) const noexcept = 0;

 protected:
  ~EntryFactsSource() = default;
};

struct PolicyOptions {
  std::uint64_t capacity = 0;  // in the unit of EntryFacts::bytes
  Objective objective = Objective::objects;
  std::uint64_t seed = 1;  // two policies with the same seed and requests do the same
};

// What a policy takes of memory beyond the part that is in each entry's bytes. Only `auto` in a
// Cache has any, as what it takes changes with what it chooses.
struct PolicyCharge {
  std::uint64_t total = 0;  // to be charged now
  std::uint64_t entry = 0;  // more with each entry that is put in
  // Above `total` while a step of its waits for memory: it begins when so much is charged.
  std::uint64_t goal = 0;
  std::uint64_t instalment = 0;  // of the difference, what one request may be burdened with
};

// One request to a cache is, in this order:
//   resident:  hit(id)
//   else:      missed(facts), victim(facts) until there is room, each followed by evicted(id) (or
//              the newcomer is not let in), inserted(id, facts)
// and beside that erased(id), updated(id, facts) and resized(capacity) at any time.
//
// A policy keeps what it needs of an entry by its number, in arrays that grow with the highest
// number; entries that are pinned are taken out with erased(id) by the cache when they come up as
// victims, and put in with inserted() again when they are not pinned any more.
//
// Thread safety: none: the shard's lock is held. Exceptions: std::bad_alloc from inserted(),
// missed(), resized() and order(), which then have done nothing; all else is noexcept. inserted()
// fails only for a number above all numbers before it: whoever has evicted something and gives its
// number to the newcomer cannot fail half-way.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  EvictionPolicy(const EvictionPolicy&) = delete;
  EvictionPolicy& operator=(const EvictionPolicy&) = delete;

  virtual PolicyKind kind() const noexcept = 0;
  // Given before the first entry by whoever owns the entries (and again if the owner moves);
  // outlives the policy. It tells of an entry from the end of inserted() to the end of evicted() or
  // erased(), and during updated() still what was true before.
  virtual void use_facts(const EntryFactsSource&) noexcept {}
  virtual void hit(EntryId id) noexcept = 0;
  // Hits of these come next: what they need may be fetched from memory, for all of them side by
  // side. Changes nothing.
  virtual void fetch(std::span<const EntryId> /*entries*/) const noexcept {}
  // Who is likely to go next, if room is wanted again and again for no newcomer: as many as there
  // is room for; how many. A guess, so that what is known of them can be fetched. Changes nothing.
  virtual std::uint32_t likely_victims(std::span<EntryId> /*entries*/) const noexcept { return 0; }
  // A key that is not resident was asked for; it may or may not be inserted next.
  virtual void missed(const EntryFacts& incoming) = 0;
  // Who is to go for the newcomer: an entry, which stays in until evicted(); kNoEntry if the
  // newcomer is worth less than all of them. The same again if nothing changed in between.
  // For incoming.bytes == 0 room is wanted for no newcomer (the cache shrinks, a value grew): never
  // kNoEntry. REQUIRES: an entry is in.
  virtual EntryId victim(const EntryFacts& incoming) noexcept = 0;
  // The entry went for want of room: it may be remembered.
  virtual void evicted(EntryId id) noexcept = 0;
  virtual void inserted(EntryId id, const EntryFacts& facts) = 0;
  // The entry went for another reason: it is forgotten.
  virtual void erased(EntryId id) noexcept = 0;
  // Its value was replaced: other bytes, cost, utility; the same hash. Counts as a hit.
  virtual void updated(EntryId id, const EntryFacts& facts) noexcept = 0;
  virtual void resized(std::uint64_t capacity) = 0;
  // With so many entries outside: out of the policy, as they are pinned, and to come back perhaps.
  virtual PolicyCharge charge(std::uint64_t /*outside*/) const noexcept { return {}; }
  // So much is charged; told before missed(), which begins what has waited for it.
  virtual void charged(std::uint64_t /*bytes*/, std::uint64_t /*outside*/) noexcept {}
  // All entries, the first to go first: for a policy that takes over, and for saving.
  virtual void order(std::vector<EntryId>& entries) const = 0;
  // Bytes of its own: arrays, ghosts, sketches.
  virtual std::size_t metadata_bytes() const noexcept = 0;

 protected:
  EvictionPolicy() = default;
};

// REQUIRES: capacity > 0. Null for `automatic`, of which the shards of a cache share a part: see
// auto_policy.hpp. Exceptions: std::bad_alloc.
std::unique_ptr<EvictionPolicy> make_policy(PolicyKind kind, const PolicyOptions& options);

}  // namespace forebay::detail
#pragma GCC visibility pop
