// Budget: a named node in a tree of limits and guarantees. The line holds here.
//
// A reservation is charged before the memory is taken and released after it is given
// back, so that the bytes under a node never exceed its limit, not for an instant, with
// any number of threads. A node charges its parent max(guarantee, used): a guarantee is
// paid for when it is made, use inside it touches no ancestor and cannot be refused by
// one; only the excess climbs.
//
//   forebay::Budget process{"process", {.limit = 36_GiB}};
//   auto teacher = process.child("teacher", {.guarantee = 7_GiB}).value();
//   auto weights = teacher.reserve(7_GiB);
//   if (!weights) return weights.status();        // the whole account, in one line
//   auto metered = teacher.meter(forebay::Device::host());
//
// When a request does not fit, the registered reclaimers under the node that is full are
// asked, lowest priority first, each for what is still missing; then the caller waits its
// turn if it gave a timeout; then it is refused with the account. Progress is what the
// counter shows, never what a reclaimer claims: a round that frees nothing ends it.
//
// Exact and fast: bytes released by a thread stay charged in that thread's lease, where
// its next reservation finds them with one atomic operation; a lease is revoked before
// anyone is refused, so that a refusal is never for want of a lease. (Leases: an
// escrow method, O'Neil, TODS 1986; revocation makes refusals exact.)
//
// Invariants (validate() checks them; tests/model proves the core exhaustively):
//   1. charged <= limit at every node at every instant, unless the limit was lowered
//      below use (`shrinking`), during which nothing is admitted;
//   2. charged = own reservations + leases + the children's charges;
//   3. charge to the parent = max(guarantee, charged);
//   4. 0 <= each lease <= its cap.
//
// Thread safety: Budget and MeteredResource are thread-safe; a Reservation belongs to one
// thread at a time and may be released on any. No lock is held while a reclaimer,
// listener or device is called.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/clock.hpp"
#include "forebay/device.hpp"
#include "forebay/status.hpp"

#pragma GCC visibility push(default)
namespace forebay {

namespace detail {
class BudgetNode;
class ReclaimerEntry;
}  // namespace detail

class Budget;

enum class Pressure { normal, high, critical };  // below soft, from soft, from critical
std::string_view to_string(Pressure pressure) noexcept;

struct BudgetOptions {
  Bytes limit = Bytes::unlimited();  // the line: a hard limit
  double soft = 0.85;                // fraction of the limit where pressure is high
  double critical = 0.95;            // and critical. 0 < soft <= critical <= 1
  Bytes guarantee{};                 // kept for this node; siblings cannot take it. <= limit
};

struct ReserveOptions {
  // If given, any amount in [minimum, bytes] may be granted; else all or nothing.
  std::optional<Bytes> minimum{};
  // How long to wait for others to give back after reclaiming. 0: not at all.
  Duration timeout{0};
};

struct BudgetStats {
  std::string path;  // "process/teacher"
  Bytes limit;
  Bytes guarantee;
  Bytes used;     // reserved by owners at this node and below
  Bytes charged;  // used + leases; what counts against the limit
  // Highest `charged` since the start or reset_peak(). Never less than the highest `used`;
  // with one thread and no guarantees below, exactly that.
  Bytes peak;
  Bytes available;             // could be reserved now without reclaiming, ancestors included
  std::uint64_t denials = 0;   // refused reservations whose limiting node was this one
  std::uint64_t warnings = 0;  // times pressure rose to high or above
  Pressure pressure = Pressure::normal;
  bool shrinking = false;  // limit set below use; admission is closed until it fits
};

// Granted bytes as an object; its end is the release.
class [[nodiscard]] Reservation {
 public:
  Reservation() noexcept = default;  // empty, of no budget
  Reservation(Reservation&& other) noexcept;
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { release(); }

  Bytes bytes() const noexcept { return bytes_; }
  bool empty() const noexcept { return bytes_.is_zero(); }

  // Grows (like reserve, reclaiming but not waiting) or shrinks (cannot fail). A refused
  // growth changes nothing. Error: failed_precondition if of no budget.
  Status resize(Bytes bytes);
  // Keeps `actual` bytes, returns the surplus. REQUIRES: actual <= bytes().
  void commit(Bytes actual) noexcept;
  // Takes `bytes` out into a reservation of its own; the sum stays.
  // Error: invalid_argument if bytes > bytes().
  Result<Reservation> split(Bytes bytes);
  // Takes in another one of the same budget. Error: failed_precondition, and other is
  // unchanged, if it is of another budget.
  Status merge(Reservation&& other);
  // Moves the bytes to another budget of the same tree, atomically: ancestors that both
  // share see no change. Error: memory_refused, and nothing changes, if it does not fit.
  Status transfer(Budget& to);
  // Gives all bytes back now.
  void release() noexcept;

