// The public face: each operation is one lease operation, or a slow one of operations.cpp.

#include "forebay/budget.hpp"

#include <fmt/format.h>

#include <utility>

#include "budget/listener.hpp"
#include "budget/node.hpp"
#include "budget/reclaimers.hpp"

namespace forebay {

using detail::BudgetNode;
using detail::Lock;

namespace {

Status check_options(const std::string& name, const BudgetOptions& options) {
  const auto refused = [&](std::string why) {
    return Status{Code::invalid_argument, fmt::format("budget '{}': {}", name, why)};
  };
  if (name.empty()) return refused("a name must not be empty");
  if (name.find('/') != std::string::npos) return refused("a name must not hold '/'");
  if (!(options.soft > 0 && options.soft <= options.critical && options.critical <= 1)) {
    return refused(fmt::format("soft {} and critical {} must be 0 < soft <= critical <= 1",
                               options.soft, options.critical));
  }
  if (options.guarantee > options.limit) {
    return refused(fmt::format("guarantee {} is above its limit {}", to_string(options.guarantee),
                               to_string(options.limit)));
  }
  return {};
}

BudgetNode* create_root(std::string name, const BudgetOptions& options, Clock& clock) {
  check_options(name, options).throw_if_error();
  BudgetNode* root =
      BudgetNode::create(std::make_shared<detail::Tree>(clock), nullptr, std::move(name), options);
  detail::derive_lease_caps(root);
  root->tree->enter_list();
  return root;
}

// Counts the change if a reservation with a budget becomes, or ceases to be, empty.
void note_emptied(BudgetNode* node, Bytes before, Bytes after) noexcept {
  if (before.is_zero() == after.is_zero()) return;
  after.is_zero() ? detail::pin(node) : detail::unpin(node);
}

}  // namespace

Reservation::Reservation(Reservation&& other) noexcept
    : node_(std::exchange(other.node_, nullptr)), bytes_(std::exchange(other.bytes_, Bytes{})) {}

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    release();
    node_ = std::exchange(other.node_, nullptr);
    bytes_ = std::exchange(other.bytes_, Bytes{});
  }
  return *this;
}

void Reservation::release() noexcept {
  BudgetNode* node = std::exchange(node_, nullptr);
  if (node == nullptr) return;
  const Bytes bytes = std::exchange(bytes_, Bytes{});
  if (bytes.is_zero()) {
    detail::unpin(node);
  } else {
    detail::release_bytes(node, bytes);
  }
}

Status Reservation::resize(Bytes bytes) {
  if (node_ == nullptr) {
    return {Code::failed_precondition, "a reservation of no budget cannot be resized"};
  }
  if (bytes <= bytes_) {
    commit(bytes);
    return {};
  }
  const Bytes more = bytes - bytes_;
  detail::Lease* lease = node_->lease_of_this_thread();
  if (lease == nullptr || !lease->take(more.count())) {
    if (auto grown = detail::reserve_slow(node_, more, {}, false); !grown) return grown.status();
  }
  note_emptied(node_, bytes_, bytes);
  bytes_ = bytes;
  return {};
}

void Reservation::commit(Bytes actual) noexcept {
  FOREBAY_CHECK(actual <= bytes_, "commit of more than was reserved");
  const Bytes surplus = bytes_ - actual;
  if (surplus.is_zero()) return;
  note_emptied(node_, bytes_, actual);
  bytes_ = actual;
  detail::release_bytes(node_, surplus);
}

Result<Reservation> Reservation::split(Bytes bytes) {
  if (bytes > bytes_) {
    return Status{Code::invalid_argument, fmt::format("cannot split {} from a reservation of {}",
                                                      to_string(bytes), to_string(bytes_))};
  }
  if (node_ == nullptr) return Reservation{};
  const Bytes rest = bytes_ - bytes;
  if (bytes.is_zero() || rest.is_zero()) detail::pin(node_);
  bytes_ = rest;
  return Reservation{node_, bytes};
}

Status Reservation::merge(Reservation&& other) {
  if (this == &other) return {};
  if (other.node_ != node_) {
    return {Code::failed_precondition, "reservations of different budgets cannot be merged"};
  }
  if (node_ == nullptr) return {};
  if (bytes_.is_zero() || other.bytes_.is_zero()) detail::unpin(node_);
  bytes_ += std::exchange(other.bytes_, Bytes{});
  other.node_ = nullptr;
  return {};
}

