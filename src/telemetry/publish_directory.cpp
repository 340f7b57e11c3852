#include "telemetry/publish_directory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): kill is POSIX
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/text.hpp"

namespace forebay::detail {
namespace {

constexpr std::string_view kStats = ".stats";
constexpr std::string_view kSocket = ".sock";

Status refused(const std::string& path, std::string_view why) {
  return {Code::failed_precondition, fmt::format("{}: {}", printable_text(path), why)};
}

Status from_errno(const std::string& path, std::string_view what) {
  const Code code = errno == ENOENT ? Code::not_found : Code::io_error;
  return {code, fmt::format("{}: cannot {}: {}", printable_text(path), what, std::strerror(errno))};
}

// What it is a directory in: "/tmp" of "/tmp/forebay-1000".
std::string parent_of(const std::string& path) {
  const auto slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status check_parent(const std::string& path, int descriptor) {
  struct stat about {};
  if (::fstat(descriptor, &about) != 0) return from_errno(path, "look at it");
  if (about.st_uid != 0 && about.st_uid != ::geteuid()) {
    return refused(path, "belongs to somebody else; allowed: root's or our own");
  }
  const bool others_write = (about.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if (others_write && (about.st_mode & S_ISVTX) == 0) {
    return refused(path, "others may change it; allowed: not writable for them, or sticky");
  }
  return {};
}

Status check_directory(const std::string& path, int descriptor) {
  struct stat about {};
  if (::fstat(descriptor, &about) != 0) return from_errno(path, "look at it");
  if (about.st_uid != ::geteuid()) return refused(path, "belongs to somebody else");
  if ((about.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return refused(
        path, fmt::format("is open to others (mode {:04o}); allowed: 0700", about.st_mode & 07777));
  }
  return {};
}

Result<Descriptor> open_directory(int at, const std::string& name, const std::string& path) {
  Descriptor directory{::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
  if (directory.is_open()) return directory;
  if (errno == ELOOP || errno == ENOTDIR) {
    return refused(path, "is no directory, or a symbolic link; allowed: a directory");
  }
  return from_errno(path, "open it");
}

Result<Descriptor> open_checked(std::string path, bool make) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::string parent = parent_of(path);
  const std::string name = path.substr(path.find_last_of('/') + 1);
  if (name.empty() || name == "." || name == "..") {
    return refused(path, "allowed: a directory of its own");
  }
  auto above = open_directory(AT_FDCWD, parent, parent);
  if (!above.ok()) return above.status();
  if (Status status = check_parent(parent, above->get()); !status.ok()) return status;
  if (make && ::mkdirat(above->get(), name.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    return from_errno(path, "make it");
  }
  auto directory = open_directory(above->get(), name, path);
  if (!directory.ok()) return directory.status();
  if (Status status = check_directory(path, directory->get()); !status.ok()) return status;
  return directory;
}

// 123 of "123.stats" and "123.sock"; 0: another name.
std::int64_t pid_of(std::string_view name) noexcept {
  std::int64_t pid = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
  if (error != std::errc{} || pid <= 0) return 0;
  const std::string_view rest{end, static_cast<std::size_t>(name.data() + name.size() - end)};
  return rest == kStats || rest == kSocket ? pid : 0;
}

Descriptor open_file(const Descriptor& directory, const std::string& name) noexcept {
  // O_NONBLOCK: a pipe in its place must not make us wait.
  return Descriptor{
      ::openat(directory.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
}

bool is_our_file(const Descriptor& file) noexcept {
  struct stat about {};
  return ::fstat(file.get(), &about) == 0 && S_ISREG(about.st_mode) && about.st_uid == ::geteuid();
}

struct flock whole_file(short type) noexcept {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

// Its segment is not locked, and no process has the number: a living one's lock may be about to
// come. (Our own number: of one that had it before us; our files are not there yet.)
bool is_gone(const Descriptor& directory, std::int64_t pid) {
  const Descriptor file = open_file(directory, stats_name(pid));
  if (file.is_open() && is_locked(file)) return false;
  return pid == ::getpid() || (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH);
}

}  // namespace

std::string publish_directory_path(const std::string& asked) {
  if (!asked.empty()) return asked;
  const char* const runtime = ::secure_getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && *runtime == '/') return fmt::format("{}/forebay", runtime);
  return fmt::format("/tmp/forebay-{}", ::geteuid());
}

Result<Descriptor> open_publish_directory(const std::string& path) {
  return open_checked(path, false);
}
Result<Descriptor> make_publish_directory(const std::string& path) {
  return open_checked(path, true);
}

std::string stats_name(std::int64_t pid) { return fmt::format("{}{}", pid, kStats); }
std::string socket_name(std::int64_t pid) { return fmt::format("{}{}", pid, kSocket); }
std::string socket_path(const Descriptor& directory, std::int64_t pid) {
  return fmt::format("/proc/self/fd/{}/{}", directory.get(), socket_name(pid));
}

std::vector<std::int64_t> pids_in(const Descriptor& directory) {
  std::vector<std::int64_t> pids;
  // A description of its own, so that each look begins at the front.
  const int own = ::openat(directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return pids;
  const std::unique_ptr<DIR, int (*)(DIR*)> list{::fdopendir(own), ::closedir};
  if (list == nullptr) {
    ::close(own);
    return pids;
  }
  while (const dirent* const entry = ::readdir(list.get())) {
    if (const std::int64_t pid = pid_of(entry->d_name); pid != 0) pids.push_back(pid);
  }
  std::ranges::sort(pids);
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

bool lock_for_life(const Descriptor& file) noexcept {
  struct flock lock = whole_file(F_WRLCK);
  return ::fcntl(file.get(), F_OFD_SETLK, &lock) == 0;
}

bool is_locked(const Descriptor& file) noexcept {
  struct flock lock = whole_file(F_RDLCK);
  return ::fcntl(file.get(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

Result<Descriptor> open_stats(const Descriptor& directory, std::int64_t pid) {
  Descriptor file = open_file(directory, stats_name(pid));
  if (file.is_open() && is_our_file(file) && is_locked(file)) return file;
  return Status{Code::not_found, fmt::format("process {} does not publish its statistics", pid)};
}

void remove_stale_files(const Descriptor& directory) noexcept {
  try {
    for (const std::int64_t pid : pids_in(directory)) {
      if (is_gone(directory, pid)) remove_files_of(directory, pid);
    }
  } catch (const std::bad_alloc&) {  // the next one removes them
  }
}

void remove_files_of(const Descriptor& directory, std::int64_t pid) noexcept {
  constexpr std::size_t kRoom = 32;
  char name[kRoom];
  for (const std::string_view end : {kStats, kSocket}) {
    *fmt::format_to_n(name, kRoom - 1, "{}{}", pid, end).out = '\0';
    ::unlinkat(directory.get(), name, 0);
  }
}

}  // namespace forebay::detail
