// What memory holds, and how much of it is there.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "device/mapping.hpp"
#include "forebay/bytes.hpp"

namespace forebay {

inline bool all_zero(const void* data, Bytes bytes) {
  const auto* const first = static_cast<const unsigned char*>(data);
  return std::all_of(first, first + bytes.count(), [](unsigned char c) { return c == 0; });
}

// Pages of [data, data + bytes) that are in memory now.
inline std::size_t resident_pages(void* data, Bytes bytes) {
  std::vector<unsigned char> pages(bytes / detail::system_page());
  EXPECT_EQ(::mincore(data, bytes.count(), pages.data()), 0);
  return static_cast<std::size_t>(std::count_if(
      pages.begin(), pages.end(), [](unsigned char page) { return (page & 1) != 0; }));
}

}  // namespace forebay
