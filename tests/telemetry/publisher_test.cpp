#include "telemetry/publisher.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>

#include "conformance/fork.hpp"
#include "telemetry/attach.hpp"
#include "telemetry/publish_directory.hpp"
#include "telemetry/request_protocol.hpp"
#include "telemetry/request_server.hpp"
#include "telemetry/temporary_directory.hpp"

namespace forebay::detail {
namespace {

using namespace literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

namespace fs = std::filesystem;

unsigned mode_of(const std::string& path) {
  struct stat about {};
  EXPECT_EQ(::lstat(path.c_str(), &about), 0) << path;
  return about.st_mode & 07777;
}

class PublisherTest : public ::testing::Test {
 protected:
  std::string place() const { return root_ / "forebay"; }
  std::string own(const char* ending) const {
    return place() + "/" + std::to_string(::getpid()) + ending;
  }
  PublishOptions options() const {
    return {.interval = std::chrono::milliseconds{2}, .directory = place()};
  }
  std::unique_ptr<Publisher> start(PublishSources sources = {}) {
    return start_publisher(options(), std::move(sources)).value();
  }
  PublishedView view() const { return read_published(place(), ::getpid()).value(); }
  // Once the publisher went round `more` times; far within the time limit of a test.
  PublishedView view_after(std::uint64_t more) const {
    const std::uint64_t from = view().updates;
    for (;;) {
      PublishedView now = view();
      if (now.updates >= from + more) return now;
      std::this_thread::yield();
    }
  }

  testing::TemporaryDirectory root_;
};

TEST_F(PublisherTest, IsFoundAndReadWhileItLives) {
  StatisticsRegistration budget{"budget", "process", [](std::vector<Statistic>& statistics) {
                                  statistics.push_back({"limit_bytes", 1000});
                                  statistics.push_back({"charged_bytes", 750});
                                }};
  auto publisher = start(common_sources());
  const PublishedView first = view();
  EXPECT_EQ(first.pid, ::getpid());
  EXPECT_EQ(first.program, ::program_invocation_short_name);
  EXPECT_EQ(first.line, 1000_B);
  EXPECT_EQ(first.used, 750_B);
  EXPECT_GT(first.resident, 100_KiB);
  const auto found = published_processes(place()).value();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].pid, ::getpid());
  publisher.reset();
  EXPECT_EQ(read_published(place(), ::getpid()).status().code(), Code::not_found);
  EXPECT_THAT(published_processes(place()).value(), IsEmpty());
  EXPECT_TRUE(fs::is_empty(place()));
}

TEST_F(PublisherTest, PublishesAnewAtEachInterval) {
  std::atomic<std::uint64_t> live{1};
  PublishSources sources;
  sources.tags = [&] {
    TagStats tag;
    tag.tag = "layer";
    tag.live = Bytes{live.load()};
    tag.allocations = 1;
    return std::vector{tag};
  };
  const auto publisher = start(sources);
  EXPECT_EQ(view().tags[0].live, 1_B);
  live = 2;
  const PublishedView later = view_after(2);
  EXPECT_EQ(later.tags[0].live, 2_B);
  EXPECT_GT(later.publisher_cpu, Duration{0});
  EXPECT_GT(later.publisher_since, later.publisher_cpu);
}

TEST_F(PublisherTest, PublishesTheTimelinesLatestEvents) {
  Timeline::start({.capacity = 64_KiB, .kinds = {}}).throw_if_error();
  for (int i = 0; i < 100; ++i) Timeline::mark("step " + std::to_string(i));
  const auto publisher = start(common_sources());
  Timeline::stop();
  const auto events = view().events;
  ASSERT_EQ(events.size(), 64U);
  EXPECT_EQ(events.back().subject, "step 99");
  EXPECT_EQ(events.back().kind, EventKind::mark);
  EXPECT_EQ(events.front().subject, "step 36");
  EXPECT_GE(events.front().age, events.back().age);
}

TEST_F(PublisherTest, SurvivesASourceThatThrows) {
  std::atomic<bool> throws{false};
  PublishSources sources;
  sources.resident = [&] {
    if (throws.load()) throw std::bad_alloc{};
    return 5_B;
  };
  const auto publisher = start(sources);
  throws = true;
  EXPECT_EQ(view().resident, 5_B);
  throws = false;
  EXPECT_EQ(view_after(3).resident, 5_B);
}

