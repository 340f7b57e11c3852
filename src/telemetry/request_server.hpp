// RequestServer: answers whoever connects to a socket, without ever waiting for one.
#pragma once

#include <poll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "forebay/clock.hpp"
#include "forebay/status.hpp"
#include "telemetry/descriptor.hpp"

namespace forebay::detail {

// Not thread-safe: its owner's thread polls and serves.
class RequestServer {
 public:
  static constexpr std::size_t kMostClients = 4;                  // at once; others are sent away
  static constexpr Duration kPatience = std::chrono::seconds{5};  // with a client that does nothing
  using Answer = std::function<Result<std::string>(std::string_view request)>;

  // `socket` listens and does not block.
  RequestServer(Descriptor socket, Answer answer);

  // What to wait for: the socket, and each place of a client.
  static constexpr std::size_t kPolled = 1 + kMostClients;
  void fill(std::span<pollfd, kPolled> polled) const noexcept;
  // Serves what poll() found of that.
  void serve(std::span<const pollfd, kPolled> ready, Clock::TimePoint now);
  bool has_clients() const noexcept;
  // In the child of a fork: nothing but descriptors may be looked at, for the thread that served is
  // not there, and may have been anywhere.
  void close_descriptors() noexcept;

 private:
  struct Client {
    Descriptor socket;
    std::string request;
    std::string answer;
    std::size_t sent = 0;
    Clock::TimePoint deadline{};

    bool is_here() const noexcept { return socket.is_open(); }
    void leave() noexcept { socket.close(); }
  };
  void accept_clients(Clock::TimePoint now);
  void serve_client(Client& client, short events, Clock::TimePoint now);
  void receive(Client& client);
  void send_more(Client& client);

  Descriptor socket_;
  Answer answer_;
  std::array<Client, kMostClients> clients_;
};

// Whether the other end of a Unix socket is of our own user.
bool is_our_peer(const Descriptor& socket) noexcept;

}  // namespace forebay::detail
