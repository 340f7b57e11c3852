// What is loaded into this process, and where.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "forebay/telemetry.hpp"

namespace forebay::detail {

struct LoadedModules {
  struct Range {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::uint32_t module = 0;  // index in modules
  };
  std::vector<SnapshotModule> modules;
  std::vector<Range> ranges;  // of code, by address

  // Takes the dynamic loader's lock; throws std::bad_alloc.
  static LoadedModules now();
  // Module (plus one) and offset of an address; without a module: 0 and the address. Safe in
  // a handler of signals.
  SnapshotFrame place_of(std::uintptr_t address) const noexcept;
};

// The path of this program; "unknown" if the system does not say.
std::string program_path();

}  // namespace forebay::detail