TEST_F(PublisherTest, IsForItsUserAlone) {
  const mode_t before = ::umask(0);  // which must not matter
  const auto publisher = start();
  ::umask(before);
  EXPECT_EQ(mode_of(place()), 0700U);
  EXPECT_EQ(mode_of(own(".stats")), 0600U);
  EXPECT_EQ(mode_of(own(".sock")), 0600U);
}

TEST_F(PublisherTest, IsOneOfAProcess) {
  const auto publisher = start();
  const auto second = start_publisher(options(), {});
  EXPECT_EQ(second.status().code(), Code::failed_precondition);
  EXPECT_EQ(view().pid, ::getpid());
}

TEST_F(PublisherTest, StartsAgainAfterItsEnd) {
  for (int i = 0; i < 3; ++i) {
    const auto publisher = start();
    EXPECT_EQ(view().pid, ::getpid());
  }
}

TEST_F(PublisherTest, RefusesAnIntervalOfNothing) {
  EXPECT_EQ(start_publisher({.interval = Duration{0}, .directory = place()}, {}).status().code(),
            Code::invalid_argument);
}

TEST_F(PublisherTest, WorksWhereThePathIsLongerThanASocketsMayBe) {
  const std::string deep = root_ / std::string(120, 'd');
  fs::create_directory(deep);
  fs::permissions(deep, fs::perms::owner_all);
  const PublishOptions far{.interval = std::chrono::milliseconds{2}, .directory = deep + "/f"};
  PublishSources sources;
  sources.snapshot = [] { return std::string{"{}"}; };
  const auto publisher = start_publisher(far, sources).value();
  EXPECT_EQ(read_published(far.directory, ::getpid()).value().pid, ::getpid());
  EXPECT_EQ(ask_published(far.directory, ::getpid(), "snapshot").value(), "{}");
}

// ---- The directory

TEST_F(PublisherTest, RefusesADirectoryThatIsNotItsOwn) {
  const auto refused = [&](const std::string& path, const char* why) {
    const auto result =
        start_publisher({.interval = std::chrono::seconds{1}, .directory = path}, {});
    EXPECT_EQ(result.status().code(), Code::failed_precondition) << path;
    EXPECT_THAT(result.status().message(), HasSubstr(why));
  };
  fs::create_directory(place());
  fs::permissions(place(), fs::perms::owner_all | fs::perms::others_read);
  refused(place(), "is open to others (mode 0704); allowed: 0700");
  fs::permissions(place(), fs::perms::owner_all);
  fs::create_directory_symlink(place(), root_ / "link");
  refused(root_ / "link", "symbolic link");
  refused(root_ / "link/below", "symbolic link");
  std::ofstream{root_ / "file"} << "x";
  refused(root_ / "file", "is no directory");
  fs::create_directory(root_ / "open");
  fs::permissions(root_ / "open", fs::perms::all);
  refused(root_ / "open/below", "others may change it");
  EXPECT_FALSE(fs::exists(root_ / "open/below"));
  refused("/", "a directory of its own");
  refused(root_ / "..", "a directory of its own");
  const auto missing =
      start_publisher({.interval = std::chrono::seconds{1}, .directory = root_ / "no/such"}, {});
  EXPECT_EQ(missing.status().code(), Code::not_found);
}

TEST_F(PublisherTest, RefusesADirectoryOfSomebodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make one";
  fs::create_directory(place());
  fs::permissions(place(), fs::perms::owner_all);
  ASSERT_EQ(::chown(place().c_str(), 12345, 12345), 0);
  EXPECT_THAT(start_publisher(options(), {}).status().message(), HasSubstr("somebody else"));
  ASSERT_EQ(::chown(root_.path().c_str(), 12345, 12345), 0);
  EXPECT_THAT(start_publisher({.interval = std::chrono::seconds{1}, .directory = root_ / "new"}, {})
                  .status()
                  .message(),
              HasSubstr("root's or our own"));
}

