// The handler of deadly signals. From the signal on: no allocation, no lock, no stdio; what it
// needs was made when it was installed. It first looks (each source on its own, with a way back if
// that faults), then writes what it saw to a file beside the file's place, and links it there.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <memory>
#include <new>

#include "base/text.hpp"
#include "telemetry/crash_image.hpp"
#include "telemetry/process.hpp"
#include "telemetry/snapshot_put.hpp"
#include "track/source.hpp"

namespace forebay::detail {
namespace {

// To a file; failures are kept, as an error number: a Status would allocate.
class CrashSink final : public ByteSink {
 public:
  void open(int file) noexcept {
    file_ = file;
    error_ = 0;
  }
  bool ok() const noexcept { return error_ == 0; }
  Status write(std::string_view bytes) override {
    while (!bytes.empty() && error_ == 0) {
      const ssize_t written = ::write(file_, bytes.data(), bytes.size());
      if (written < 0 && errno != EINTR) error_ = errno;
      if (written > 0) bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
  }

 private:
  int file_ = -1;
  int error_ = 0;
};

// A short text on the stack.
class Name {
 public:
  Name& operator<<(std::string_view text) noexcept {
    size_ += text.copy(text_.data() + size_, text_.size() - 1 - size_);
    return *this;
  }
  Name& operator<<(std::int64_t number) noexcept {
    std::array<char, 20> digits;
    const auto done = std::to_chars(digits.data(), digits.data() + digits.size(), number);
    return *this << std::string_view{digits.data(),
                                     static_cast<std::size_t>(done.ptr - digits.data())};
  }
  const char* c_str() const noexcept { return text_.data(); }
  std::string_view view() const noexcept { return {text_.data(), size_}; }

 private:
  std::array<char, 64> text_{};
  std::size_t size_ = 0;
};

constexpr std::array kSignals{SIGSEGV, SIGBUS, SIGABRT};

struct Handler {
  explicit Handler(const CrashSources& from) : sources(from), writer(sink) {}
  ~Handler() {
    if (directory >= 0) ::close(directory);
  }
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

  void be_ready_again() noexcept {
    image.clear();
    std::destroy_at(&writer);
    std::construct_at(&writer, sink);
  }

