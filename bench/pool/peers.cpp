#include "pool/peers.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

namespace forebay::bench {
namespace {

struct Library {
  const char* name;
  const char* file;
  const char* package;
  const char* take;
  const char* give;
  const char* give_sized;    // or null
  const char* give_flagged;  // or null
  const char* usable;
};

constexpr Library kLibraries[] = {
    {"jemalloc", "libjemalloc.so.2", "libjemalloc2", "malloc", "free", nullptr, "sdallocx",
     "malloc_usable_size"},
    {"tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4", "tc_malloc", "tc_free",
     "tc_free_sized", nullptr, "tc_malloc_size"},
    {"mimalloc", "libmimalloc.so.2.0", "libmimalloc2.0", "mi_malloc", "mi_free", "mi_free_size",
     nullptr, "mi_usable_size"},
    {"tbbmalloc", "libtbbmalloc.so.2", "libtbbmalloc2", "scalable_malloc", "scalable_free", nullptr,
     nullptr, "scalable_msize"},
};

template <typename Function>
Function find(void* library, const char* name) {
  if (name == nullptr) return nullptr;
  return reinterpret_cast<Function>(dlsym(library, name));
}

std::size_t glibc_bytes() {
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

void give_back(const Peer& peer, void* block, std::size_t bytes) {
  if (peer.give_flagged != nullptr) return peer.give_flagged(block, bytes, 0);
  if (peer.give_sized != nullptr) return peer.give_sized(block, bytes);
  peer.give(block);
}

// Takes blocks and sees whether glibc counts them as its own.
bool glibc_counts(const Peer& peer) {
  constexpr std::size_t kBytes = 10'000;
  constexpr std::size_t kCount = 1000;
  std::vector<void*> blocks(kCount);
  const std::size_t before = glibc_bytes();
  for (void*& block : blocks) block = peer.take(kBytes);
  const std::size_t after = glibc_bytes();
  for (void* block : blocks) give_back(peer, block, kBytes);
  return after >= before + kBytes * kCount;
}

void prove(Peer& peer, void* library, const Library& what) {
  Dl_info place{};
  dladdr(reinterpret_cast<void*>(peer.take), &place);
  if (glibc_counts(peer)) {
    throw std::runtime_error{fmt::format("peer {}: its blocks are counted by glibc", peer.name)};
  }
  void* const block = peer.take(1000);
  const auto usable = find<std::size_t (*)(void*)>(library, what.usable);
  const std::size_t size = usable == nullptr ? 0 : usable(block);
  give_back(peer, block, 1000);
  peer.proof = fmt::format("{} in {}; glibc's counters do not move; 1000 B take {} B (glibc {})",
                           what.take, place.dli_fname == nullptr ? "?" : place.dli_fname, size, [] {
                             void* const own = std::malloc(1000);
                             const std::size_t own_size = malloc_usable_size(own);
                             std::free(own);
                             return own_size;
                           }());
}

Peer glibc() {
  Peer peer;
  peer.name = "glibc";
  peer.take = &std::malloc;
  peer.give = &std::free;
  if (!glibc_counts(peer)) {
    throw std::runtime_error{"malloc is not glibc's here; run without LD_PRELOAD"};
  }
  peer.proof = "malloc of this process; glibc's counters move";
  return peer;
}

void load(const Library& what, bool sized_free, Peers& peers) {
  void* const library = dlopen(what.file, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (library == nullptr) {
    const char* const why = dlerror();
    peers.missing.push_back(fmt::format("peer {}: not here (package {}): {}", what.name,
                                        what.package, why == nullptr ? "unknown" : why));
    return;
  }
  Peer peer;
  peer.name = what.name;
  peer.take = find<Peer::Take>(library, what.take);
  if (sized_free) {
    peer.give_sized = find<Peer::GiveSized>(library, what.give_sized);
    peer.give_flagged = find<Peer::GiveFlagged>(library, what.give_flagged);
  }
  if (peer.give_sized == nullptr && peer.give_flagged == nullptr) {
    peer.give = find<Peer::Give>(library, what.give);
  }
  if (peer.take == nullptr ||
      (peer.give == nullptr && peer.give_sized == nullptr && peer.give_flagged == nullptr)) {
    peers.missing.push_back(fmt::format("peer {}: {} has no {}", what.name, what.file, what.take));
    return;
  }
  prove(peer, library, what);
  peers.here.push_back(std::move(peer));
}

}  // namespace

const std::vector<std::string>& known_peers() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all{"glibc"};
    for (const Library& library : kLibraries) all.emplace_back(library.name);
    all.emplace_back("pmr");
    return all;
  }();
  return names;
}

Peers load_peers(const std::vector<std::string>& wanted, bool sized_free) {
  const auto is_wanted = [&](std::string_view name) {
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
  };
  Peers peers;
  peers.pmr = is_wanted("pmr");
  if (is_wanted("glibc")) peers.here.push_back(glibc());
  for (const Library& library : kLibraries) {
    if (is_wanted(library.name)) load(library, sized_free, peers);
  }
  return peers;
}

void restart_with_room_for_peers(char** argv) {
  constexpr std::string_view kRoom = "glibc.rtld.optional_static_tls=16384";
  const char* const now = std::getenv("GLIBC_TUNABLES");
  std::string tunables = now == nullptr ? "" : now;
  if (tunables.find(kRoom) != std::string::npos) return;
  tunables += (tunables.empty() ? "" : ":") + std::string{kRoom};
  setenv("GLIBC_TUNABLES", tunables.c_str(), 1);
  // tcmalloc would grow the heap segment, in the middle of glibc's; each keeps to its own.
  setenv("TCMALLOC_SKIP_SBRK", "1", 0);
  // mimalloc 3 asks for huge pages unless told not to, and then faults 2 MiB for each block.
  setenv("MIMALLOC_ALLOW_THP", "0", 0);
  execv("/proc/self/exe", argv);
}

}  // namespace forebay::bench
