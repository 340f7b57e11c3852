#include "telemetry/publisher.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): signal masks are POSIX
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>  // NOLINT(modernize-deprecated-headers): clock_gettime is POSIX

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "base/text.hpp"
#include "forebay/governor.hpp"
#include "telemetry/publish_directory.hpp"
#include "telemetry/request_protocol.hpp"
#include "telemetry/request_server.hpp"
#include "telemetry/segment.hpp"
#include "track/timeline.hpp"

namespace forebay::detail {
namespace {

constexpr Duration kLeastInterval = std::chrono::milliseconds{1};

Status system_error(const std::string& path, std::string_view what) {
  return {Code::io_error,
          fmt::format("{}: cannot {}: {}", printable_text(path), what, std::strerror(errno))};
}

Duration read_clock(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::chrono::seconds{now.tv_sec} + Duration{now.tv_nsec};
}

// What a publisher has open.
struct PublishFiles {
  Descriptor directory;
  Descriptor stats;
  Descriptor socket;
  Descriptor wake;  // an eventfd: the publisher is to end

  void close() noexcept {
    for (Descriptor* file : {&directory, &stats, &socket, &wake}) file->close();
  }
};

// The files of this process, removed at its end, in that of its makers.
class OwnFiles {
 public:
  OwnFiles() = default;
  OwnFiles(const OwnFiles&) = delete;
  OwnFiles& operator=(const OwnFiles&) = delete;
  ~OwnFiles() {
    if (made_ && ::getpid() == pid_) remove_files_of(files.directory, pid_);
  }
  Status make(const std::string& path);

  PublishFiles files;

 private:
  Status make_stats(const std::string& path);
  Status make_socket(const std::string& path);