  CrashSources sources;
  LoadedModules modules = LoadedModules::now();
  std::string program = program_path();
  CrashImage image{CrashRoom{}};
  CrashSink sink;
  JsonWriter writer;
  int directory = -1;
  // What this process has written: the next one takes its place.
  Name own_file;
  pid_t own_file_of = 0;  // not of a parent
  std::array<struct sigaction, kSignals.size()> before{};
  std::atomic<pid_t> thread{0};  // that writes; kDone: the process dies of what was written
  sigjmp_buf way_back{};
  volatile std::sig_atomic_t may_go_back = 0;
};

constexpr pid_t kDone = -1;

// Set once and for good: a handler may run until the process is no more.
std::atomic<Handler*> g_handler{nullptr};

pid_t this_thread() noexcept { return static_cast<pid_t>(::syscall(SYS_gettid)); }

// Runs a step that may fault: what it did until then stays. Whether it did not. Never inlined: on
// the way back, variables of the function that set it are not to be relied on.
template <typename Step>
[[gnu::noinline]] bool attempt(Handler& handler, const Step& step) {
  if (sigsetjmp(handler.way_back, 0) != 0) return false;
  handler.may_go_back = 1;
  step();
  handler.may_go_back = 0;
  return true;
}

void look(Handler& handler, std::string_view reason, const UtcText& moment) {
  CrashImage& image = handler.image;
  const CrashSources& sources = handler.sources;
  CrashImage::Lists& heading = image.snapshot;
  heading.program = handler.program;
  heading.pid = ::getpid();
  heading.taken_at = moment.view();
  heading.clock_seconds =
      std::chrono::duration<double>(Clock::steady().now().time_since_epoch()).count();
  heading.reason = reason;
  heading.resident_bytes = resident_bytes();
  heading.modules = handler.modules.modules;
  attempt(handler, [&] {
    if (sources.options == nullptr) return;
    const TrackerOptions options = sources.options();
    heading.sample_interval_bytes = options.sample_interval.count();
    heading.grade = to_string(options.grade);
  });
  attempt(handler, [&] { image.add_tags(sources); });
  attempt(handler, [&] { image.add_counters(sources); });
  attempt(handler, [&] { image.add_sources(sources); });
  attempt(handler, [&] { image.add_blocks(sources, heading.clock_seconds); });
  attempt(handler, [&] { image.add_stacks(sources, handler.modules); });
  attempt(handler, [&] { image.add_events(sources); });
  image.complete();
}

// "forebay-PID.json", or the first of "forebay-PID-2.json" … that is not there: in containers the
// same number comes again and again. A file that this process wrote, and did not die then, is
// replaced.
void put_in_place(Handler& handler, const Name& temporary) {
  constexpr int kMostFiles = 100;
  const pid_t self = ::getpid();
  if (handler.own_file_of == self) {
    static_cast<void>(::renameat(handler.directory, temporary.c_str(), handler.directory,
                                 handler.own_file.c_str()));
    return;
  }
  for (int i = 1; i <= kMostFiles; ++i) {
    Name name;
    name << "forebay-" << self;
    if (i > 1) name << "-" << i;
    name << ".json";
    const auto is_ours = [&] {
      handler.own_file = name;
      handler.own_file_of = self;
    };
    if (::linkat(handler.directory, temporary.c_str(), handler.directory, name.c_str(), 0) == 0) {
      return is_ours();
    }
    if (errno == EEXIST) continue;
    // No hard links here.
    if (::faccessat(handler.directory, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) continue;
    const int error =
        ::renameat(handler.directory, temporary.c_str(), handler.directory, name.c_str());
    if (error == 0) is_ours();
    return;
  }
}

// A new file; what has its name, and cannot be taken away, is passed by.
int open_temporary(const Handler& handler, Name& temporary) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
  constexpr int kTries = 16;
  for (int i = 1; i <= kTries; ++i) {
    temporary = {};
    temporary << ".forebay-" << ::getpid() << "-crash";
    if (i > 1) temporary << "-" << i;
    temporary << ".tmp";
    ::unlinkat(handler.directory, temporary.c_str(), 0);  // of a process of that number before
    const int file = ::openat(handler.directory, temporary.c_str(), kFlags, 0600);
    if (file >= 0 || errno != EEXIST) return file;
  }
  return -1;
}

void write_file(Handler& handler) {
  Name temporary;
  const int file = open_temporary(handler, temporary);
  if (file < 0) return;
  handler.sink.open(file);
  const bool written = attempt(handler, [&] {
    put_document(handler.writer, handler.image);
    static_cast<void>(handler.writer.finish());
  });
  if (written && handler.sink.ok() && ::fsync(file) == 0) put_in_place(handler, temporary);
  ::close(file);
  ::unlinkat(handler.directory, temporary.c_str(), 0);
}

const struct sigaction& before_of(const Handler& handler, int number) noexcept {
  std::size_t which = 0;
  while (kSignals[which] != number) ++which;
  return handler.before[which];
}

// Whether the process may go on: somebody else handles the signal, or it was sent and is ignored.
bool may_be_survived(const Handler& handler, int number, const siginfo_t* info) noexcept {
  const struct sigaction& before = before_of(handler, number);
  if ((before.sa_flags & SA_SIGINFO) != 0) return true;
  if (before.sa_handler == SIG_IGN) return info->si_code <= 0;
  return before.sa_handler != SIG_DFL;
}

void do_as_the_system_does(int number) noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  ::sigaction(number, &standard, nullptr);
}

// To the handler that was there before, or to what the system does of itself.
void pass_on(const Handler& handler, int number, siginfo_t* info, void* context) {
  const struct sigaction& before = before_of(handler, number);
  if ((before.sa_flags & SA_SIGINFO) != 0) return before.sa_sigaction(number, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
    return before.sa_handler(number);
  if (before.sa_handler == SIG_IGN && info->si_code <= 0) return;  // sent, not a fault
  do_as_the_system_does(number);
  // A fault comes again where it happened; what was sent does not.
  if (info->si_code <= 0) ::raise(number);
}

template <typename Signals>
void unblock(const Signals& signals) noexcept {
  sigset_t these;
  ::sigemptyset(&these);
  for (const int number : signals) ::sigaddset(&these, number);
  ::pthread_sigmask(SIG_UNBLOCK, &these, nullptr);
}

// A fault of the handler itself, where nothing is safe: the process dies of that.
[[noreturn]] void die_of(int number) noexcept {
  do_as_the_system_does(number);
  unblock(std::array{number});
  ::raise(number);
  ::_exit(128 + number);
}

void on_signal(int number, siginfo_t* info, void* context) {
  const int error = errno;
  Handler& handler = *g_handler.load();
  const pid_t self = this_thread();
  pid_t writing = 0;
  // Whoever stands between the kernel and us, as ThreadSanitizer does, may have blocked them all:
  // the system kills a process for a fault that is blocked, and the way back keeps what is blocked.
  unblock(kSignals);
  if (handler.thread.compare_exchange_strong(writing, self)) {
    Name reason;
    reason << "signal " << number;
    const UtcText moment = UtcText::now();
    look(handler, reason.view(), moment);
    write_file(handler);
    handler.be_ready_again();
    // Before passing on: who recovers may jump from there.
    handler.thread.store(may_be_survived(handler, number, info) ? 0 : kDone);
  } else if (writing == self) {
    if (handler.may_go_back == 0) die_of(number);
    handler.may_go_back = 0;
    siglongjmp(handler.way_back, 1);
  } else {
    // Another thread writes, and mostly ends the process when it has done so.
    while (writing != kDone && handler.thread.load() == writing) ::usleep(1000);
  }
  pass_on(handler, number, info, context);
  errno = error;
}

Status give_alternate_stack() {
  constexpr std::size_t kSize = 256 << 10;
  stack_t now{};
  if (::sigaltstack(nullptr, &now) == 0 && (now.ss_flags & SS_DISABLE) == 0) return {};
  stack_t own{};
  own.ss_sp = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  own.ss_size = kSize;
  if (own.ss_sp != MAP_FAILED && ::sigaltstack(&own, nullptr) == 0) return {};
  return {Code::io_error, "no alternate stack for the crash handler"};
}

// What is wrong with the folder; empty: nothing. Where anybody may write, somebody else may have
// put what the file's name leads to.
std::string fault_of(const std::string& path, int directory) {
  struct stat facts {};
  const int error = errno;
  if (directory < 0 && ::lstat(path.c_str(), &facts) == 0 && S_ISLNK(facts.st_mode)) {
    return "is a symbolic link; allowed: a folder";
  }
  if (directory < 0) return fmt::format("cannot be written to: {}", std::strerror(error));
  if (::fstat(directory, &facts) != 0 ||
      ::faccessat(directory, ".", W_OK | X_OK, AT_EACCESS) != 0) {
    return fmt::format("cannot be written to: {}", std::strerror(errno));
  }
  if ((facts.st_mode & S_IWOTH) == 0 || facts.st_uid == ::geteuid()) return {};
  return "anybody may write to it, and it is not ours; allowed: a folder of this user's";
}

Result<int> open_directory(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();  // else a link is followed
  const int directory = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  const std::string fault = fault_of(path, directory);
  if (fault.empty()) return directory;
  if (directory >= 0) ::close(directory);
  return Status{Code::io_error, fmt::format("{}: {}", printable_text(path), fault)};
}

void install(Handler& handler, const CrashOptions& options) {
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  // A fault within the handler is to come to it, and nothing else.
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  ::sigfillset(&action.sa_mask);
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE}) {
    ::sigdelset(&action.sa_mask, number);
  }
  for (std::size_t i = 0; i < kSignals.size(); ++i) {
    const bool wanted = kSignals[i] == SIGABRT ? options.on_abort : options.on_fault;
    if (!wanted) continue;
    ::sigaction(kSignals[i], nullptr, &handler.before[i]);  // known before it is needed
    ::sigaction(kSignals[i], &action, nullptr);
  }
}

}  // namespace

