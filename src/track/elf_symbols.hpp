// ElfSymbols: the functions of an ELF file, by address.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace forebay::detail {

// Reads with pread alone, so that a file that is cut meanwhile is no fault; believes nothing that
// the file says of itself without a look at its size. Not thread-safe.
class ElfSymbols {
 public:
  ElfSymbols() noexcept = default;  // of nothing: names nothing
  // Empty as well if the file cannot be read, is not a whole ELF file of this machine's kind, or
  // its program headers are not `headers` (of the object in memory; empty: not compared): then it
  // is another file than the one that was loaded. Throws std::bad_alloc.
  explicit ElfSymbols(std::string path, std::span<const unsigned char> headers = {});

  // The name of the function at `address`, relative to where the file is loaded, as it is in the
  // file; empty if there is none, or the file is no longer the one that was read.
  std::string name_at(std::uint64_t address) const;
  bool empty() const noexcept { return functions_.empty(); }

 private:
  struct Function {
    std::uint64_t start;
    std::uint32_t bytes;
    std::uint32_t name;  // in the string table
  };
  struct Version {  // of the file
    std::uint64_t device = 0;
    std::uint64_t number = 0;
    std::uint64_t bytes = 0;
    std::int64_t seconds = 0;
    std::int64_t nanoseconds = 0;
    bool operator==(const Version&) const = default;
  };
  class File;
  void read(const File& file, std::span<const unsigned char> headers);

  std::string path_;
  Version version_;
  std::uint64_t strings_ = 0;  // the string table's place and size in the file
  std::uint64_t strings_bytes_ = 0;
  std::vector<Function> functions_;  // by start
};

}  // namespace forebay::detail
