#include "telemetry/process.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

namespace forebay::detail {
namespace {

constexpr std::int64_t kSecondsADay = 86400;

struct Date {
  std::int64_t year;
  std::int64_t month;
  std::int64_t day;
};

// Howard Hinnant, "chrono-compatible low-level date algorithms": civil_from_days.
Date date_of(std::int64_t days) noexcept {
  constexpr std::int64_t kDaysOfEra = 146097;  // 400 years
  days += 719468;                              // from the first of March of year 0
  const std::int64_t era = (days >= 0 ? days : days - (kDaysOfEra - 1)) / kDaysOfEra;
  const std::int64_t day_of_era = days - era * kDaysOfEra;
  const std::int64_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (kDaysOfEra - 1)) / 365;
  const std::int64_t day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const std::int64_t month = (5 * day + 2) / 153;  // from March
  const std::int64_t civil_month = month < 10 ? month + 3 : month - 9;
  return {year_of_era + era * 400 + (civil_month <= 2 ? 1 : 0), civil_month,
          day - (153 * month + 2) / 5 + 1};
}

void put_digits(char* to, std::int64_t number, int digits) noexcept {
  for (int i = digits - 1; i >= 0; --i, number /= 10) to[i] = static_cast<char>('0' + number % 10);
}

}  // namespace

UtcText::UtcText(std::int64_t seconds) noexcept {
  constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
  kForm.copy(text_.data(), text_.size());
  std::int64_t days = seconds / kSecondsADay;
  std::int64_t rest = seconds % kSecondsADay;
  if (rest < 0) {
    --days;
    rest += kSecondsADay;
  }
  const Date date = date_of(days);
  put_digits(&text_[0], date.year, 4);
  put_digits(&text_[5], date.month, 2);
  put_digits(&text_[8], date.day, 2);
  put_digits(&text_[11], rest / 3600, 2);
  put_digits(&text_[14], rest / 60 % 60, 2);
  put_digits(&text_[17], rest % 60, 2);
}

std::uint64_t resident_bytes() noexcept {
  const int file = ::open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  std::array<char, 128> text;
  const ssize_t size = ::read(file, text.data(), text.size());
  ::close(file);
  const std::string_view line{text.data(), size < 0 ? 0 : static_cast<std::size_t>(size)};
  const std::size_t blank = line.find(' ');  // the second number
  std::uint64_t pages = 0;
  if (blank != std::string_view::npos) {
    std::from_chars(line.data() + blank + 1, line.data() + line.size(), pages);
  }
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace forebay::detail
