// What every function of the C door does: checks, statuses, the text of the latest failure.
#pragma once

#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

#include "forebay/forebay.h"
#include "forebay/status.hpp"

namespace forebay::c {

// Keeps the text for forebay_last_error(), and returns the status. Without memory it keeps less.
forebay_status fail(forebay_status status, std::string_view text) noexcept;
inline forebay_status fail(const Status& status) noexcept {
  return fail(static_cast<forebay_status>(status.code()), status.message());
}

// Runs `body`, which returns a forebay_status: no exception leaves.
template <typename Body>
forebay_status guarded(Body body) noexcept {
  try {
    return body();
  } catch (const Error& error) {
    return fail(error.status());
  } catch (const std::bad_alloc&) {
    return fail(FOREBAY_MEMORY_REFUSED, "the system has no memory left");
  } catch (const std::exception& error) {
    return fail(FOREBAY_FAILED_PRECONDITION, error.what());
  } catch (...) {
    return fail(FOREBAY_FAILED_PRECONDITION, "a callback threw what is no std::exception");
  }
}

// Throws Failure (invalid_argument) if it is null.
void require(const void* pointer, const char* name);
// Bytes of the caller's; null is allowed for none.
std::string_view bytes_at(const void* bytes, size_t size, const char* name);

// What a caller's options say, in this library's structure: fields that the caller's does not have
// are 0. Throws Failure.
void copy_options(void* to, std::size_t known, const void* from, const char* name);
template <typename Options>
Options options_of(const Options* given, const char* name) {
  static_assert(std::is_trivially_copyable_v<Options> && std::is_standard_layout_v<Options>);
  Options options{};
  if (given != nullptr) copy_options(&options, sizeof options, given, name);
  return options;
}

// Throws Failure unless figures of this size can be given.
void check_figures(const void* figures, const char* name);
// As much as the caller's structure has room for. REQUIRES: checked.
template <typename Figures>
void give_figures(Figures figures, Figures* to) noexcept {
  const std::size_t size = to->size < sizeof figures ? to->size : sizeof figures;
  figures.size = to->size;
  std::memcpy(to, &figures, size);
}

}  // namespace forebay::c
