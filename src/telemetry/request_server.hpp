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
  static constexpr std::size_t kMostClients = 4;  // at once; others are sent away
  // However a client drips: from its coming to the end of its request, and from there, the answer
  // being ready, to its end.
  static constexpr Duration kPatience = std::chrono::seconds{5};
  static constexpr Duration kAnswerPatience = std::chrono::seconds{30};
  // When no client can be taken for lack of descriptors or memory, nobody is listened to for so
  // long: the socket stays ready, and whoever polls it would not rest.
  static constexpr Duration kDeafness = std::chrono::seconds{1};
  using Answer = std::function<Result<std::string>(std::string_view request)>;

  // `socket` listens and does not block.
  RequestServer(Descriptor socket, Answer answer);

  // What to wait for: the socket, and each place of a client.
  static constexpr std::size_t kPolled = 1 + kMostClients;
  void fill(std::span<pollfd, kPolled> polled) const noexcept;
  // Serves what poll() found of that.
  void serve(std::span<const pollfd, kPolled> ready, Clock::TimePoint now);
  bool has_clients() const noexcept;
  bool is_deaf() const noexcept { return deaf_until_ != kHearing; }
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
    // With its texts, which are large and would stay until the next one comes.
    void leave() noexcept { *this = Client{}; }
  };
  static constexpr Clock::TimePoint kHearing = Clock::TimePoint::min();
  // Of an answer that took its time: it begins with the round after.
  static constexpr Clock::TimePoint kFromNextRound = Clock::TimePoint::max();
  void accept_clients(Clock::TimePoint now);
  void serve_client(Client& client, short events, Clock::TimePoint now);
  void receive(Client& client);
  void send_more(Client& client);

  Descriptor socket_;
  Answer answer_;
  std::array<Client, kMostClients> clients_;
  Clock::TimePoint deaf_until_ = kHearing;
};

// Whether the other end of a Unix socket is of our own user.
bool is_our_peer(const Descriptor& socket) noexcept;

}  // namespace forebay::detail
