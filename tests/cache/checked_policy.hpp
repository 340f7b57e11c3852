// CheckedPolicy: an adaptor that keeps a record of its own of what is in, and holds a policy to the
// contract of EvictionPolicy at every call.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "cache/policy.hpp"

namespace forebay::testing {

using detail::EntryFacts;
using detail::EntryId;
using detail::EvictionPolicy;
using detail::kNoEntry;
using detail::PolicyKind;
using detail::PolicyOptions;

// Every kind that make_policy() makes.
inline std::vector<PolicyKind> made_kinds() {
  std::vector<PolicyKind> kinds;
  for (std::size_t i = 0; i < detail::kPolicyKinds; ++i) {
    const auto kind = static_cast<PolicyKind>(i);
    if (detail::make_policy(kind, {.capacity = 1}) != nullptr) kinds.push_back(kind);
  }
  return kinds;
}

// What a CheckedPolicy leaves to look at after its cache has taken it.
struct PolicyRecord {
  std::map<EntryId, EntryFacts> in;
  std::vector<std::uint64_t> victims;  // hashes, in order
  EntryId highest = 0;
  std::size_t peak = 0;
};

class CheckedPolicy final : public EvictionPolicy {
 public:
  // Whether the policy is told of an owner whom it can ask for facts.
  enum class Asks { yes, no };

  CheckedPolicy(std::unique_ptr<EvictionPolicy> policy, std::shared_ptr<PolicyRecord> record,
                Asks asks = Asks::yes)
      : policy_(std::move(policy)), record_(std::move(record)), asks_(asks) {}

  PolicyKind kind() const noexcept override { return policy_->kind(); }
  void use_facts(const detail::EntryFactsSource& source) noexcept override {
    if (asks_ == Asks::yes) policy_->use_facts(source);
  }
  void hit(EntryId id) noexcept override {
    EXPECT_TRUE(record_->in.contains(id));
    policy_->hit(id);
  }
  void missed(const EntryFacts& incoming) override { policy_->missed(incoming); }
  EntryId victim(const EntryFacts& incoming) noexcept override {
    EXPECT_FALSE(record_->in.empty());
    const EntryId id = policy_->victim(incoming);
    EXPECT_EQ(policy_->victim(incoming), id) << "asked twice";
    check_guesses();
    EXPECT_EQ(policy_->victim(incoming), id) << "a guess changes nothing";
    if (incoming.bytes == 0) {
      EXPECT_NE(id, kNoEntry) << "room is wanted for no newcomer";
    }
    if (id != kNoEntry) {
      EXPECT_TRUE(record_->in.contains(id)) << id;
    }
    return id;
  }
  void evicted(EntryId id) noexcept override {
    record_->victims.push_back(record_->in.at(id).hash);
    record_->in.erase(id);
    policy_->evicted(id);
  }
  void inserted(EntryId id, const EntryFacts& facts) override {
    EXPECT_FALSE(record_->in.contains(id));
    policy_->inserted(id, facts);
    record_->in[id] = facts;
    record_->highest = std::max(record_->highest, id);
    record_->peak = std::max(record_->peak, record_->in.size());
  }
  void erased(EntryId id) noexcept override {
    EXPECT_EQ(record_->in.erase(id), 1U);
    policy_->erased(id);
  }
  void updated(EntryId id, const EntryFacts& facts) noexcept override {
    EXPECT_EQ(record_->in.at(id).hash, facts.hash);
    record_->in.at(id) = facts;
    policy_->updated(id, facts);
  }
  void resized(std::uint64_t capacity) override { policy_->resized(capacity); }
  void order(std::vector<EntryId>& entries) const override { policy_->order(entries); }
  std::size_t metadata_bytes() const noexcept override { return policy_->metadata_bytes(); }

  // Whether order() names each entry once and nothing else.
  static bool orders_what_is_in(const EvictionPolicy& policy, const PolicyRecord& record) {
    std::vector<EntryId> entries;
    policy.order(entries);
    std::sort(entries.begin(), entries.end());
    return std::equal(entries.begin(), entries.end(), record.in.begin(), record.in.end(),
                      [](EntryId id, const auto& known) { return id == known.first; });
  }

 private:
  void check_guesses() const {
    std::array<EntryId, 4> guesses;
    const std::uint32_t count = policy_->likely_victims(guesses);
    ASSERT_LE(count, guesses.size());
    for (std::uint32_t i = 0; i != count; ++i) {
      EXPECT_TRUE(record_->in.contains(guesses[i])) << guesses[i];
      EXPECT_EQ(std::count(guesses.begin(), guesses.begin() + count, guesses[i]), 1) << guesses[i];
    }
  }

  std::unique_ptr<EvictionPolicy> policy_;
  std::shared_ptr<PolicyRecord> record_;
  Asks asks_;
};

}  // namespace forebay::testing
