#include "telemetry/attach.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/text.hpp"
#include "forebay/clock.hpp"
#include "telemetry/publish_directory.hpp"
#include "telemetry/request_protocol.hpp"
#include "telemetry/request_server.hpp"
#include "telemetry/segment.hpp"

namespace forebay::detail {
namespace {

Status of_process(std::int64_t pid, Code code, std::string_view what) {
  return {code, fmt::format("process {}: {}", pid, what)};
}

Status does_not_publish(std::int64_t pid, const std::string& directory) {
  return {Code::not_found, fmt::format("process {} does not publish its statistics (looked in {}); "
                                       "forebay::Publisher::start() does",
                                       pid, printable_text(directory))};
}

Result<PublishedView> read_from(const Descriptor& directory, std::int64_t pid) {
  const auto file = open_stats(directory, pid);
  if (!file.ok()) return file.status();
  auto view = read_segment_file(file->get());
  if (!view.ok()) return view.status().with_context(fmt::format("process {}", pid));
  if (view->pid != pid) return of_process(pid, Code::corrupt_data, "its segment names another");
  return view;
}

// For one process.
Result<Descriptor> directory_for(const std::string& path, std::int64_t pid) {
  auto opened = open_publish_directory(path);
  if (!opened.ok() && opened.status().code() == Code::not_found) return does_not_publish(pid, path);
  return opened;
}

timeval as_timeval(Duration duration) noexcept {
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(duration);
  constexpr std::int64_t kMillion = 1'000'000;
  const std::int64_t count = std::max<std::int64_t>(whole.count(), 1);  // 0 would be for ever
  return {.tv_sec = static_cast<time_t>(count / kMillion),
          .tv_usec = static_cast<suseconds_t>(count % kMillion)};
}

// One connection, with one time for all that is said on it.
class Exchange {
 public:
  Exchange(std::int64_t pid, const AskOptions& options)
      : pid_(pid), options_(options), deadline_(Clock::steady().now() + options.patience) {}

  Status connect(const Descriptor& directory, const std::string& path);
  Status send_all(std::string_view bytes);
  Status receive_all(char* into, std::size_t size);

 private:
  Status wait_for(short events);
  Status too_late() const { return of_process(pid_, Code::io_error, "gave no answer in time"); }
  Status closed() const {
    return of_process(pid_, Code::io_error, "closed the connection before its answer was whole");
  }
  Status failed(std::string_view what) const {
    return of_process(pid_, Code::io_error,
                      fmt::format("cannot {}: {}", what, std::strerror(errno)));
  }
  // After a call that did not do all; ok: to be tried again.
  Status after(ssize_t done, std::string_view what, short events);

  const std::int64_t pid_;
  const AskOptions& options_;
  const Clock::TimePoint deadline_;
  Descriptor socket_;
  bool said_ = false;  // that it is waiting
};

Status Exchange::connect(const Descriptor& directory, const std::string& path) {
  const std::string place = socket_path(directory, pid_);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  place.copy(address.sun_path, sizeof(address.sun_path) - 1);
  socket_ = Descriptor{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!socket_.is_open()) return failed("make a socket");
  const timeval limit = as_timeval(options_.patience);  // where many wait to be heard
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return does_not_publish(pid_, path);
    return errno == EAGAIN ? too_late() : failed("connect to it");
  }
  if (!is_our_peer(socket_)) {
    return of_process(pid_, Code::failed_precondition, "its socket is of somebody else");
  }
  return {};
}

Status Exchange::wait_for(short events) {
  const Duration left = deadline_ - Clock::steady().now();
  if (left <= Duration{0}) return too_late();
  const bool speaks = !said_ && options_.on_wait && left > options_.quiet;
  const auto time =
      std::chrono::ceil<std::chrono::milliseconds>(speaks ? options_.quiet : left).count();
  pollfd polled{socket_.get(), events, 0};
  constexpr std::int64_t kLongest = std::numeric_limits<int>::max();
  const int ready = ::poll(&polled, 1, static_cast<int>(std::min<std::int64_t>(time, kLongest)));
  if (ready < 0 && errno != EINTR) return failed("wait for it");
  if (ready == 0 && speaks) {
    said_ = true;
    options_.on_wait();
  }
  return {};
}

Status Exchange::after(ssize_t done, std::string_view what, short events) {
  if (done > 0) return Clock::steady().now() < deadline_ ? Status{} : too_late();
  if (done == 0 || errno == EPIPE || errno == ECONNRESET) return closed();
  if (errno == EINTR) return {};
  return errno == EAGAIN ? wait_for(events) : failed(what);
}

Status Exchange::send_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent =
        ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) bytes.remove_prefix(static_cast<std::size_t>(sent));
    if (Status status = after(sent, "send to it", POLLOUT); !status.ok()) return status;
  }
  return {};
}