Status Reservation::transfer(Budget& to) {
  if (node_ == nullptr) {
    return {Code::failed_precondition, "a reservation of no budget cannot be transferred"};
  }
  Status status = detail::transfer(node_, to.node_.get(), bytes_);
  if (status.ok()) node_ = to.node_.get();
  return status;
}

Budget::Budget(std::string name, BudgetOptions options, Clock& clock)
    : Budget(create_root(std::move(name), options, clock)) {}

Budget::Budget(BudgetNode* node) noexcept : node_(node) {}

Budget& Budget::operator=(Budget&& other) noexcept = default;

Budget::~Budget() = default;

void Budget::NodeRelease::operator()(BudgetNode* node) const noexcept { detail::retire(node); }

Result<Budget> Budget::child(std::string name, BudgetOptions options) {
  if (Status status = check_options(name, options); !status.ok()) return status;
  Result<BudgetNode*> node = detail::add_child(node_.get(), std::move(name), options);
  if (!node) return node.status();
  return Budget{*node};
}

Result<Reservation> Budget::reserve(Bytes bytes, const ReserveOptions& options) {
  BudgetNode* const node = node_.get();
  detail::Lease* lease = node->lease_of_this_thread();
  if (lease != nullptr && !options.minimum && lease->take(bytes.count())) [[likely]] {
    return Reservation{node, bytes};
  }
  const Result<Bytes> granted = detail::reserve_slow(node, bytes, options, false);
  if (!granted) return granted.status();
  return Reservation{node, *granted};
}

Result<Reservation> Budget::try_reserve(Bytes bytes) {
  BudgetNode* const node = node_.get();
  detail::Lease* lease = node->lease_of_this_thread();
  if (lease != nullptr && lease->take(bytes.count())) [[likely]] {
    return Reservation{node, bytes};
  }
  const Result<Bytes> granted = detail::reserve_slow(node, bytes, {}, true);
  if (!granted) return granted.status();
  return Reservation{node, bytes};
}

Status Budget::set_limit(Bytes limit) { return detail::set_limit(node_.get(), limit); }

Status Budget::set_guarantee(Bytes guarantee) {
  return detail::set_guarantee(node_.get(), guarantee);
}

ReclaimerRegistration Budget::add_reclaimer(Reclaimer& reclaimer, ReclaimerOptions options) {
  auto entry = std::make_shared<detail::ReclaimerEntry>(node_.get(), reclaimer, std::move(options));
  const Lock lock{node_->tree->mutex};
  node_->reclaimers.push_back(entry);
  return ReclaimerRegistration{std::move(entry)};
}

void Budget::set_pressure_listener(PressureListener listener) {
  std::shared_ptr<detail::ListenerEntry> entry;
  if (listener) entry = std::make_shared<detail::ListenerEntry>(node_.get(), std::move(listener));
  std::shared_ptr<detail::ListenerEntry> old;  // dies after the lock
  Lock lock{node_->tree->mutex};
  old = detail::replace_listener(node_.get(), lock, std::move(entry));
}

const std::string& Budget::name() const noexcept { return node_->name; }

std::string Budget::path() const { return node_->path; }

BudgetStats Budget::stats() const {
  const Lock lock{node_->tree->mutex};
  return detail::stats_of(node_.get());
}

std::vector<BudgetStats> Budget::all() { return detail::all_budgets(); }

std::vector<BudgetStats> Budget::snapshot() const {
  const Lock lock{node_->tree->mutex};
  return detail::snapshot_of(node_.get());
}

Bytes Budget::available() const {
  const Lock lock{node_->tree->mutex};
  return detail::available_at(node_.get());
}

void Budget::reset_peak() noexcept {
  const Lock lock{node_->tree->mutex};
  detail::close_leases(node_.get(), detail::kAllLeases);
  node_->peak = node_->charged;
}

void Budget::validate() const {
  const Lock lock{node_->tree->mutex};
  detail::validate_tree(node_.get());
}

}  // namespace forebay
