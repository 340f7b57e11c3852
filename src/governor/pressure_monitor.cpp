#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "forebay/check.hpp"
#include "forebay/governor.hpp"
#include "governor/cgroup.hpp"
#include "governor/proc_files.hpp"

namespace forebay {

struct PressureMonitor::Sources {
  std::filesystem::path proc;
  std::vector<detail::CgroupLevel> cgroup;
};

namespace {

Bytes page_size() noexcept { return Bytes{static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))}; }

// "size resident shared text lib data dt", in pages.
Status read_statm(const std::filesystem::path& proc, MemoryReading& reading) {
  const auto file = proc / "self/statm";
  const auto text = detail::read_text(file);
  const auto fields = text ? detail::fields_of(*text, " \n") : std::vector<std::string_view>{};
  const auto pages = [&](std::size_t index) {
    const auto number = index < fields.size() ? detail::parse_number(fields[index]) : std::nullopt;
    return number ? checked_mul(page_size(), *number) : std::nullopt;
  };
  const auto resident = pages(1);
  const auto shared = pages(2);
  if (!resident || !shared) {
    return {Code::unsupported,
            fmt::format("cannot tell the process's memory from {}", file.string())};
  }
  reading.resident = *resident;
  // The kernel updates its counters in batches, so that shared may run ahead.
  reading.resident_anonymous = saturating_sub(*resident, *shared);
  return {};
}

Status read_meminfo(const std::filesystem::path& proc, MemoryReading& reading) {
  const auto file = proc / "meminfo";
  const auto text = detail::read_text(file);
  const auto total = text ? detail::kilobyte_field(*text, "MemTotal:") : std::nullopt;
  auto available = text ? detail::kilobyte_field(*text, "MemAvailable:") : std::nullopt;
  if (text && !available) available = detail::kilobyte_field(*text, "MemFree:");
  if (!total || !available) {
    return {Code::unsupported,
            fmt::format("cannot tell the machine's memory from {}", file.string())};
  }
  reading.machine_total = *total;
  reading.machine_available = *available;
  return {};
}

// Some sandboxes have no VmHWM; what is resident now is then the best that is known.
Bytes read_peak(const std::filesystem::path& proc, Bytes resident) {
  const auto text = detail::read_text(proc / "self/status");
  const auto peak = text ? detail::kilobyte_field(*text, "VmHWM:") : std::nullopt;
  return std::max(peak.value_or(Bytes{}), resident);
}

Bytes allowed_by(const MemoryReading& reading) noexcept {
  const Bytes machine =
      reading.machine_total.is_zero() ? Bytes::unlimited() : reading.machine_total;
  return std::min(machine, reading.cgroup_limit.value_or(Bytes::unlimited()));
}

std::string words_of_allowed(const MemoryReading& reading) {
  const Bytes allowed = allowed_by(reading);
  const bool by_cgroup = reading.cgroup_limit && *reading.cgroup_limit == allowed;
  return fmt::format("{} {}", by_cgroup ? "the cgroup's limit of" : "the machine's",
                     to_string(allowed));
}

void read_cgroup(const std::vector<detail::CgroupLevel>& levels, MemoryReading& reading) {
  const auto limit = detail::least_limit(levels);
  if (!limit) return;
  reading.cgroup_limit = limit->limit;
  reading.cgroup_used = limit->used;
  reading.cgroup_source = limit->source.string();
}

}  // namespace

PressureMonitor::PressureMonitor(const PressureMonitorOptions& options) {
  const auto proc = options.root / "proc";
  const auto cgroup = detail::read_text(proc / "self/cgroup");
  const auto mountinfo = detail::read_text(proc / "self/mountinfo");
  sources_ = std::make_shared<Sources>(Sources{
      proc, detail::cgroup_levels(cgroup.value_or(""), mountinfo.value_or(""), options.root)});
}

Result<MemoryReading> PressureMonitor::read() const {
  MemoryReading reading;
  if (Status status = read_statm(sources_->proc, reading); !status.ok()) return status;
  if (Status status = read_meminfo(sources_->proc, reading); !status.ok()) return status;
  reading.resident_peak = read_peak(sources_->proc, reading.resident);
  read_cgroup(sources_->cgroup, reading);
  return reading;
}

Bytes PressureMonitor::allowed() const {
  MemoryReading reading;
  // Not readable leaves machine_total at zero, which allowed_by() takes as not known.
  static_cast<void>(read_meminfo(sources_->proc, reading).ok());
  read_cgroup(sources_->cgroup, reading);
  return allowed_by(reading);
}

Result<Residency> PressureMonitor::residency() const {
  MemoryReading reading;
  if (Status status = read_statm(sources_->proc, reading); !status.ok()) return status;
  return Residency{reading.resident, reading.resident_anonymous};
}

LineChoice choose_line(Bytes wanted, const MemoryReading& reading) {
  const Bytes allowed = allowed_by(reading);
  if (wanted <= allowed) return {wanted, allowed, fmt::format("{} as asked", to_string(wanted))};
  return {allowed, allowed,
          fmt::format("{}; {} asked", words_of_allowed(reading), to_string(wanted))};
}

LineChoice choose_share(double fraction, const MemoryReading& reading, Bytes most) {
  FOREBAY_CHECK(fraction > 0 && fraction <= 1, "the fraction of a line is in (0, 1]");
  const Bytes allowed = allowed_by(reading);
  const Bytes share = fraction_of(allowed, fraction);
  if (most <= share) return {most, allowed, fmt::format("{} by default", to_string(most))};
  return {share, allowed,
          fmt::format("{}, which is {:.3g} % of {}", to_string(share), fraction * 100,
                      words_of_allowed(reading))};
}

std::optional<Bytes> heap_in_use() noexcept {
#if defined(__GLIBC__)
  const struct mallinfo2 info = ::mallinfo2();
  return Bytes{info.uordblks} + Bytes{info.hblkhd};
#else
  return std::nullopt;
#endif
}

}  // namespace forebay
