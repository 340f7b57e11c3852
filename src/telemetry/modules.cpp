#include "telemetry/modules.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <limits.h>
#include <link.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <string_view>

namespace forebay::detail {
namespace {

// The content of the note NT_GNU_BUILD_ID within one segment of notes, in hexadecimal.
std::string build_id_in(std::string_view notes) {
  const auto padded = [](std::size_t size) { return (size + 3) & ~std::size_t{3}; };
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note{};
    std::memcpy(&note, notes.data(), sizeof note);
    notes.remove_prefix(sizeof note);
    const std::size_t name = padded(note.n_namesz);
    const std::size_t content = padded(note.n_descsz);
    if (name > notes.size() || content > notes.size() - name) break;
    if (note.n_type == NT_GNU_BUILD_ID && notes.substr(0, 4) == std::string_view{"GNU\0", 4}) {
      std::string id;
      for (const char byte : notes.substr(name, note.n_descsz)) {
        id += fmt::format("{:02x}", static_cast<unsigned char>(byte));
      }
      return id;
    }
    notes.remove_prefix(name + content);
  }
  return {};
}

void add_module(const dl_phdr_info& info, LoadedModules& loaded) {
  SnapshotModule module;
  const bool is_program = info.dlpi_name == nullptr || *info.dlpi_name == '\0';
  module.path = is_program ? program_path() : info.dlpi_name;
  module.base = info.dlpi_addr;
  const auto index = static_cast<std::uint32_t>(loaded.modules.size());
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info.dlpi_phdr[i];
    const std::uintptr_t begin = info.dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0) {
      loaded.ranges.push_back({begin, begin + header.p_memsz, index});
    } else if (header.p_type == PT_NOTE && module.build_id.empty()) {
      // NOLINTNEXTLINE(performance-no-int-to-ptr): the loader gives addresses as numbers
      module.build_id = build_id_in({reinterpret_cast<const char*>(begin), header.p_memsz});
    }
  }
  loaded.modules.push_back(std::move(module));
}

struct Walk {
  LoadedModules loaded;
  bool out_of_memory = false;
};

// Nothing may be thrown through the loader's C code.
int visit_module(dl_phdr_info* info, std::size_t, void* context) {
  auto& walk = *static_cast<Walk*>(context);
  try {
    add_module(*info, walk.loaded);
    return 0;
  } catch (const std::bad_alloc&) {
    walk.out_of_memory = true;
    return 1;
  }
}

}  // namespace

LoadedModules LoadedModules::now() {
  Walk walk;
  ::dl_iterate_phdr(visit_module, &walk);
  if (walk.out_of_memory) throw std::bad_alloc{};
  std::ranges::sort(walk.loaded.ranges, {}, &Range::begin);
  return std::move(walk.loaded);
}

SnapshotFrame LoadedModules::place_of(std::uintptr_t address) const noexcept {
  const auto after = std::ranges::upper_bound(ranges, address, {}, &Range::begin);
  SnapshotFrame frame;
  frame.offset = address;
  if (after == ranges.begin()) return frame;
  const Range& range = *(after - 1);
  if (address >= range.end) return frame;
  frame.module = range.module + 1;
  frame.offset = address - modules[range.module].base;
  return frame;
}

std::string program_path() {
  std::array<char, PATH_MAX> path;
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  return size > 0 ? std::string{path.data(), static_cast<std::size_t>(size)} : "unknown";
}

}  // namespace forebay::detail
