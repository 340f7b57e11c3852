// Snapshots where memory is refused.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <new>
#include <system_error>

#include "base/text.hpp"
#include "telemetry/crash.hpp"

namespace forebay::detail {
namespace {

constexpr Duration kBetween = std::chrono::minutes{1};
constexpr std::chrono::seconds kPatience{2};

// Of the program's signals the new thread takes none but its own faults.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE}) ::sigdelset(&all, fault);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

RefusalWriter::RefusalWriter(std::string directory, Clock& clock)
    : directory_(std::move(directory)), clock_(clock), process_(::getpid()) {}

Result<std::unique_ptr<RefusalWriter>> RefusalWriter::start(const std::string& directory,
                                                            Clock* clock) try {
  // Absolute: the process may go elsewhere.
  std::error_code error;
  const std::string whole = std::filesystem::canonical(directory, error).string();
  if (error) {
    return Status{Code::io_error,
                  fmt::format("{}: {}", printable_text(directory), error.message())};
  }
  std::unique_ptr<RefusalWriter> writer{
      new RefusalWriter{whole, clock != nullptr ? *clock : Clock::steady()}};
  const SignalsBlocked blocked;
  writer->thread_ = std::thread{[me = writer.get()] { me->run(); }};
  return writer;
} catch (const std::system_error&) {
  return Status{Code::memory_refused, "the system has no thread left to write snapshots"};
} catch (const std::bad_alloc&) {
  return Status{Code::memory_refused, "the system has no memory left to write snapshots"};
}

RefusalWriter::~RefusalWriter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock{mutex_};
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void RefusalWriter::note() noexcept {
  // A child of fork() has no such thread, and the mutex may be anybody's.
  if (::getpid() != process_ || std::this_thread::get_id() == thread_.get_id()) return;
  std::unique_lock lock{mutex_};
  const Clock::TimePoint now = clock_.now();
  if (asked_ || (last_ && now - *last_ < kBetween)) return;
  last_ = now;
  asked_ = true;
  changed_.notify_all();
  changed_.wait_for(lock, kPatience, [this] { return !asked_; });
}

void RefusalWriter::run() noexcept {
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [this] { return asked_ || ends_; });
    if (!asked_) return;
    lock.unlock();
    // Nobody is there to be told of a failure: the refusal itself has an account.
    try {
      static_cast<void>(write_refusal_snapshot(directory_));
    } catch (...) {  // by a callback of the program's that collects statistics
    }
    lock.lock();
    asked_ = false;
    changed_.notify_all();
  }
}

}  // namespace forebay::detail