TEST(PublishDirectory, IsTheRuntimeDirectorysOrOneOfTmp) {
  const char* const before = ::getenv("XDG_RUNTIME_DIR");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
  EXPECT_EQ(publish_directory_path(""), "/run/user/7/forebay");
  EXPECT_EQ(publish_directory_path("/mine"), "/mine");
  ::setenv("XDG_RUNTIME_DIR", "relative", 1);
  EXPECT_EQ(publish_directory_path(""), "/tmp/forebay-" + std::to_string(::geteuid()));
  ::unsetenv("XDG_RUNTIME_DIR");
  EXPECT_EQ(publish_directory_path(""), "/tmp/forebay-" + std::to_string(::geteuid()));
  if (before != nullptr) ::setenv("XDG_RUNTIME_DIR", kept.c_str(), 1);
}

// A number that no process has: of a child that is gone.
pid_t dead_pid() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

TEST_F(PublisherTest, RemovesWhatDeadProcessesLeft) {
  { const auto publisher = start(); }
  const std::string dead = std::to_string(dead_pid());
  std::ofstream{place() + "/" + dead + ".stats"} << "x";
  std::ofstream{place() + "/" + dead + ".sock"} << "x";
  std::ofstream{place() + "/1.stats"} << "x";  // process 1 lives
  std::ofstream{place() + "/notes.txt"} << "x";
  std::ofstream{place() + "/12x.stats"} << "x";
  std::ofstream{own(".stats")} << "of one that had our number";
  const auto publisher = start();
  EXPECT_FALSE(fs::exists(place() + "/" + dead + ".stats"));
  EXPECT_FALSE(fs::exists(place() + "/" + dead + ".sock"));
  EXPECT_TRUE(fs::exists(place() + "/1.stats"));
  EXPECT_TRUE(fs::exists(place() + "/notes.txt"));
  EXPECT_TRUE(fs::exists(place() + "/12x.stats"));
  EXPECT_EQ(view().pid, ::getpid());
  EXPECT_EQ(published_processes(place()).value().size(), 1U);
}

TEST_F(PublisherTest, DoesNotWriteThroughALink) {
  { const auto publisher = start(); }
  std::ofstream{root_ / "victim"} << "precious";
  fs::create_symlink(root_ / "victim", own(".stats"));
  const auto publisher = start();  // the link was of one that had our number
  EXPECT_EQ(fs::file_size(root_ / "victim"), 8U);
  EXPECT_FALSE(fs::is_symlink(own(".stats")));
}

// ---- Readers

TEST_F(PublisherTest, ReadersTakeOnlyALivingProcessesPlainFile) {
  const auto publisher = start();
  const auto code = [&](pid_t pid) { return read_published(place(), pid).status().code(); };
  EXPECT_EQ(code(dead_pid()), Code::not_found);
  ASSERT_EQ(::mkfifo((place() + "/77.stats").c_str(), 0600), 0);
  EXPECT_EQ(code(77), Code::not_found);
  fs::create_symlink(own(".stats"), place() + "/78.stats");
  EXPECT_EQ(code(78), Code::not_found);
  fs::copy_file(own(".stats"), place() + "/79.stats");  // nobody holds its lock
  EXPECT_EQ(code(79), Code::not_found);
  fs::create_hard_link(own(".stats"), place() + "/80.stats");
  EXPECT_EQ(code(80), Code::corrupt_data);  // it says that it is another
  EXPECT_EQ(published_processes(place()).value().size(), 1U);
}

TEST_F(PublisherTest, ASegmentThatIsCutShortHurtsNobody) {
  const auto publisher = start();
  fs::resize_file(own(".stats"), 10);
  for (int i = 0; i < 1000; ++i) {
    const auto now = read_published(place(), ::getpid());
    if (now.ok()) return;  // it was written anew
    ASSERT_EQ(now.status().code(), Code::corrupt_data);
    std::this_thread::yield();
  }
}

TEST_F(PublisherTest, ADirectoryThatIsNotThereHasNoProcesses) {
  EXPECT_THAT(published_processes(root_ / "none").value(), IsEmpty());
  EXPECT_EQ(read_published(root_ / "none", 1).status().code(), Code::not_found);
  EXPECT_EQ(ask_published(root_ / "none", 1, "snapshot").status().code(), Code::not_found);
}

// ---- Requests

