#include "track/elf_symbols.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

namespace forebay::detail {
namespace {

constexpr std::size_t kMostSections = 1U << 16;
constexpr std::size_t kMostSymbols = 1U << 24;  // 384 MiB of file; the largest libraries have 2 M
constexpr std::size_t kLongestName = 8192;

bool is_ours(const Elf64_Ehdr& header) {
  constexpr auto kOrder = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
  return std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
         header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == kOrder;
}

bool is_function(const Elf64_Sym& symbol) {
  const auto type = ELF64_ST_TYPE(symbol.st_info);
  return (type == STT_FUNC || type == STT_GNU_IFUNC) && symbol.st_shndx != SHN_UNDEF &&
         symbol.st_value != 0;
}

}  // namespace

class ElfSymbols::File {
 public:
  // Nonblocking: what is named may be a pipe by now.
  explicit File(const std::string& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat now {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &now) != 0 || !S_ISREG(now.st_mode)) return;
    version_ = {now.st_dev, now.st_ino, static_cast<std::uint64_t>(now.st_size), now.st_mtim.tv_sec,
                now.st_mtim.tv_nsec};
  }
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // Of nothing: all zero, and nothing can be read.
  const Version& version() const { return version_; }
  bool has(std::uint64_t offset, std::uint64_t bytes) const {
    return offset <= version_.bytes && bytes <= version_.bytes - offset;
  }
  bool read(std::uint64_t offset, void* to, std::uint64_t bytes) const {
    if (!has(offset, bytes)) return false;
    auto* next = static_cast<char*>(to);
    while (bytes != 0) {
      const ssize_t count = ::pread(descriptor_, next, bytes, static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      next += count;
      offset += static_cast<std::uint64_t>(count);
      bytes -= static_cast<std::uint64_t>(count);
    }
    return true;
  }
  template <typename T>
  std::optional<T> get(std::uint64_t offset) const {
    T value{};
    if (!read(offset, &value, sizeof value)) return std::nullopt;
    return value;
  }
  // Memory is taken for what the file has, not for what it says.
  template <typename T>
  std::vector<T> array(std::uint64_t offset, std::uint64_t count, std::uint64_t most) const {
    if (count > most || !has(offset, count * sizeof(T))) return {};
    std::vector<T> values(count);
    if (!read(offset, values.data(), count * sizeof(T))) values.clear();
    return values;
  }

 private:
  const int descriptor_;
  Version version_;
};

ElfSymbols::ElfSymbols(std::string path, std::span<const unsigned char> headers)
    : path_(std::move(path)) {
  const File file{path_};
  version_ = file.version();
  read(file, headers);
}

void ElfSymbols::read(const File& file, std::span<const unsigned char> headers) {
  const auto elf = file.get<Elf64_Ehdr>(0);
  if (!elf || !is_ours(*elf) || elf->e_shentsize != sizeof(Elf64_Shdr)) return;
  if (!headers.empty()) {
    const auto there = file.array<unsigned char>(elf->e_phoff, headers.size(), headers.size());
    if (!std::equal(there.begin(), there.end(), headers.begin(), headers.end())) return;
  }
  const auto sections = file.array<Elf64_Shdr>(elf->e_shoff, elf->e_shnum, kMostSections);
  const auto of_type = [&](std::uint32_t type) {
    return std::find_if(sections.begin(), sections.end(),
                        [=](const Elf64_Shdr& section) { return section.sh_type == type; });
  };
  // All functions, or if that table was stripped, those that others may call.
  auto table = of_type(SHT_SYMTAB);
  if (table == sections.end()) table = of_type(SHT_DYNSYM);
  if (table == sections.end() || table->sh_entsize != sizeof(Elf64_Sym)) return;
  if (table->sh_link >= sections.size()) return;
  const Elf64_Shdr& strings = sections[table->sh_link];
  if (strings.sh_type != SHT_STRTAB || !file.has(strings.sh_offset, strings.sh_size)) return;
  strings_ = strings.sh_offset;
  strings_bytes_ = strings.sh_size;
  for (const Elf64_Sym& symbol :
       file.array<Elf64_Sym>(table->sh_offset, table->sh_size / sizeof(Elf64_Sym), kMostSymbols)) {
    if (!is_function(symbol) || symbol.st_name >= strings_bytes_) continue;
    constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
    const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(symbol.st_size, kMost));
    functions_.push_back({symbol.st_value, bytes, symbol.st_name});
  }
  // Of names for one place, the one with a size; else the first in the file.
  std::stable_sort(functions_.begin(), functions_.end(), [](const Function& a, const Function& b) {
    return a.start != b.start ? a.start < b.start : a.bytes < b.bytes;
  });
  functions_.shrink_to_fit();
}

std::string ElfSymbols::name_at(std::uint64_t address) const {
  auto after = std::upper_bound(functions_.begin(), functions_.end(), address,
                                [](std::uint64_t at, const Function& f) { return at < f.start; });
  if (after == functions_.begin()) return {};
  const Function& function = *--after;
  // Without a size (assembly): up to the next one.
  if (function.bytes != 0 && address - function.start >= function.bytes) return {};
  const File file{path_};
  if (file.version() != version_) return {};
  std::array<char, kLongestName> text{};
  const std::uint64_t bytes = std::min<std::uint64_t>(text.size(), strings_bytes_ - function.name);
  if (!file.read(strings_ + function.name, text.data(), bytes)) return {};
  return {text.data(), ::strnlen(text.data(), bytes)};
}

}  // namespace forebay::detail
