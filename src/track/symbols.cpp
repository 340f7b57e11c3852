#include <cxxabi.h>
#include <link.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "track/elf_symbols.hpp"
#include "track/stack.hpp"

namespace forebay::detail {
namespace {

// The object that an address is in. Copied: it may be unloaded once the loader's lock is released.
struct Object {
  std::uintptr_t address = 0;  // asked for
  bool found = false;
  std::uintptr_t base = 0;
  std::uint64_t offset = 0;  // of the address, in the file
  std::array<char, 4096> path{};
  std::array<unsigned char, 64 * sizeof(ElfW(Phdr))> headers{};
  std::size_t headers_bytes = 0;
};

const ElfW(Phdr) * segment_of(const dl_phdr_info& info, std::uintptr_t address) noexcept {
  for (std::size_t i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    if (address - info.dlpi_addr - segment.p_vaddr < segment.p_memsz) return &segment;
  }
  return nullptr;
}

// Under the loader's lock, and so without allocation, which may come back to the loader.
int look_at_object(dl_phdr_info* info, std::size_t, void* into) noexcept {
  auto& object = *static_cast<Object*>(into);
  const ElfW(Phdr)* const segment = segment_of(*info, object.address);
  if (segment == nullptr) return 0;
  object.found = true;
  object.base = info->dlpi_addr;
  object.offset = object.address - info->dlpi_addr - segment->p_vaddr + segment->p_offset;
  if (info->dlpi_name != nullptr) {
    for (std::size_t i = 0; i + 1 < object.path.size() && info->dlpi_name[i] != 0; ++i) {
      object.path[i] = info->dlpi_name[i];
    }
  }
  const std::size_t bytes = info->dlpi_phnum * sizeof(ElfW(Phdr));
  if (bytes <= object.headers.size()) {
    const auto* const headers = reinterpret_cast<const unsigned char*>(info->dlpi_phdr);
    for (std::size_t i = 0; i < bytes; ++i) object.headers[i] = headers[i];
    object.headers_bytes = bytes;
  }
  return 1;
}

std::string path_of_program() {
  std::array<char, 4096> path{};
  const ssize_t bytes = ::readlink("/proc/self/exe", path.data(), path.size());
  return bytes > 0 ? std::string(path.data(), static_cast<std::size_t>(bytes)) : std::string{};
}

// Deep names take much stack to make readable; such stay as they are.
std::string demangled(std::string name) {
  constexpr std::size_t kLongest = 2048;
  if (name.size() > kLongest || !name.starts_with("_Z")) return name;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text{
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free};
  return status == 0 && text ? std::string{text.get()} : name;
}

// The files that were read. An object that was replaced is read again. Never destroyed: reports
// are written at the end of the process too.
class Files {
 public:
  std::string name(const Object& object, const std::string& file) {
    const std::lock_guard lock{mutex_};
    const std::span headers{object.headers.data(), object.headers_bytes};
    Key key{file, {headers.begin(), headers.end()}};
    auto known = symbols_.find(key);
    if (known == symbols_.end()) {
      if (symbols_.size() == kMost) symbols_.clear();
      known = symbols_.emplace(std::move(key), ElfSymbols{file, headers}).first;
    }
    return known->second.name_at(object.address - object.base);
  }

 private:
  static constexpr std::size_t kMost = 256;
  using Key = std::pair<std::string, std::basic_string<unsigned char>>;
  std::mutex mutex_;
  std::map<Key, ElfSymbols> symbols_;
};

Files& files() {
  static auto* const the = new Files;
  return *the;
}

}  // namespace

Frame symbolize(std::uintptr_t address) {
  Frame frame;
  frame.address = address;
  Object object;
  object.address = address;
  dl_iterate_phdr(look_at_object, &object);
  if (!object.found) return frame;
  frame.offset = object.offset;
  const bool is_program = object.path[0] == 0;
  frame.module = is_program ? path_of_program() : std::string{object.path.data()};
  // The program's own file is there even if its name is gone by now.
  const std::string file = is_program ? "/proc/self/exe" : frame.module;
  frame.function = demangled(files().name(object, file));
  return frame;
}

}  // namespace forebay::detail