TEST_F(PublisherTest, AnswersARequestForASnapshot) {
  const std::string large(5 << 20, 'x');  // more than a socket holds
  PublishSources sources;
  sources.snapshot = [&] { return large; };
  const auto publisher = start(sources);
  EXPECT_EQ(ask_published(place(), ::getpid(), "snapshot").value(), large);
  const auto small = ask_published(place(), ::getpid(), "snapshot", {.most = 1_MiB});
  EXPECT_EQ(small.status().code(), Code::corrupt_data);
  EXPECT_THAT(small.status().message(), HasSubstr("at most 1 MiB"));
}

TEST_F(PublisherTest, SaysWhatItCannotAnswer) {
  PublishSources sources;
  sources.snapshot = [] { return Result<std::string>{Status{Code::io_error, "no\x1b[2J disk"}}; };
  const auto publisher = start(sources);
  const auto failed = ask_published(place(), ::getpid(), "snapshot").status();
  EXPECT_EQ(failed.code(), Code::io_error);
  EXPECT_THAT(failed.message(), HasSubstr("no?[2J disk"));
  const auto unknown = ask_published(place(), ::getpid(), "shutdown").status();
  EXPECT_EQ(unknown.code(), Code::invalid_argument);
  EXPECT_THAT(unknown.message(), HasSubstr("allowed: snapshot"));
}

TEST_F(PublisherTest, WithoutSnapshotsSaysSo) {
  const auto publisher = start();
  EXPECT_EQ(ask_published(place(), ::getpid(), "snapshot").status().code(), Code::unsupported);
}

TEST_F(PublisherTest, ASnapshotThatThrowsIsAnError) {
  PublishSources sources;
  sources.snapshot = []() -> Result<std::string> { throw std::bad_alloc{}; };
  const auto publisher = start(sources);
  EXPECT_EQ(ask_published(place(), ::getpid(), "snapshot").status().code(), Code::memory_refused);
}

// Listens in the place of process `pid`'s publisher, and does nothing of itself.
class SilentPeer {
 public:
  SilentPeer(const std::string& place, pid_t pid) {
    fs::create_directory(place);
    fs::permissions(place, fs::perms::owner_all);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (place + "/" + std::to_string(pid) + ".sock").copy(address.sun_path, 107);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(socket_.get(), 4), 0);
  }
  Descriptor accepted() const { return Descriptor{::accept(socket_.get(), nullptr, nullptr)}; }

 private:
  Descriptor socket_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
};

TEST_F(PublisherTest, WhoNeverAnswersIsWaitedForOnlySoLong) {
  const SilentPeer peer{place(), 7};
  const auto status =
      ask_published(place(), 7, "snapshot", {.patience = std::chrono::milliseconds{5}}).status();
  EXPECT_EQ(status.code(), Code::io_error);
  EXPECT_EQ(status.message(), "process 7: gave no answer in time");
}

TEST_F(PublisherTest, WhoDripsItsAnswerIsWaitedForOnlySoLong) {
  const SilentPeer peer{place(), 7};
  std::thread dripping{[&] {
    const Descriptor client = peer.accepted();
    AnswerHeader header;
    header.length = 1U << 30;
    static_cast<void>(!::send(client.get(), &header, sizeof(header), MSG_NOSIGNAL));
    while (::send(client.get(), "x", 1, MSG_NOSIGNAL) == 1) std::this_thread::yield();
  }};
  const auto status =
      ask_published(place(), 7, "snapshot", {.patience = std::chrono::milliseconds{50}}).status();
  dripping.join();
  EXPECT_EQ(status.message(), "process 7: gave no answer in time");
}

TEST_F(PublisherTest, WhoClosesTheConnectionIsSaidToHave) {
  const SilentPeer peer{place(), 7};
  std::thread closing{[&] {
    const Descriptor client = peer.accepted();
    std::array<char, 100> request;  // all read: an end, and no reset
    EXPECT_EQ(::recv(client.get(), request.data(), 12, MSG_WAITALL), 12);
  }};
  const auto status = ask_published(place(), 7, "snapshot").status();
  closing.join();
  EXPECT_EQ(status.message(), "process 7: closed the connection before its answer was whole");
}

