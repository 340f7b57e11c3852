// The directory in which processes of one user find each other.
//
//   PID.stats   the segment; locked (fcntl) as long as its process lives
//   PID.sock    where snapshots are asked for
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forebay/status.hpp"
#include "telemetry/descriptor.hpp"

#pragma GCC visibility push(default)  // the command uses it
namespace forebay::detail {

// `asked`, or $XDG_RUNTIME_DIR/forebay (if that is set and the program has no more rights than its
// user), or /tmp/forebay-UID.
std::string publish_directory_path(const std::string& asked);

// Opens it. It must be ours, for us alone (0700) and no symbolic link, in a directory that is no
// link either, of us or root, and not open to others' changes (or sticky, as /tmp). Errors:
// not_found; failed_precondition says what is wrong; io_error.
Result<Descriptor> open_publish_directory(const std::string& path);
// The same; makes it (0700) if it is not there.
Result<Descriptor> make_publish_directory(const std::string& path);

std::string stats_name(std::int64_t pid);   // "123.stats"
std::string socket_name(std::int64_t pid);  // "123.sock"
// Where to bind() and connect(): through the open directory, so that no path is too long, and
// nobody can change it in between.
std::string socket_path(const Descriptor& directory, std::int64_t pid);

// Whose files are there, living or not, ascending.
std::vector<std::int64_t> pids_in(const Descriptor& directory);

// Locks a segment until it is closed everywhere: the lock ends with the process, however that does.
bool lock_for_life(const Descriptor& file) noexcept;
// Whether its process lives.
bool is_locked(const Descriptor& file) noexcept;
// A segment for reading: one of ours, a plain file, with a process behind it. Error: not_found.
Result<Descriptor> open_stats(const Descriptor& directory, std::int64_t pid);

// Removes the files of processes that are gone. REQUIRES: this one does not publish there yet.
void remove_stale_files(const Descriptor& directory) noexcept;
void remove_files_of(const Descriptor& directory, std::int64_t pid) noexcept;

}  // namespace forebay::detail
#pragma GCC visibility pop