  pid_t pid_ = ::getpid();
  bool made_ = false;
};

Status OwnFiles::make(const std::string& path) {
  auto directory = make_publish_directory(path);
  if (!directory.ok()) return directory.status();
  files.directory = std::move(*directory);
  remove_stale_files(files.directory);
  if (Status status = make_stats(path); !status.ok()) return status;
  if (Status status = make_socket(path); !status.ok()) return status;
  files.wake = Descriptor{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  return files.wake.is_open() ? Status{} : system_error(path, "make an eventfd");
}

// All of its blocks are taken now, so that a full disk is an error here and not later.
Status OwnFiles::make_stats(const std::string& path) {
  const std::string name = stats_name(pid_);
  files.stats =
      Descriptor{::openat(files.directory.get(), name.c_str(),
                          O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR)};
  if (!files.stats.is_open() && errno == EEXIST) {
    return {Code::failed_precondition,
            fmt::format("{}/{}: another process publishes under our number", printable_text(path),
                        name)};
  }
  if (!files.stats.is_open()) return system_error(fmt::format("{}/{}", path, name), "make it");
  made_ = true;
  if (!lock_for_life(files.stats)) return system_error(name, "lock it");
  const int error = ::posix_fallocate(files.stats.get(), 0, sizeof(Segment));
  if (error == 0) return {};
  errno = error;
  return system_error(fmt::format("{}/{}", path, name), "give it its size");
}

// The socket's mode is set before it has a name: unlike a umask, that changes nothing for other
// threads.
Status OwnFiles::make_socket(const std::string& path) {
  const std::string place = socket_path(files.directory, pid_);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  place.copy(address.sun_path, sizeof(address.sun_path) - 1);
  files.socket = Descriptor{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  const int socket = files.socket.get();
  constexpr int kBacklog = 8;
  if (!files.socket.is_open() || ::fchmod(socket, S_IRUSR | S_IWUSR) != 0 ||
      ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(socket, kBacklog) != 0) {
    return system_error(fmt::format("{}/{}", path, socket_name(pid_)), "listen there");
  }
  return {};
}

class PublisherThread;
// The one of this process; guarded, for start, end and fork.
constinit PublisherThread* g_publisher = nullptr;
std::mutex& publisher_mutex() noexcept {
  alignas(std::mutex) static std::byte place[sizeof(std::mutex)];
  static auto* const the = new (place) std::mutex;
  return *the;
}

class PublisherThread final : public Publisher {
 public:
  PublisherThread(const PublishOptions& options, PublishSources sources)
      : interval_(options.interval), sources_(std::move(sources)) {}
  ~PublisherThread() override;
  PublisherThread(const PublisherThread&) = delete;
  PublisherThread& operator=(const PublisherThread&) = delete;

  Status start(const std::string& path);
  // In the child of a fork, where the thread is not.
  void abandon() noexcept;

 private:
  void run();
  void publish() noexcept;
  PublishedView look();
  Result<std::string> answer(std::string_view request);
  bool wait(Clock::TimePoint until);

  const Duration interval_;
  const PublishSources sources_;
  OwnFiles own_;
  std::unique_ptr<RequestServer> server_;
  std::unique_ptr<Segment> segment_ = std::make_unique<Segment>();
  std::uint64_t updates_ = 0;
  bool runs_ = false;  // on the thread of its own; the first update is the maker's
  Clock::TimePoint began_ = Clock::steady().now();
  std::unique_ptr<std::thread> thread_;
};

void before_fork() noexcept { publisher_mutex().lock(); }
void after_fork_in_parent() noexcept { publisher_mutex().unlock(); }
void after_fork_in_child() noexcept {
  if (g_publisher != nullptr) g_publisher->abandon();
  g_publisher = nullptr;
  publisher_mutex().unlock();
}

Status PublisherThread::start(const std::string& path) {
  static const int prepared =
      ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  static_cast<void>(prepared);
  const std::lock_guard lock{publisher_mutex()};
  if (g_publisher != nullptr) {
    return {Code::failed_precondition, "this process publishes its statistics already"};
  }
  if (Status status = own_.make(path); !status.ok()) return status;
  server_ = std::make_unique<RequestServer>(
      std::move(own_.files.socket), [this](std::string_view request) { return answer(request); });
  segment_->magic = kSegmentMagic;
  segment_->version = kSegmentVersion;
  segment_->size = sizeof(Segment);
  publish();  // so that whoever finds the files finds them filled

  // Signals are for the program's own threads; but for those of a fault, which is then this one's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
    sigdelset(&all, fault);
  }
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    thread_ = std::make_unique<std::thread>([this] { run(); });
  } catch (const std::system_error& error) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return {Code::io_error, fmt::format("cannot start the publisher's thread: {}", error.what())};
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_setname_np(thread_->native_handle(), "forebay-publish");
  g_publisher = this;
  return {};
}

PublisherThread::~PublisherThread() {
  if (thread_ == nullptr) return;
  {
    const std::lock_guard lock{publisher_mutex()};
    g_publisher = nullptr;
  }
  const std::uint64_t one = 1;
  static_cast<void>(!::write(own_.files.wake.get(), &one, sizeof(one)));
  thread_->join();
}

void PublisherThread::abandon() noexcept {
  // Nothing that the thread used may be touched, and it cannot be joined: it is not there, and may
  // have been anywhere.
  own_.files.close();
  server_->close_descriptors();
  static_cast<void>(server_.release());
  static_cast<void>(segment_.release());
  static_cast<void>(thread_.release());
}

void PublisherThread::run() {
  runs_ = true;
  Clock::TimePoint next = Clock::steady().now() + interval_;
  while (wait(next)) {
    const Clock::TimePoint now = Clock::steady().now();
    if (now < next) continue;
    publish();
    next = std::max(next + interval_, now);  // never two at once to make up for lost time
  }
}

// Serves requests until it is time. False: to end.
bool PublisherThread::wait(Clock::TimePoint until) {
  constexpr Duration kLookAtClients = std::chrono::seconds{1};  // whether a time is up
  std::array<pollfd, 1 + RequestServer::kPolled> polled{};
  const auto requests = std::span{polled}.subspan<1>();
  polled[0] = {own_.files.wake.get(), POLLIN, 0};
  server_->fill(requests);
  Duration left = std::max(until - Clock::steady().now(), Duration{0});
  if (server_->has_clients() || server_->is_deaf()) left = std::min(left, kLookAtClients);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
  const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = (left - seconds).count()};
  if (::ppoll(polled.data(), polled.size(), &timeout, nullptr) < 0) {
    // Without memory it fails at once, and would again.
    if (errno != EINTR) ::nanosleep(&timeout, nullptr);
    return true;
  }
  if (polled[0].revents != 0) return false;
  try {
    server_->serve(requests, Clock::steady().now());
  } catch (const std::exception&) {  // no memory: the client waits, and gives up
  }
  return true;
}

PublishedView PublisherThread::look() {
  PublishedView view = gather(sources_);
  view.pid = ::getpid();
  view.program = ::program_invocation_short_name;
  view.updates = updates_++;
  view.taken = read_clock(CLOCK_REALTIME);
  view.interval = interval_;
  view.publisher_cpu = runs_ ? read_clock(CLOCK_THREAD_CPUTIME_ID) : Duration{0};
  view.publisher_since = Clock::steady().now() - began_;
  return view;
}

// What cannot be had this time is had the next: nothing of it may reach the program.
void PublisherThread::publish() noexcept {
  try {
    encode(look(), segment_->data);
    static_cast<void>(write_segment(own_.files.stats.get(), *segment_).ok());
  } catch (const std::exception&) {
  }
}

Result<std::string> PublisherThread::answer(std::string_view request) {
  if (request != kSnapshotRequest) {
    return Status{Code::invalid_argument,
                  fmt::format("no such request; allowed: {}", kSnapshotRequest)};
  }
  if (!sources_.snapshot) return Status{Code::unsupported, "this process takes no snapshots"};
  try {
    return sources_.snapshot();
  } catch (const std::exception& error) {
    return Status{Code::memory_refused, fmt::format("no snapshot: {}", error.what())};
  }
}

}  // namespace

PublishSources common_sources() {
  PublishSources sources;
  sources.statistics = collect_statistics;
  sources.events = latest_events;
  sources.resident = [monitor = PressureMonitor{}] {
    const Result<Residency> residency = monitor.residency();
    return residency.ok() ? residency->total : Bytes{};
  };
  return sources;
}

Result<std::unique_ptr<Publisher>> start_publisher(const PublishOptions& options,
                                                   PublishSources sources) {
  if (options.interval < kLeastInterval) {
    return Status{
        Code::invalid_argument,
        fmt::format("publisher: an interval of {} ns is not allowed; allowed: 1 ms or more",
                    options.interval.count())};
  }
  auto publisher = std::make_unique<PublisherThread>(options, std::move(sources));
  Status status = publisher->start(publish_directory_path(options.directory));
  if (!status.ok()) return status;
  return std::unique_ptr<Publisher>{std::move(publisher)};
}

}  // namespace forebay::detail
