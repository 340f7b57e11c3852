// The general mallocs that pools are compared with, loaded into this very process.
//
// Each is opened for itself (RTLD_LOCAL, RTLD_DEEPBIND) and called through pointers, so that
// its code runs and this program's own malloc stays glibc's. One that is not installed is
// not an error. Blocks go back with their size where the peer has a door for that: it is the
// faster one, and the pool is told the size too.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace forebay::bench {

struct Peer {
  using Take = void* (*)(std::size_t);
  using Give = void (*)(void*);
  using GiveSized = void (*)(void*, std::size_t);
  using GiveFlagged = void (*)(void*, std::size_t, int);  // jemalloc's

  std::string name;
  Take take = nullptr;
  // Exactly one of these is set.
  Give give = nullptr;
  GiveSized give_sized = nullptr;
  GiveFlagged give_flagged = nullptr;
  std::string proof;  // how we know that its code runs
};

struct Peers {
  std::vector<Peer> here;
  std::vector<std::string> missing;  // a line each
  bool with_ours = true;             // not where only the others are looked at
  bool pmr = false;                  // whether the standard library's pools take part
};

// `wanted`: names, or empty for all. `sized_free`: blocks go back with their size where a peer has
// a door for that (measured here: no faster than without). Throws std::runtime_error if a peer is
// here but its blocks turn out to be glibc's.
Peers load_peers(const std::vector<std::string>& wanted, bool sized_free);
const std::vector<std::string>& known_peers();

// Some peers want more static TLS than a process that opens them late has left, and some are
// told by the environment what they need to be comparable: runs this program again with both,
// unless it already has them. Returns if so, or if it cannot.
void restart_with_room_for_peers(char** argv);

}  // namespace forebay::bench
