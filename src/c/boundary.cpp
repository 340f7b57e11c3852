#include "c/boundary.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace forebay::c {
namespace {

// Not a std::string: to keep a text must not fail.
thread_local constinit std::array<char, 1001> t_error{};

[[noreturn]] void refuse(std::string message) {
  throw Failure{Status{Code::invalid_argument, std::move(message)}};
}

std::size_t size_field(const void* structure) noexcept {
  std::size_t size = 0;
  std::memcpy(&size, structure, sizeof size);
  return size;
}

}  // namespace

forebay_status fail(forebay_status status, std::string_view text) noexcept {
  const std::size_t size = std::min(text.size(), t_error.size() - 1);
  std::memmove(t_error.data(), text.data(), size);
  t_error[size] = '\0';
  return status;
}

void require(const void* pointer, const char* name) {
  if (pointer == nullptr) refuse(fmt::format("{} is NULL", name));
}

std::string_view bytes_at(const void* bytes, size_t size, const char* name) {
  if (bytes == nullptr && size != 0) {
    refuse(fmt::format("{} is NULL, and its size is {}", name, size));
  }
  return {static_cast<const char*>(bytes), size};
}

void copy_options(void* to, std::size_t known, const void* from, const char* name) {
  const std::size_t size = size_field(from);
  // There is one version of each yet.
  if (size < known) {
    refuse(fmt::format("{}: size is {}, and must be sizeof, at least {}", name, size, known));
  }
  const auto* const bytes = static_cast<const unsigned char*>(from);
  const auto* const set =
      std::find_if(bytes + known, bytes + size, [](unsigned char byte) { return byte != 0; });
  if (set != bytes + size) {
    throw Failure{Status{Code::unsupported,
                         fmt::format("{}: byte {} is set, and this library, {}, knows {} of them",
                                     name, set - bytes, forebay_version(), known)}};
  }
  std::memcpy(to, from, known);
}

void check_figures(const void* figures, const char* name) {
  require(figures, name);
  const std::size_t size = size_field(figures);
  if (size < 2 * sizeof size) {
    refuse(fmt::format("{}: size is {}, and must be sizeof", name, size));
  }
}

}  // namespace forebay::c

// The door itself.

const char* forebay_version(void) { return FOREBAY_VERSION; }

const char* forebay_status_name(forebay_status status) {
  if (status >= FOREBAY_USER) return "user";
  if (status < FOREBAY_OK || status > FOREBAY_INTERRUPTED) return "unknown";
  return forebay::to_string(static_cast<forebay::Code>(status)).data();
}

const char* forebay_last_error(void) { return forebay::c::t_error.data(); }

forebay_status forebay_fail(forebay_status status, const char* text) {
  return forebay::c::fail(status, text == nullptr ? "" : text);
}
