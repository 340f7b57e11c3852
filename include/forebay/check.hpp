// Three grades of check, none of them for user input (that is what Status is for).
//
//   FOREBAY_CHECK(cond, why)   always compiled in; prints and aborts.
//   FOREBAY_DCHECK(cond, why)  debug builds only.
//   validate() walkers          whole-structure checks, called by tests and, in builds
//                               with FOREBAY_PARANOID, by the library itself.
//
// A failed check prints one line to standard error and calls std::abort().
#pragma once

#pragma GCC visibility push(default)
namespace forebay::detail {
[[noreturn]] void check_failed(const char* condition, const char* why, const char* file,
                               int line) noexcept;
}  // namespace forebay::detail
#pragma GCC visibility pop

#define FOREBAY_CHECK(condition, why) \
  ((condition) ? static_cast<void>(0) \
               : ::forebay::detail::check_failed(#condition, why, __FILE__, __LINE__))

#if defined(NDEBUG) && !defined(FOREBAY_PARANOID)
#define FOREBAY_DCHECK(condition, why) static_cast<void>(0)
#else
#define FOREBAY_DCHECK(condition, why) FOREBAY_CHECK(condition, why)
#endif
