// The account of a refusal at length.

#include <fmt/format.h>

#include <algorithm>

#include "forebay/telemetry.hpp"
#include "track/leak_report.hpp"

namespace forebay {
namespace {

constexpr std::size_t kMostRows = 5;
constexpr std::size_t kMostFrames = 8;
constexpr std::size_t kAdvice = 3;

std::string name_of(std::string_view tag, std::string_view owner) {
  if (tag.empty() && owner.empty()) return "(no tag)";
  if (owner.empty()) return std::string{tag};
  return fmt::format("{} for {}", tag.empty() ? "(no tag)" : tag, owner);
}

void say_what_was_asked(std::string& text, const Status& status) {
  const Refusal* const refusal = status.refusal();
  if (refusal == nullptr) {
    text += fmt::format("out of memory: {}\n", status.message());
    return;
  }
  text += fmt::format("out of memory: {} asked for {}\n", name_of(refusal->tag, refusal->owner),
                      to_string(refusal->asked));
  text += fmt::format("  {} has {} of {} in use, {} free", refusal->budget,
                      to_string(refusal->used), to_string(refusal->limit),
                      to_string(saturating_sub(refusal->limit, refusal->used)));
  if (!refusal->reclaimed.is_zero()) {
    text += fmt::format(", after {} were reclaimed", to_string(refusal->reclaimed));
  }
  text += '\n' + detail::frames_to_text(refusal->stack, kMostFrames);
}

template <typename Row, typename Line>
void say_rows(std::string& text, std::string_view title, const std::vector<Row>& rows, Line line) {
  if (rows.empty()) return;
  text += fmt::format("{}\n", title);
  for (std::size_t i = 0; i < std::min(rows.size(), kMostRows); ++i) {
    text += "  " + line(rows[i]) + '\n';
  }
  if (rows.size() > kMostRows) text += fmt::format("  and {} more\n", rows.size() - kMostRows);
}

std::vector<TagStats> largest_tags() {
  std::vector<TagStats> tags = Tracker::tags();
  std::erase_if(tags, [](const TagStats& tag) { return tag.live.is_zero(); });
  std::ranges::stable_sort(tags, std::greater{}, &TagStats::live);
  return tags;
}

std::vector<PoolView> largest_pools() {
  std::vector<PoolView> pools = Pool::all();
  std::erase_if(pools, [](const PoolView& pool) { return pool.stats.reserved.is_zero(); });
  std::ranges::stable_sort(pools, std::greater{},
                           [](const PoolView& pool) { return pool.stats.reserved; });
  return pools;
}

std::string line_of(const Holder& holder) {
  return fmt::format("{}: {}, of which {} can be given back", holder.name, to_string(holder.used),
                     to_string(holder.reclaimable));
}

std::string line_of(const TagStats& tag) {
  return fmt::format("{}: {} in {} blocks", name_of(tag.tag, tag.owner), to_string(tag.live),
                     tag.live_blocks);
}

std::string line_of(const PoolView& pool) {
  const PoolStats& stats = pool.stats;
  std::string line =
      fmt::format("{} over {}: {} reserved, {} live, {} idle", pool.name, pool.upstream,
                  to_string(stats.reserved), to_string(stats.live), to_string(stats.idle));
  if (stats.idle.is_zero()) return line;
  if (stats.largest_free.is_zero()) return line + ", all of it kept by threads";
  return line + fmt::format("; largest free block {}, fragmentation {:.0f} %",
                            to_string(stats.largest_free), 100 * stats.fragmentation());
}

std::string line_of(const ReclaimAnswer& answer) {
  std::string line =
      fmt::format("{}: asked for {}, says it gave {}, gave {}", answer.name,
                  to_string(answer.asked), to_string(answer.claimed), to_string(answer.freed));
  line += answer.left.is_zero() ? ", has nothing left to give"
                                : fmt::format(", could give {} more", to_string(answer.left));
  if (!answer.kept.empty()) line += "; keeps " + answer.kept;
  return line;
}

// Idle memory that no reclaimer was asked for is the cheapest of all.
std::vector<std::string> advise(const Refusal* refusal, const std::vector<PoolView>& pools,
                                const std::vector<TagStats>& tags) {
  std::vector<std::string> advice;
  const auto was_asked = [&](const PoolView& pool) {
    return refusal != nullptr && std::ranges::any_of(refusal->reclaimers, [&](const auto& answer) {
             return answer.name == pool.name;
           });
  };
  for (const PoolView& pool : pools) {
    if (pool.stats.idle.is_zero() || was_asked(pool)) continue;
    advice.push_back(
        fmt::format("release what pool '{}' keeps idle ({}), or register it as a "
                    "reclaimer of its budget",
                    pool.name, to_string(pool.stats.idle)));
    break;
  }
  if (refusal != nullptr) {
    advice.insert(advice.end(), refusal->advice.begin(), refusal->advice.end());
  }
  for (const TagStats& tag : tags) {
    if (advice.size() >= kAdvice) break;
    advice.push_back(fmt::format("let go of some of what {} holds: {} in {} blocks",
                                 name_of(tag.tag, tag.owner), to_string(tag.live),
                                 tag.live_blocks));
  }
  if (advice.size() > kAdvice) advice.resize(kAdvice);
  return advice;
}

}  // namespace

std::string out_of_memory_report(const Status& refusal) {
  const Refusal* const account = refusal.refusal();
  const std::vector<TagStats> tags = largest_tags();
  const std::vector<PoolView> pools = largest_pools();
  const auto line = [](const auto& row) { return line_of(row); };
  std::string text;
  say_what_was_asked(text, refusal);
  if (account != nullptr) say_rows(text, "held by", account->holders, line);
  say_rows(text, "tags that hold most", tags, line);
  say_rows(text, "pools", pools, line);
  if (account != nullptr) say_rows(text, "asked to give back", account->reclaimers, line);
  text += "what would help\n";
  int number = 0;
  for (const std::string& advice : advise(account, pools, tags)) {
    text += fmt::format("  {}. {}\n", ++number, advice);
  }
  return text;
}

}  // namespace forebay
