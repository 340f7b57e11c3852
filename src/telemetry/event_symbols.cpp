#include "telemetry/event_symbols.hpp"

#include <cxxabi.h>
#include <elf.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/text.hpp"

namespace forebay::events {
namespace {

constexpr std::uint64_t kMostTable = 64ULL << 20;    // bytes of symbols, or of their names
constexpr std::uint64_t kMostMemory = 256ULL << 20;  // of all files together
constexpr std::size_t kMostName = 4096;

class ElfFile {
 public:
  explicit ElfFile(const Input& input) : input_(input) {}

  // Nothing where the file does not hold what it should.
  std::optional<SymbolFile> read() {
    Elf64_Ehdr head;
    if (!take(0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
        head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB) {
      return std::nullopt;
    }
    SymbolFile file;
    for (const auto& segment : table<Elf64_Phdr>(head.e_phoff, head.e_phnum, head.e_phentsize)) {
      if (segment.p_type == PT_LOAD) {
        file.segments.push_back({segment.p_offset, segment.p_filesz, segment.p_vaddr});
      }
    }
    const auto sections = table<Elf64_Shdr>(head.e_shoff, head.e_shnum, head.e_shentsize);
    // A stripped file has its exported functions left.
    for (const Elf64_Word type : {Elf64_Word{SHT_SYMTAB}, Elf64_Word{SHT_DYNSYM}}) {
      const auto section = std::ranges::find(sections, type, &Elf64_Shdr::sh_type);
      if (section == sections.end() || section->sh_link >= sections.size()) continue;
      read_functions(*section, sections[section->sh_link], file);
      if (!file.symbols.empty()) break;
    }
    std::ranges::sort(file.symbols, {}, &Symbol::start);
    return file;
  }

 private:
  bool fits(std::uint64_t offset, std::uint64_t bytes) const {
    return offset <= input_.size() && bytes <= input_.size() - offset;
  }
  template <typename T>
  bool take(std::uint64_t offset, T& value) const {
    return fits(offset, sizeof value) &&
           input_.read(offset, std::as_writable_bytes(std::span{&value, 1})).ok();
  }
  template <typename T>
  std::vector<T> table(std::uint64_t offset, std::uint64_t count, std::uint64_t entry) const {
    if (entry != sizeof(T) || count > kMostTable / sizeof(T) || !fits(offset, count * sizeof(T))) {
      return {};
    }
    std::vector<T> entries(count);
    if (!input_.read(offset, std::as_writable_bytes(std::span{entries})).ok()) return {};
    return entries;
  }

  void read_functions(const Elf64_Shdr& section, const Elf64_Shdr& names, SymbolFile& file) const {
    const auto entries = table<Elf64_Sym>(section.sh_offset, section.sh_size / sizeof(Elf64_Sym),
                                          section.sh_entsize);
    file.names = table<char>(names.sh_offset, names.sh_size, 1);
    const auto is_function = [&](const Elf64_Sym& entry) {
      const unsigned type = ELF64_ST_TYPE(entry.st_info);
      const bool is_code = type == STT_FUNC || type == STT_GNU_IFUNC;
      return is_code && entry.st_shndx != SHN_UNDEF && entry.st_name < file.names.size();
    };
    file.symbols.reserve(static_cast<std::size_t>(std::ranges::count_if(entries, is_function)));
    for (const Elf64_Sym& entry : entries) {
      if (is_function(entry))
        file.symbols.push_back({entry.st_value, entry.st_size, entry.st_name});
    }
  }

  const Input& input_;
};

// References to what stands before (S_, S0_, T_, TL0__ and the like) let each character double the
// text, and an expansion of a pack (Dp) repeats it for each of the pack's types. With k references
// the text grows at most e^(k/e) times: 350 times with 16. Names beyond that are one in a hundred
// of the C++ standard library's, LLVM's and Protocol Buffers'.
bool may_be_demangled(std::string_view name) noexcept {
  constexpr std::size_t kLongest = 1024;
  constexpr std::size_t kMostReferences = 16;
  constexpr std::size_t kPack = 8;  // references that one expansion counts as
  if (name.size() > kLongest) return false;
  // GCC 12's demangler does not come back from "_Z1fIXsryID": a scope within an expression (sr),
  // which only stands where one of these letters does.
  const bool has_expression = name.find_first_of("XDA") != std::string_view::npos;
  if (has_expression && name.find("sr") != std::string_view::npos) return false;
  std::size_t references = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name.substr(i).starts_with("Dp")) references += kPack;
    if (name[i] != 'S' && name[i] != 'T') continue;
    const std::size_t end = name.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", i + 1);
    if (end != std::string_view::npos && name[end] == '_') ++references;
  }
  return references <= kMostReferences;
}

}  // namespace

