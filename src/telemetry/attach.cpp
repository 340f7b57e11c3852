#include "telemetry/attach.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "telemetry/publish_directory.hpp"
#include "telemetry/request_protocol.hpp"
#include "telemetry/request_server.hpp"
#include "telemetry/segment.hpp"

namespace forebay::detail {
namespace {

Status of_process(std::int64_t pid, Code code, std::string_view what) {
  return {code, fmt::format("process {}: {}", pid, what)};
}

Result<PublishedView> read_from(const Descriptor& directory, std::int64_t pid) {
  const auto file = open_stats(directory, pid);
  if (!file.ok()) return file.status();
  auto view = read_segment_file(file->get());
  if (!view.ok()) return view.status().with_context(fmt::format("process {}", pid));
  if (view->pid != pid) return of_process(pid, Code::corrupt_data, "its segment names another");
  return view;
}

Descriptor connected(const Descriptor& directory, std::int64_t pid, Duration patience) noexcept {
  const std::string place = socket_path(directory, pid);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  place.copy(address.sun_path, sizeof(address.sun_path) - 1);
  Descriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(patience);
  const timeval limit{.tv_sec = static_cast<time_t>(std::max<std::int64_t>(seconds.count(), 1)),
                      .tv_usec = 0};
  const bool ready =
      socket.is_open() &&
      ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
      ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
      is_our_peer(socket);
  return ready ? std::move(socket) : Descriptor{};
}

bool send_all(const Descriptor& socket, std::string_view bytes) noexcept {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool receive_all(const Descriptor& socket, char* into, std::size_t size) noexcept {
  while (size > 0) {
    const ssize_t got = ::recv(socket.get(), into, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    into += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

// Memory is taken as the bytes come, not as the other side says.
bool receive_body(const Descriptor& socket, std::string& body, std::uint64_t length) {
  constexpr std::uint64_t kAtOnce = 1ULL << 20;
  while (body.size() < length) {
    const std::size_t had = body.size();
    body.resize(had + static_cast<std::size_t>(std::min(kAtOnce, length - had)));
    if (!receive_all(socket, body.data() + had, body.size() - had)) return false;
  }
  return true;
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
  const auto opened = open_publish_directory(publish_directory_path(directory));
  if (!opened.ok()) return opened.status();
  return read_from(*opened, pid);
}

Result<std::string> ask_published(const std::string& directory, std::int64_t pid,
                                  std::string_view request, const AskOptions& options) {
  const auto opened = open_publish_directory(publish_directory_path(directory));
  if (!opened.ok()) return opened.status();
  const Descriptor socket = connected(*opened, pid, options.patience);
  if (!socket.is_open()) return of_process(pid, Code::not_found, "does not answer requests");
  AnswerHeader header;
  static_assert(std::is_trivially_copyable_v<AnswerHeader>);
  if (!send_all(socket, framed(request)) ||
      !receive_all(socket, reinterpret_cast<char*>(&header), sizeof(header))) {
    return of_process(pid, Code::io_error, "gave no answer in time");
  }
  if (Status status = check_header(header, options, pid); !status.ok()) return status;
  std::string body;
  if (!receive_body(socket, body, header.length)) {
    return of_process(pid, Code::io_error, "its answer broke off");
  }
  if (header.code != 0) {
    constexpr std::size_t kLongest = 1000;
    return of_process(pid, static_cast<Code>(header.code),
                      shown_text(std::string_view{body}.substr(0, kLongest)));
  }
  return body;
}

}  // namespace forebay::detail