TEST_F(PublisherTest, SaysOnceThatItWaits) {
  const SilentPeer peer{place(), 7};
  int said = 0;
  std::atomic<bool> waits{false};
  std::thread late{[&] {
    const Descriptor client = peer.accepted();
    while (!waits.load()) std::this_thread::yield();
  }};
  const AskOptions options{.on_wait =
                               [&] {
                                 ++said;
                                 waits = true;
                               },
                           .quiet = std::chrono::milliseconds{1}};
  EXPECT_FALSE(ask_published(place(), 7, "snapshot", options).ok());
  late.join();
  EXPECT_EQ(said, 1);
}

TEST_F(PublisherTest, SaysWhichProcessDoesNotPublishAndWhereItLooked) {
  const auto said = [&](const std::string& where) {
    return "process 99999 does not publish its statistics (looked in " + where +
           "); forebay::Publisher::start() does";
  };
  const std::string none = root_ / "none";
  EXPECT_EQ(read_published(none, 99999).status().message(), said(none));
  EXPECT_EQ(ask_published(none, 99999, "snapshot").status().message(), said(none));
  const auto publisher = start();
  EXPECT_EQ(read_published(place(), 99999).status().message(), said(place()));
  EXPECT_EQ(ask_published(place(), 99999, "snapshot").status().message(), said(place()));
  const std::string odd = root_ / "a\u202e\x1b\u009b";
  EXPECT_EQ(read_published(odd, 99999).status().message(),
            said(root_ / "a\\xe2\\x80\\xae\\x1b\\xc2\\x9b"));
}

// ---- Forks

#if !defined(__SANITIZE_THREAD__)  // forks of several threads are beyond it
TEST_F(PublisherTest, TheChildOfAForkDoesNotPublish) {
  auto publisher = start();
  conformance::in_child([&] {
    EXPECT_EQ(read_published(place(), ::getpid()).status().code(), Code::not_found);
    EXPECT_TRUE(read_published(place(), ::getppid()).ok());
    publisher.reset();  // leaves the parent's files
    EXPECT_TRUE(fs::exists(place() + "/" + std::to_string(::getppid()) + ".stats"));
    {
      const auto own_publisher = start();
      EXPECT_EQ(view().pid, ::getpid());
    }
    EXPECT_TRUE(read_published(place(), ::getppid()).ok());
  });
  EXPECT_GT(view_after(2).updates, 1U);
}
#endif

// ---- The server, by a clock of the test's own

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() : path_(directory_ / "s") {
    sockaddr_un address = at();
    Descriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(socket.get(), 16), 0);
    server_.emplace(std::move(socket), [this](std::string_view request) {
      asked_.emplace_back(request);
      return answer_;
    });
  }
  sockaddr_un at() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    return address;
  }
  Descriptor connect() const {
    sockaddr_un address = at();
    Descriptor socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return socket;
  }
  // One round of poll() and serve(), at a time of the test's.
  void serve(Duration at) {
    std::array<pollfd, RequestServer::kPolled> polled{};
    server_->fill(polled);
    ASSERT_GE(::poll(polled.data(), polled.size(), 0), 0);
    server_->serve(polled, Clock::TimePoint{at});
  }
  static void say(const Descriptor& socket, std::uint32_t length, std::string_view text) {
    ASSERT_EQ(::send(socket.get(), &length, sizeof(length), MSG_NOSIGNAL), 4);
    ASSERT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  static std::string heard(const Descriptor& socket) {
    std::array<char, 100> buffer;
    const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) return "(nothing)";
    return {buffer.data(), static_cast<std::size_t>(got)};
  }

  testing::TemporaryDirectory directory_;
  std::string path_;
  std::vector<std::string> asked_;
  std::string answer_ = "answer";
  std::optional<RequestServer> server_;
};

TEST_F(ServerTest, PutsARequestTogetherFromItsPieces) {
  const Descriptor client = connect();
  serve(Duration{0});
  say(client, 8, "snap");
  serve(Duration{0});
  EXPECT_THAT(asked_, IsEmpty());
  ASSERT_EQ(::send(client.get(), "shot", 4, MSG_NOSIGNAL), 4);
  serve(Duration{0});
  EXPECT_THAT(asked_, ElementsAre("snapshot"));
  EXPECT_EQ(heard(client).substr(sizeof(AnswerHeader)), "answer");
  EXPECT_FALSE(server_->has_clients());
}