 private:
  friend class Budget;
  Reservation(detail::BudgetNode* node, Bytes bytes) noexcept : node_(node), bytes_(bytes) {}

  detail::BudgetNode* node_ = nullptr;
  Bytes bytes_;
};

// When, within a node's subtree, a reclaimer is asked: in this order, then by priority.
enum class ReclaimStage {
  idle,     // idle pool blocks: nobody loses anything
  expired,  // entries past their time
  cached,   // contents that can be rebuilt
};

struct ReclaimerOptions {
  std::string name{};  // for the account
  ReclaimStage stage = ReclaimStage::cached;
  int priority = 0;  // lower gives back first
};

// Keeps a reclaimer registered; its end unregisters, waiting for a call that is under way
// on another thread.
class [[nodiscard]] ReclaimerRegistration {
 public:
  ReclaimerRegistration() noexcept = default;
  ReclaimerRegistration(ReclaimerRegistration&& other) noexcept;
  ReclaimerRegistration& operator=(ReclaimerRegistration&& other) noexcept;
  ~ReclaimerRegistration() { reset(); }
  void reset() noexcept;

 private:
  friend class Budget;
  explicit ReclaimerRegistration(std::shared_ptr<detail::ReclaimerEntry> entry) noexcept;
  std::shared_ptr<detail::ReclaimerEntry> entry_;
};

// Told when a node's pressure changes: once per crossing, with 5 % hysteresis on the way
// down; calls of one listener never overlap, and the last one has the last news. Called on
// the thread that crossed, with no lock held; it must be quick, and may neither reserve nor
// throw. Whoever replaces it or ends the budget waits for a call under way.
using PressureListener = std::function<void(const BudgetStats&)>;

class Budget {
 public:
  // A root. Throws Failure (invalid_argument) if the options contradict each other.
  explicit Budget(std::string name, BudgetOptions options = {}, Clock& clock = Clock::steady());
  Budget(Budget&&) noexcept = default;
  Budget& operator=(Budget&& other) noexcept;
  // All reservations and children must be gone first: debug builds abort with the owner's
  // name, release builds say so on standard error and keep the node until they are.
  ~Budget();

  // A child node. Errors: invalid_argument (options, a name that is taken or holds '/'),
  // memory_refused (the guarantee does not fit, after reclaiming).
  Result<Budget> child(std::string name, BudgetOptions options = {});

  // Reserves bytes on the whole path to the root, or none. Zero bytes always succeeds.
  // Errors: memory_refused with the account; failed_precondition from inside a reclaimer
  // or listener; invalid_argument if minimum > bytes.
  Result<Reservation> reserve(Bytes bytes, const ReserveOptions& options = {});
  // Never waits, never reclaims.
  Result<Reservation> try_reserve(Bytes bytes);

  // A new limit, at any time, also below use: the node is then `shrinking`.
  // Error: invalid_argument if below the guarantee.
  Status set_limit(Bytes limit);
  // A new guarantee. Errors: invalid_argument (above the limit), memory_refused.
  Status set_guarantee(Bytes guarantee);

  // `upstream` with this budget in front of it: allocate reserves first, deallocate
  // releases last. Charges upstream->good_size().
  std::shared_ptr<MemoryResource> meter(std::shared_ptr<MemoryResource> upstream);

  // Registers `reclaimer` for this node. It must outlive the registration.
  ReclaimerRegistration add_reclaimer(Reclaimer& reclaimer, ReclaimerOptions options);
  // At most one listener a node; an empty one removes it.
  void set_pressure_listener(PressureListener listener);

  const std::string& name() const noexcept;
  std::string path() const;
  BudgetStats stats() const;
  // All budgets of the process, of each tree parents first. A tree is one view but for the bytes
  // that threads hold as leases, which stay there.
  static std::vector<BudgetStats> all();
  // This node and everything below it, parents first, as one consistent view.
  std::vector<BudgetStats> snapshot() const;
  Bytes available() const;
  // Starts a new high-water mark at the present use.
  void reset_peak() noexcept;
  // Aborts unless the invariants above hold in the whole tree.
  void validate() const;

 private:
  friend class Reservation;
  explicit Budget(detail::BudgetNode* node) noexcept;
  struct NodeRelease {
    void operator()(detail::BudgetNode* node) const noexcept;
  };
  std::unique_ptr<detail::BudgetNode, NodeRelease> node_;
};

}  // namespace forebay
#pragma GCC visibility pop
