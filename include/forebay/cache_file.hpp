// Files of saved caches: how keys and values become bytes, and what save() and load() report.
// Include cache.hpp.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "forebay/cache_core.hpp"

#pragma GCC visibility push(default)
namespace forebay {

// What save() wrote.
struct CacheSaved {
  std::uint64_t entries = 0;
  Bytes file;  // its size
};

// What became of the entries of a file; the sum of these is all of them.
struct CacheLoaded {
  std::uint64_t loaded = 0;
  std::uint64_t expired = 0;      // their time to live was over
  std::uint64_t did_not_fit = 0;  // the file's least valuable
  std::uint64_t present = 0;      // somebody put the key in meanwhile: that one stays
};

struct CacheLoadOptions {
  // What entries have aged since they were saved. None: as the machine's wall clock says, since a
  // deadline is about the world and not about the process; zero: they go on as if nothing had been.
  std::optional<Duration> down_for{};
};

namespace detail {

// Spelled as the compiler does.
template <typename T>
constexpr std::string_view spelled() noexcept {
  const std::string_view all = __PRETTY_FUNCTION__;
  const std::size_t begin = all.find("T = ") + 4;
  return all.substr(begin, all.find_first_of(";]", begin) - begin);
}

}  // namespace detail

// What memcpy copies whole: no pointers, nor views of what lies elsewhere. Members that point
// elsewhere are for whoever writes such a type to know of.
template <typename T>
concept PlainBytes = std::is_trivially_copyable_v<T> && !std::is_pointer_v<T> &&
                     !std::is_member_pointer_v<T> && !std::ranges::enable_borrowed_range<T>;

// How a T becomes bytes and comes back, for save() and load(). Ready for PlainBytes (padding is
// written as it is), std::string, vectors of PlainBytes, CacheBytes, and EpochKey of
// these. For another type specialise it with these three functions.
template <typename T>
struct AsBytes;

template <PlainBytes T>
struct AsBytes<T> {
  // What the file says that it holds. A file of other types is refused.
  static std::string name() {
    constexpr bool kFloat = std::is_floating_point_v<T>;
    const std::string size = std::to_string(sizeof(T) * 8);
    if (kFloat) return "f" + size;
    if (std::is_integral_v<T>) return (std::is_signed_v<T> ? "i" : "u") + size;
    return std::string{detail::spelled<T>()} + " of " + std::to_string(sizeof(T)) + " B";
  }
  // Appends.
  static void write(const T& value, std::string& bytes) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  // Error: what these bytes should be.
  static Result<T> read(std::string_view bytes) {
    std::array<std::byte, sizeof(T)> raw;
    if (bytes.size() != raw.size()) {
      return Status{Code::corrupt_data, std::to_string(bytes.size()) + " bytes for a " + name()};
    }
    std::memcpy(raw.data(), bytes.data(), raw.size());
    return std::bit_cast<T>(raw);
  }
};

template <>
struct AsBytes<std::string> {
  static std::string name() { return "text"; }
  static void write(const std::string& value, std::string& bytes) { bytes += value; }
  static Result<std::string> read(std::string_view bytes) { return std::string{bytes}; }
};

template <PlainBytes T>
struct AsBytes<std::vector<T>> {
  static std::string name() { return "list of " + AsBytes<T>::name(); }
  static void write(const std::vector<T>& values, std::string& bytes) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  static Result<std::vector<T>> read(std::string_view bytes) {
    if (bytes.size() % sizeof(T) != 0) {
      return Status{Code::corrupt_data, std::to_string(bytes.size()) + " bytes for a " + name()};
    }
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
};

template <>
struct AsBytes<CacheBytes> {
  static std::string name() { return "bytes"; }
  static void write(const CacheBytes& value, std::string& bytes) {
    bytes.append(reinterpret_cast<const char*>(value.bytes().data()), value.size());
  }
  // They are where they were given.
  static Result<std::span<const std::byte>> read(std::string_view bytes) {
    return std::as_bytes(std::span{bytes.data(), bytes.size()});
  }
};

template <typename Id>
struct AsBytes<EpochKey<Id>> {
  static std::string name() { return "epoch and " + AsBytes<Id>::name(); }
  static void write(const EpochKey<Id>& key, std::string& bytes) {
    AsBytes<std::uint64_t>::write(key.epoch, bytes);
    AsBytes<Id>::write(key.id, bytes);
  }
  static Result<EpochKey<Id>> read(std::string_view bytes) {
    auto epoch = AsBytes<std::uint64_t>::read(bytes.substr(0, sizeof(std::uint64_t)));
    if (!epoch) return epoch.status();
    auto id = AsBytes<Id>::read(bytes.substr(sizeof(std::uint64_t)));
    if (!id) return id.status();
    return EpochKey<Id>{*epoch, std::move(*id)};
  }
};

// What save() and load() use if they are given nothing else. Any other class will do that has
// these five functions. They are called with no lock held, and may throw.
template <typename Key, typename Value>
struct CacheSerializer {
  // A file of which this says something else is refused. At most 4096 bytes.
  std::string type() const { return AsBytes<Key>::name() + " to " + AsBytes<Value>::name(); }
  void write_key(const Key& key, std::string& bytes) const { AsBytes<Key>::write(key, bytes); }
  void write_value(const Value& value, std::string& bytes) const {
    AsBytes<Value>::write(value, bytes);
  }
  Result<Key> read_key(std::string_view bytes) const { return AsBytes<Key>::read(bytes); }
  // A Value or, for CacheBytes, any kind of bytes; or the Status that says what is wrong.
  auto read_value(std::string_view bytes) const { return AsBytes<Value>::read(bytes); }
};

namespace detail {

// A serializer without its types.
struct EntryForm {
  std::string type{};
  const void* context = nullptr;
  void (*write)(const void* context, const void* block, std::string& key,
                std::string& value) = nullptr;
  // An error: they cannot be read. No outcome: the cache has no room for it.
  Status (*put)(const void* context, std::string_view key, std::string_view value,
                const EntryOptions& options, std::optional<PutOutcome>& outcome) = nullptr;
};

}  // namespace detail
}  // namespace forebay
#pragma GCC visibility pop
