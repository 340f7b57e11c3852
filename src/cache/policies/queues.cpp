// lru and fifo: one list; they differ in what a hit does.
#include "cache/entry_list.hpp"
#include "cache/policies/makers.hpp"

namespace forebay::detail {
namespace {

class QueuePolicy : public EvictionPolicy {
 public:
  void missed(const EntryFacts& /*incoming*/) override {}
  EntryId victim(const EntryFacts& /*incoming*/) noexcept override { return list_.oldest(); }
  void evicted(EntryId id) noexcept override { list_.remove(nodes_, id); }
  std::size_t next_victims(std::span<EntryId> entries) const noexcept override {
    std::size_t count = 0;
    EntryId id = list_.oldest();
    for (; count != entries.size() && id != kNoEntry; id = nodes_[id].newer()) {
      entries[count++] = id;
    }
    return count;
  }
  void inserted(EntryId id, const EntryFacts& /*facts*/) override {
    nodes_.make_room(id);
    list_.add_newest(nodes_, id);
  }
  void erased(EntryId id) noexcept override { list_.remove(nodes_, id); }
  void updated(EntryId id, const EntryFacts& /*facts*/) noexcept override { hit(id); }
  void resized(std::uint64_t /*capacity*/) override {}
  void order(std::vector<EntryId>& entries) const override { list_.append_to(nodes_, entries); }
  std::size_t metadata_bytes() const noexcept override { return nodes_.metadata_bytes(); }

 protected:
  EntryTable<EntryLinks> nodes_;
  EntryList<EntryLinks> list_;
};

class LruPolicy final : public QueuePolicy {
 public:
  PolicyKind kind() const noexcept override { return PolicyKind::lru; }
  void hit(EntryId id) noexcept override { list_.renew(nodes_, id); }
  void fetch(std::span<const EntryId> entries) const noexcept override {
    EntryList<EntryLinks>::fetch(nodes_, entries);
  }
};

class FifoPolicy final : public QueuePolicy {
 public:
  PolicyKind kind() const noexcept override { return PolicyKind::fifo; }
  void hit(EntryId /*id*/) noexcept override {}
};

}  // namespace

std::unique_ptr<EvictionPolicy> make_lru(const PolicyOptions& /*options*/) {
  return std::make_unique<LruPolicy>();
}
std::unique_ptr<EvictionPolicy> make_fifo(const PolicyOptions& /*options*/) {
  return std::make_unique<FifoPolicy>();
}

}  // namespace forebay::detail
