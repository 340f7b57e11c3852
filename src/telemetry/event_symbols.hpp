// Names of functions from the files of programs and libraries: for recordings that were not
// closed, whose process could not name them itself.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/event_reader.hpp"

#pragma GCC visibility push(default)
namespace forebay::events {

struct Symbol {
  std::uint64_t start = 0;  // address as the file has it
  std::uint64_t size = 0;
  std::uint32_t name = 0;  // place in SymbolFile::names
};

// What one ELF file (64 bits, this machine's byte order) says. It is not trusted: one table of
// symbols and one of their names is read, neither larger than 64 MiB nor than the file.
struct SymbolFile {
  struct Segment {
    std::uint64_t offset = 0, size = 0, address = 0;
  };
  std::vector<Segment> segments;
  std::vector<Symbol> symbols;  // functions, by start
  std::vector<char> names;      // mangled, each with a zero behind it
  std::int64_t changed_ns = 0;  // since 1970

  // Cut after 4096 bytes. Valid as long as `names` is.
  std::string_view name_of(const Symbol& symbol) const noexcept;
  std::uint64_t memory() const noexcept;  // bytes
};
// Errors: invalid_argument (the path is not absolute); those of opening files; corrupt_data.
Result<SymbolFile> read_symbols(const std::string& path);

// A frame as a person reads it.
struct PlaceName {
  std::string function;      // demangled; empty: not known
  std::string module;        // path; empty: none
  std::uint64_t offset = 0;  // the call's, in that file; without a module, the address
};

// Names frames; reads each file once, until their tables have 256 MiB. Not thread-safe.
class Namer {
 public:
  explicit Namer(const Contents& contents) : contents_(contents) {}
  PlaceName name_of(const Stack& stack, std::uint64_t frame);
  // Files that names were read from and that are newer than the recording.
  std::vector<std::string> newer_files() const;

 private:
  std::string function_at(const Module& module, std::uint64_t offset);
  const Contents& contents_;
  std::map<std::string, std::optional<SymbolFile>> files_;
  std::uint64_t memory_ = 0;  // bytes of their tables
};

// "ns::type::function(args)" from "_ZN..."; others as they are, also those that are long or refer
// to so many of their own parts that the text could become too large.
std::string demangled(const std::string& name);

}  // namespace forebay::events
#pragma GCC visibility pop