TEST_F(ServerTest, SendsAwayWhoSaysTooMuch) {
  for (const std::uint32_t length : {kMostRequest + 1, ~0U, 3U}) {
    const Descriptor client = connect();
    serve(Duration{0});
    say(client, length, "longer than three");
    serve(Duration{0});
    EXPECT_FALSE(server_->has_clients());
  }
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(ServerTest, LosesPatienceWithWhoSaysNothing) {
  const Descriptor client = connect();
  serve(Duration{0});
  serve(RequestServer::kPatience - Duration{1});
  EXPECT_TRUE(server_->has_clients());
  serve(RequestServer::kPatience);
  EXPECT_FALSE(server_->has_clients());
  EXPECT_EQ(heard(client), "");
}

TEST_F(ServerTest, LosesPatienceWithWhoDripsItsRequest) {
  const Descriptor client = connect();
  serve(Duration{0});
  say(client, 8, "sn");
  serve(RequestServer::kPatience - Duration{1});
  EXPECT_TRUE(server_->has_clients());
  ASSERT_EQ(::send(client.get(), "a", 1, MSG_NOSIGNAL), 1);
  serve(RequestServer::kPatience);
  EXPECT_FALSE(server_->has_clients());
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(ServerTest, LosesPatienceWithWhoDripsTheAnswer) {
  answer_ = std::string(5 << 20, 'x');  // more than a socket holds
  const Descriptor client = connect();
  serve(Duration{0});
  say(client, 8, "snapshot");
  serve(Duration{0});
  const Duration made = RequestServer::kPatience * 3;  // it took that long
  serve(made);
  EXPECT_TRUE(server_->has_clients());
  const Duration end = made + RequestServer::kAnswerPatience;
  EXPECT_NE(heard(client), "(nothing)");
  serve(end - Duration{1});
  EXPECT_TRUE(server_->has_clients());
  EXPECT_NE(heard(client), "(nothing)");
  serve(end);
  EXPECT_FALSE(server_->has_clients());
}

TEST_F(ServerTest, HearsARequestThatWaitedWhileAnAnswerWasMade) {
  const Descriptor client = connect();
  serve(Duration{0});
  say(client, 8, "snapshot");
  serve(RequestServer::kPatience * 3);
  EXPECT_THAT(asked_, ElementsAre("snapshot"));
}

// As a process that has no descriptors left.
class FewDescriptors {
 public:
  FewDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{.rlim_cur = 0, .rlim_max = before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

TEST_F(ServerTest, IsDeafForAWhileWhenThereAreNoDescriptors) {
  const Descriptor client = connect();
  std::array<pollfd, RequestServer::kPolled> polled{};
  server_->fill(polled);
  ASSERT_EQ(::poll(polled.data(), polled.size(), 0), 1);
  {
    const FewDescriptors few;
    server_->serve(polled, Clock::TimePoint{Duration{0}});
  }
  EXPECT_TRUE(server_->is_deaf());
  server_->fill(polled);
  EXPECT_EQ(::poll(polled.data(), polled.size(), 0), 0);  // who polls this rests
  serve(RequestServer::kDeafness - Duration{1});
  EXPECT_TRUE(server_->is_deaf());
  serve(RequestServer::kDeafness);
  EXPECT_FALSE(server_->is_deaf());
  say(client, 8, "snapshot");
  serve(RequestServer::kDeafness);
  serve(RequestServer::kDeafness);
  EXPECT_THAT(asked_, ElementsAre("snapshot"));
}

TEST_F(ServerTest, ServesAFewAtOnceAndSendsOthersAway) {
  std::vector<Descriptor> clients;
  for (std::size_t i = 0; i < RequestServer::kMostClients + 2; ++i) clients.push_back(connect());
  serve(Duration{0});
  EXPECT_EQ(heard(clients.front()), "(nothing)");  // waited for
  EXPECT_EQ(heard(clients.back()), "");            // sent away
  clients.erase(clients.begin(), clients.end() - 2);
  serve(Duration{0});
  EXPECT_FALSE(server_->has_clients());
  const Descriptor again = connect();
  serve(Duration{0});
  say(again, 8, "snapshot");
  serve(Duration{0});
  EXPECT_THAT(asked_, ElementsAre("snapshot"));
}

}  // namespace
}  // namespace forebay::detail
