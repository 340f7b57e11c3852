#include "telemetry/request_server.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "telemetry/request_protocol.hpp"

namespace forebay::detail {
namespace {

// What a request's front says of its length; kMostRequest + 1: not said yet.
std::uint32_t length_of(const std::string& request) noexcept {
  std::uint32_t length = kMostRequest + 1;
  if (request.size() >= sizeof(length)) std::memcpy(&length, request.data(), sizeof(length));
  return length;
}

std::string framed(const Result<std::string>& answer) {
  const std::string& body = answer.ok() ? *answer : answer.status().message();
  AnswerHeader header;
  header.code = static_cast<std::uint32_t>(answer.status().code());
  header.length = body.size();
  std::string text(sizeof(header), '\0');
  std::memcpy(text.data(), &header, sizeof(header));
  return text += body;
}

}  // namespace

bool is_our_peer(const Descriptor& socket) noexcept {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == ::geteuid();
}

RequestServer::RequestServer(Descriptor socket, Answer answer)
    : socket_(std::move(socket)), answer_(std::move(answer)) {}

void RequestServer::fill(std::span<pollfd, kPolled> polled) const noexcept {
  polled[0] = {is_deaf() ? -1 : socket_.get(), POLLIN, 0};
  for (std::size_t i = 0; i < kMostClients; ++i) {  // a place without a client is -1: left out
    const Client& client = clients_[i];
    const int events = client.answer.empty() ? POLLIN : POLLOUT;
    polled[i + 1] = {client.socket.get(), static_cast<short>(events), 0};
  }
}

void RequestServer::serve(std::span<const pollfd, kPolled> ready, Clock::TimePoint now) {
  for (std::size_t i = 0; i < kMostClients; ++i) {
    if (clients_[i].is_here()) serve_client(clients_[i], ready[i + 1].revents, now);
  }
  if (now >= deaf_until_) deaf_until_ = kHearing;
  if (ready[0].revents != 0) accept_clients(now);
}

bool RequestServer::has_clients() const noexcept {
  return std::ranges::any_of(clients_, &Client::is_here);
}

void RequestServer::accept_clients(Clock::TimePoint now) {
  for (;;) {
    Descriptor socket{::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!socket.is_open()) {
      if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) deaf_until_ = now + kDeafness;
      return;
    }
    const auto place = std::ranges::find_if_not(clients_, &Client::is_here);
    if (place == clients_.end() || !is_our_peer(socket)) continue;
    *place = Client{std::move(socket), {}, {}, 0, now + kPatience};
  }
}

// What it sent while another's answer was made is heard, late as it is.
void RequestServer::serve_client(Client& client, short events, Clock::TimePoint now) {
  if (client.deadline == kFromNextRound) client.deadline = now + kAnswerPatience;
  if (events != 0) {
    if (client.answer.empty()) {
      receive(client);
    } else {
      send_more(client);
    }
  }
  if (client.is_here() && now >= client.deadline) client.leave();
}

void RequestServer::receive(Client& client) {
  std::array<char, sizeof(std::uint32_t) + kMostRequest> buffer;
  const ssize_t got = ::recv(client.socket.get(), buffer.data(), buffer.size(), 0);
  if (got <= 0) {
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) client.leave();
    return;
  }
  client.request.append(buffer.data(), static_cast<std::size_t>(got));
  constexpr std::size_t kFront = sizeof(std::uint32_t);
  if (client.request.size() < kFront) return;
  const std::uint32_t length = length_of(client.request);
  if (length > kMostRequest || client.request.size() > kFront + length) {
    client.leave();  // nothing that anybody means to say
    return;
  }
  if (client.request.size() < kFront + length) return;
  client.answer = framed(answer_(std::string_view{client.request}.substr(kFront)));
  client.deadline = kFromNextRound;
  send_more(client);
}

void RequestServer::send_more(Client& client) {
  while (client.sent < client.answer.size()) {
    const ssize_t sent = ::send(client.socket.get(), client.answer.data() + client.sent,
                                client.answer.size() - client.sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) {
      if (errno != EAGAIN) client.leave();
      return;
    }
    client.sent += static_cast<std::size_t>(sent);
  }
  client.leave();
}

void RequestServer::close_descriptors() noexcept {
  socket_.close();
  for (Client& client : clients_) client.socket.close();
}

}  // namespace forebay::detail