Status install_crash_handler(const CrashOptions& options, const CrashSources& sources) try {
  if (g_handler.load() != nullptr) {
    return {Code::invalid_argument, "snapshots are written on a crash already; allowed: once"};
  }
  static_cast<void>(Clock::steady());  // made here: the handler may not be the first to ask
  auto handler = std::make_unique<Handler>(sources);
  const Result<int> directory = open_directory(options.directory);
  if (!directory.ok()) return directory.status();
  handler->directory = *directory;
  if (Status status = give_alternate_stack(); !status.ok()) return status;
  Handler* none = nullptr;
  if (!g_handler.compare_exchange_strong(none, handler.get())) {
    return {Code::invalid_argument, "snapshots are written on a crash already; allowed: once"};
  }
  install(*handler.release(), options);
  return {};
} catch (const std::bad_alloc&) {
  return {Code::memory_refused, "the system has no memory left for a crash handler"};
}

}  // namespace forebay::detail

namespace forebay {

namespace {

detail::RefusalWriter* g_refusal_writer = nullptr;  // written before g_on_refusal, and for good

void note_refusal() noexcept { g_refusal_writer->note(); }

}  // namespace

Status write_snapshot_on_crash(const CrashOptions& options) {
  std::unique_ptr<detail::RefusalWriter> writer;
  if (options.on_refusal) {
    auto started = detail::RefusalWriter::start(options.directory);
    if (!started.ok()) return started.status();
    writer = std::move(*started);
  }
  Status status = detail::install_crash_handler(options, detail::crash_sources());
  if (!status.ok() || writer == nullptr) return status;
  g_refusal_writer = writer.release();
  detail::g_on_refusal.store(note_refusal, std::memory_order_release);
  return {};
}

}  // namespace forebay
