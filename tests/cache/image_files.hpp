// Files of saved caches, for tests that look into them and damage them.
#pragma once

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cache/image.hpp"
#include "forebay/cache.hpp"

namespace forebay::testing {

inline std::string file_bytes(const std::string& path) {
  std::ifstream in{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}};
}
inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream{path, std::ios::binary | std::ios::trunc} << bytes;
}

// Keys in the order of the file. Empty if it is refused.
template <typename Key, typename Value>
std::vector<Key> keys_in(const std::string& path) {
  const CacheSerializer<Key, Value> serializer;
  auto file = detail::ImageReader::open(path, serializer.type());
  std::vector<Key> keys;
  std::string key;
  std::string value;
  while (file) {
    const auto record = file->next();
    if (!record) return {};
    if (record->kind == detail::ImageRecordKind::end) break;
    if (!file->read(*record, key, value).ok()) return {};
    keys.push_back(serializer.read_key(key).value());
  }
  return keys;
}

// Gives a file that was changed the checksums that belong to it, as far as it can be followed: what
// a reader meets then is what somebody wrote on purpose.
inline std::string with_checksums(std::string bytes) {
  detail::ImageHeader header;
  if (bytes.size() < sizeof header) return bytes;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::size_t at = sizeof header;
  if (header.type_length > bytes.size() - at) return bytes;
  const std::string_view all = bytes;
  header.checksum = detail::image_checksum(header, all.substr(at, header.type_length));
  std::memcpy(bytes.data(), &header, sizeof header);
  at += header.type_length;
  std::uint64_t sum = header.checksum;
  for (detail::ImageRecord record; bytes.size() - at >= sizeof record;) {
    std::memcpy(&record, bytes.data() + at, sizeof record);
    const std::size_t body = at + sizeof record;
    const bool entry = record.kind == detail::ImageRecordKind::entry;
    const std::uint64_t room = bytes.size() - body;
    if (entry && (record.key_length > room || record.value_length > room - record.key_length))
      break;
    sum = detail::image_checksum(record, sum);
    if (entry) {
      sum = detail::image_checksum_of(all.substr(body, record.key_length), sum);
      sum =
          detail::image_checksum_of(all.substr(body + record.key_length, record.value_length), sum);
    }
    record.checksum = sum;
    std::memcpy(bytes.data() + at, &record, sizeof record);
    at = body + (entry ? record.key_length + record.value_length : 0);
  }
  return bytes;
}

}  // namespace forebay::testing