std::string demangled(const std::string& name) {
  if (!may_be_demangled(name)) return name;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text{
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free};
  constexpr std::size_t kMostText = 64 << 10;
  const bool is_shown = status == 0 && text && std::strlen(text.get()) <= kMostText;
  return is_shown ? text.get() : name;
}

std::string_view SymbolFile::name_of(const Symbol& symbol) const noexcept {
  const std::string_view rest{names.data() + symbol.name, names.size() - symbol.name};
  return rest.substr(0, std::min(rest.find('\0'), kMostName));
}

std::uint64_t SymbolFile::memory() const noexcept {
  return segments.capacity() * sizeof(Segment) + symbols.capacity() * sizeof(Symbol) +
         names.capacity();
}

Result<SymbolFile> read_symbols(const std::string& path) {
  if (!path.starts_with('/')) {
    return Status{Code::invalid_argument,
                  detail::printable_text(path) + ": no absolute path; allowed: one"};
  }
  const auto input = open_input(path);
  if (!input.ok()) return input.status();
  auto file = ElfFile{**input}.read();
  if (!file) {
    return Status{Code::corrupt_data, detail::printable_text(path) + ": no ELF file of 64 bits"};
  }
  file->changed_ns = (*input)->changed_ns();
  return std::move(*file);
}

std::string Namer::function_at(const Module& module, std::uint64_t offset) {
  auto [place, is_new] = files_.try_emplace(module.path);
  if (is_new && memory_ < kMostMemory) {
    if (auto read = read_symbols(module.path); read.ok()) {
      memory_ += read->memory();
      place->second = std::move(*read);
    }
  }
  if (!place->second) return {};
  const SymbolFile& file = *place->second;
  const auto segment =
      std::ranges::find_if(file.segments, [&](const SymbolFile::Segment& candidate) {
        return offset - candidate.offset < candidate.size;
      });
  if (segment == file.segments.end()) return {};
  const std::uint64_t address = offset - segment->offset + segment->address;
  const auto after = std::ranges::upper_bound(file.symbols, address, {}, &Symbol::start);
  if (after == file.symbols.begin()) return {};
  const Symbol& symbol = *(after - 1);
  // Functions written in assembly may say no size.
  const bool within = symbol.size == 0 || address - symbol.start < symbol.size;
  return within ? demangled(std::string{file.name_of(symbol)}) : std::string{};
}

PlaceName Namer::name_of(const Stack& stack, std::uint64_t frame) {
  PlaceName place;
  const Module* const module = contents_.names.module_of(stack, frame);
  place.offset = frame - 1;
  if (module != nullptr) {
    place.module = module->path;
    place.offset = frame - 1 - module->start + module->offset;
  }
  const auto known = contents_.names.functions.find(frame);
  if (known != contents_.names.functions.end()) {
    place.function = known->second;
  } else if (module != nullptr) {
    place.function = function_at(*module, place.offset);
  }
  return place;
}

std::vector<std::string> Namer::newer_files() const {
  std::vector<std::string> newer;
  for (const auto& [path, file] : files_) {
    if (file && file->changed_ns > static_cast<std::int64_t>(contents_.wall_ns)) {
      newer.push_back(path);
    }
  }
  return newer;
}

}  // namespace forebay::events
