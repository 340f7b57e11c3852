// Cycles of shared blocks.
//
// A SharedBuffer is one pointer, to the count that all owners of a block share. So the content of
// blocks is read word by word for pointers to counts (Boehm and Weiser, "Garbage collection in an
// uncooperative environment", 1988). A block that has other owners than were found in blocks is
// held from outside, and so is all that it leads to. What is left holds itself; its strongly
// connected components (Tarjan, SIAM J. Comput. 1972) are the cycles. A word that merely looks like
// a pointer makes a block look held, so that it hides a cycle and invents none.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "forebay/tracker.hpp"
#include "pool/shared_list.hpp"

namespace forebay {
namespace detail {
namespace {

struct SharedList {
  std::mutex mutex;
  SharedLink* first = nullptr;
};

constinit SharedList g_shared;

using Index = std::uint32_t;
constexpr Index kNone = ~Index{0};

struct Node {
  const void* block = nullptr;
  std::uint64_t bytes = 0;
  std::uint32_t owners = 0;
  std::uint32_t found = 0;  // of these, in blocks
  bool is_held = false;     // from outside
  std::vector<Index> holds{};
};

void find_references(const SharedLink& link, Node& from, std::vector<Node>& nodes,
                     const std::unordered_map<const void*, Index>& numbers) {
  // (Owners are aligned, as far as their block is; what is not is no place for them.)
  const std::byte* const end = link.content.data() + link.content.size();
  const auto start = reinterpret_cast<std::uintptr_t>(link.content.data());
  const std::byte* at = link.content.data() + (-start & (alignof(void*) - 1));
  for (; end - at >= static_cast<std::ptrdiff_t>(sizeof(void*)); at += sizeof(void*)) {
    const void* word = nullptr;
    std::memcpy(&word, at, sizeof word);
    if (word == nullptr) continue;
    const auto known = numbers.find(word);
    if (known == numbers.end()) continue;
    from.holds.push_back(known->second);
    ++nodes[known->second].found;
  }
}

std::vector<Node> read_nodes() {
  std::vector<Node> nodes;
  const std::lock_guard lock{g_shared.mutex};
  std::unordered_map<const void*, Index> numbers;
  for (const SharedLink* link = g_shared.first; link != nullptr; link = link->next) {
    numbers.emplace(link->count, static_cast<Index>(nodes.size()));
    nodes.push_back({link->block, link->bytes, link->owners->load(std::memory_order_acquire)});
  }
  Index number = 0;
  for (const SharedLink* link = g_shared.first; link != nullptr; link = link->next) {
    find_references(*link, nodes[number], nodes, numbers);
    ++number;
  }
  return nodes;
}

void hold_what_is_held(std::vector<Node>& nodes) {
  std::vector<Index> waiting;
  for (Index i = 0; i != nodes.size(); ++i) {
    if (nodes[i].owners != nodes[i].found) waiting.push_back(i);
  }
  while (!waiting.empty()) {
    Node& node = nodes[waiting.back()];
    waiting.pop_back();
    if (std::exchange(node.is_held, true)) continue;
    waiting.insert(waiting.end(), node.holds.begin(), node.holds.end());
  }
}

// Tarjan's algorithm, with a stack of its own: a chain may be long.
class Components {
 public:
  explicit Components(const std::vector<Node>& nodes)
      : nodes_(nodes), order_(nodes.size(), kNone), low_(nodes.size()), open_(nodes.size()) {}

  std::vector<std::vector<Index>> find() {
    for (Index i = 0; i != nodes_.size(); ++i) {
      if (!nodes_[i].is_held && order_[i] == kNone) visit(i);
    }
    return std::move(cycles_);
  }

 private:
  struct Step {
    Index node;
    std::size_t next;  // of what it holds
  };

  void enter(Index node) {
    order_[node] = low_[node] = entered_++;
    path_.push_back(node);
    open_[node] = true;
    steps_.push_back({node, 0});
  }
  void visit(Index root) {
    enter(root);
    while (!steps_.empty()) {
      Step& step = steps_.back();
      const Index node = step.node;
      if (step.next == nodes_[node].holds.size()) {
        leave(node);
        continue;
      }
      const Index held = nodes_[node].holds[step.next++];
      if (nodes_[held].is_held) continue;
      if (order_[held] == kNone) {
        enter(held);
      } else if (open_[held]) {
        low_[node] = std::min(low_[node], order_[held]);
      }
    }
  }
  void leave(Index node) {
    steps_.pop_back();
    if (!steps_.empty()) {
      Index& low = low_[steps_.back().node];
      low = std::min(low, low_[node]);
    }
    if (low_[node] != order_[node]) return;
    const auto first = std::find(path_.rbegin(), path_.rend(), node).base() - 1;
    std::vector<Index> component{first, path_.end()};
    path_.erase(first, path_.end());
    for (const Index member : component) open_[member] = false;
    const auto& holds = nodes_[node].holds;
    const bool holds_itself = std::find(holds.begin(), holds.end(), node) != holds.end();
    if (component.size() > 1 || holds_itself) cycles_.push_back(std::move(component));
  }

  const std::vector<Node>& nodes_;
  std::vector<Index> order_;
  std::vector<Index> low_;
  std::vector<bool> open_;
  std::vector<Index> path_;
  std::vector<Step> steps_;
  std::vector<std::vector<Index>> cycles_;
  Index entered_ = 0;
};

}  // namespace

void enlist(SharedLink& link) noexcept {
  const std::lock_guard lock{g_shared.mutex};
  link.next = g_shared.first;
  if (link.next != nullptr) link.next->previous = &link;
  g_shared.first = &link;
}

void delist(SharedLink& link) noexcept {
  const std::lock_guard lock{g_shared.mutex};
  (link.previous == nullptr ? g_shared.first : link.previous->next) = link.next;
  if (link.next != nullptr) link.next->previous = link.previous;
}

void lock_shared_list() noexcept { g_shared.mutex.lock(); }
void unlock_shared_list() noexcept { g_shared.mutex.unlock(); }

}  // namespace detail

std::vector<SharedCycle> Tracker::shared_cycles() {
  std::vector<detail::Node> nodes = detail::read_nodes();
  detail::hold_what_is_held(nodes);
  std::vector<SharedCycle> cycles;
  for (const auto& members : detail::Components{nodes}.find()) {
    SharedCycle& cycle = cycles.emplace_back();
    for (const detail::Index member : members) {
      cycle.blocks.push_back(nodes[member].block);
      cycle.bytes += Bytes{nodes[member].bytes};
    }
  }
  std::stable_sort(cycles.begin(), cycles.end(),
                   [](const SharedCycle& a, const SharedCycle& b) { return a.bytes > b.bytes; });
  return cycles;
}

}  // namespace forebay