Status Exchange::receive_all(char* into, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(socket_.get(), into, size, MSG_DONTWAIT);
    if (got > 0) {
      into += got;
      size -= static_cast<std::size_t>(got);
    }
    if (Status status = after(got, "receive from it", POLLIN); !status.ok()) return status;
  }
  return {};
}

// Memory is taken as the bytes come, not as the other side says.
Status receive_body(Exchange& exchange, std::string& body, std::uint64_t length) {
  constexpr std::uint64_t kAtOnce = 1ULL << 20;
  while (body.size() < length) {
    const std::size_t had = body.size();
    body.resize(had + static_cast<std::size_t>(std::min(kAtOnce, length - had)));
    Status status = exchange.receive_all(body.data() + had, body.size() - had);
    if (!status.ok()) return status;
  }
  return {};
}

Status check_header(const AnswerHeader& header, const AskOptions& options, std::int64_t pid) {
  constexpr auto kHighestCode = static_cast<std::uint32_t>(Code::interrupted);
  if (header.magic != kAnswerMagic || header.code > kHighestCode) {
    return of_process(pid, Code::corrupt_data, "its answer is none");
  }
  if (header.length > options.most.count()) {
    return of_process(pid, Code::corrupt_data,
                      fmt::format("its answer is to have {}; allowed: at most {}",
                                  to_string(Bytes{header.length}), to_string(options.most)));
  }
  return {};
}

std::string framed(std::string_view request) {
  const auto length = static_cast<std::uint32_t>(request.size());
  std::string text(sizeof(length), '\0');
  std::memcpy(text.data(), &length, sizeof(length));
  return text.append(request);
}

}  // namespace

Result<std::vector<PublishedView>> published_processes(const std::string& directory) {
  std::vector<PublishedView> views;
  const auto opened = open_publish_directory(publish_directory_path(directory));
  if (!opened.ok() && opened.status().code() == Code::not_found) return views;
  if (!opened.ok()) return opened.status();
  for (const std::int64_t pid : pids_in(*opened)) {
    if (auto view = read_from(*opened, pid); view.ok()) views.push_back(std::move(*view));
  }
  return views;
}

Result<PublishedView> read_published(const std::string& directory, std::int64_t pid) {
  const std::string path = publish_directory_path(directory);
  const auto opened = directory_for(path, pid);
  if (!opened.ok()) return opened.status();
  auto view = read_from(*opened, pid);
  if (!view.ok() && view.status().code() == Code::not_found) return does_not_publish(pid, path);
  return view;
}

Result<std::string> ask_published(const std::string& directory, std::int64_t pid,
                                  std::string_view request, const AskOptions& options) {
  const std::string path = publish_directory_path(directory);
  const auto opened = directory_for(path, pid);
  if (!opened.ok()) return opened.status();
  Exchange exchange{pid, options};
  if (Status status = exchange.connect(*opened, path); !status.ok()) return status;
  if (Status status = exchange.send_all(framed(request)); !status.ok()) return status;
  AnswerHeader header;
  static_assert(std::is_trivially_copyable_v<AnswerHeader>);
  if (Status status = exchange.receive_all(reinterpret_cast<char*>(&header), sizeof(header));
      !status.ok()) {
    return status;
  }
  if (Status status = check_header(header, options, pid); !status.ok()) return status;
  std::string body;
  if (Status status = receive_body(exchange, body, header.length); !status.ok()) return status;
  if (header.code != 0) {
    constexpr std::size_t kLongest = 1000;
    return of_process(pid, static_cast<Code>(header.code),
                      shown_text(std::string_view{body}.substr(0, kLongest)));
  }
  return body;
}

}  // namespace forebay::detail
