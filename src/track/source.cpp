#include "track/source.hpp"

#include <array>
#include <atomic>

#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr std::size_t kMostKinds = 8;
std::array<std::atomic<VisitSources>, kMostKinds> g_kinds{};

}  // namespace

std::uint32_t next_source_number() noexcept {
  static std::atomic<std::uint32_t> number{0};
  return number.fetch_add(1, std::memory_order_relaxed) + 1;
}

void add_sources(VisitSources visit_all) noexcept {
  for (auto& kind : g_kinds) {
    VisitSources none = nullptr;
    if (kind.compare_exchange_strong(none, visit_all) || none == visit_all) return;
  }
  FOREBAY_CHECK(false, "more kinds of sources than there are places");
}

void visit_sources(const std::function<void(const BlockSource&)>& visit) {
  for (const auto& kind : g_kinds) {
    if (const VisitSources visit_all = kind.load()) visit_all(visit);
  }
}

}  // namespace forebay::detail
