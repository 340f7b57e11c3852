// Status and Result<T>: the outcome of anything that may be refused or may fail.
//
// Expected failure is a value. A refusal of memory carries the whole account: which
// budget said no, what was asked, used and allowed, who holds most, and what to
// change. Only value() throws: a MemoryRefused (which is a std::bad_alloc) when memory
// was refused, a Failure (a std::runtime_error) otherwise; both are a forebay::Error.
//
// An ok Status is one null pointer: passing it costs nothing and allocates nothing.
//
// Thread safety: values; distinct objects may be used from distinct threads.
//
//   auto weights = teacher.reserve(7_GiB);
//   if (!weights) return weights.status();   // "gpu0/teacher: asked 7 GiB, …"
#pragma once

#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/check.hpp"

#pragma GCC visibility push(default)
namespace forebay {

enum class Code {
  ok,
  invalid_argument,     // a caller's or a user's value is not allowed
  not_found,            // a file, device or key is not there
  corrupt_data,         // a file is there but does not hold what it should
  memory_refused,       // it does not fit; refusal() has the account
  failed_precondition,  // not in this state: wrong budget, called from inside a reclaimer
  unsupported,          // this machine, build or format cannot
  io_error,             // the system said no; the message has its words
  interrupted,          // the user stopped it
};

// "memory_refused", …: the spelling used in JSON and logs.
std::string_view to_string(Code code) noexcept;

// Someone who holds bytes at the time of a refusal.
struct Holder {
  std::string name;   // the budget's path
  Bytes used;         // bytes held there, without its children
  Bytes reclaimable;  // of these, what its reclaimers say they could give back
};

// What a reclaimer did when it was asked to make room.
struct ReclaimAnswer {
  std::string name{};  // its own, or the path of its budget
  Bytes asked{};
  Bytes claimed{};     // what it says it gave back
  Bytes freed{};       // what the counters say
  Bytes left{};        // what it says it could still give back
  std::string kept{};  // what it holds and cannot give back, and why, in its own words
};

// The account behind a memory_refused.
struct Refusal {
  std::string budget;                       // path of the node whose limit was hit
  Bytes asked;                              // bytes asked for
  Bytes used;                               // bytes used under that node when it refused
  Bytes limit;                              // that node's limit
  Bytes reclaimed;                          // bytes that reclaimers freed while trying to make room
  std::vector<Holder> holders;              // the largest holders under that node, largest first
  std::vector<std::string> advice;          // what to change, most effective first
  std::vector<ReclaimAnswer> reclaimers{};  // those that were asked, in that order
  std::string tag{};                        // of the thread that asked: its TagScope,
  std::string owner{};                      // its OwnerScope,
  std::uint32_t stack = 0;                  // for Tracker::frames_of(); 0: not known
};

class [[nodiscard]] Status {
 public:
  Status() noexcept = default;  // ok
  Status(Code code, std::string message);
  explicit Status(Refusal refusal);  // memory_refused; the message is made from it

  bool ok() const noexcept { return rep_ == nullptr; }
  Code code() const noexcept;
  // One line, no newline, no trailing period; empty if ok.
  const std::string& message() const noexcept;
  // The account; null unless code() is memory_refused by a budget.
  const Refusal* refusal() const noexcept;

  // The same status with "context: " before its message. An ok status stays ok.
  Status with_context(std::string_view context) const;
  // Throws MemoryRefused or Failure unless ok.
  void throw_if_error() const {
    if (!ok()) throw_error();
  }

 private:
  struct Rep;
  [[noreturn]] void throw_error() const;

  std::shared_ptr<const Rep> rep_;
};

// What value() throws; catch this to see both kinds.
class Error {
 public:
  virtual ~Error() = default;
  const Status& status() const noexcept { return status_; }

 protected:
  explicit Error(Status status) : status_(std::move(status)) {}

 private:
  Status status_;
};

class MemoryRefused final : public std::bad_alloc, public Error {
 public:
  explicit MemoryRefused(Status status) : Error(std::move(status)) {}
  const char* what() const noexcept override { return status().message().c_str(); }
};

class Failure final : public std::runtime_error, public Error {
 public:
  explicit Failure(Status status)
      : std::runtime_error(status.message()), Error(std::move(status)) {}
};

// Either a T or the Status that says why not. C++20 has no std::expected.
template <typename T>
class [[nodiscard]] Result {
  static_assert(!std::is_reference_v<T> && !std::is_same_v<std::remove_cv_t<T>, Status>);

 public:
  using value_type = T;

  Result(T value) noexcept(std::is_nothrow_move_constructible_v<T>)  // NOLINT: implicit by design
      : value_(std::move(value)) {}
  Result(Status status) noexcept : status_(std::move(status)) {  // NOLINT: implicit by design
    FOREBAY_CHECK(!status_.ok(), "a Result without a value needs an error");
  }

  bool ok() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return ok(); }
  const Status& status() const noexcept { return status_; }  // ok() if there is a value

  // The value, or a throw of MemoryRefused / Failure.
  T& value() & {
    status_.throw_if_error();
    return *value_;
  }
  const T& value() const& {
    status_.throw_if_error();
    return *value_;
  }
  T&& value() && {
    status_.throw_if_error();
    return std::move(*value_);
  }
  template <typename U>
  T value_or(U&& other) && {
    return ok() ? std::move(*value_) : static_cast<T>(std::forward<U>(other));
  }

  // REQUIRES: ok().
  T& operator*() & noexcept { return get(); }
  const T& operator*() const& noexcept { return const_cast<Result*>(this)->get(); }
  T&& operator*() && noexcept { return std::move(get()); }
  T* operator->() noexcept { return &get(); }
  const T* operator->() const noexcept { return &const_cast<Result*>(this)->get(); }

 private:
  T& get() noexcept {
    FOREBAY_DCHECK(ok(), "Result read without checking it");
    return *value_;
  }

  std::optional<T> value_;
  Status status_;
};

}  // namespace forebay
#pragma GCC visibility pop
