// Which policies there are to compare.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "trace/cache_replay.hpp"
#include "trace/record.hpp"

namespace forebay::trace {
namespace {

using detail::PolicyKind;

constexpr std::string_view kAll = "all";
// Those that differ most in what they know: the others are these with less.
constexpr std::array kCompared{PolicyKind::lru,      PolicyKind::lfu,      PolicyKind::s3fifo,
                               PolicyKind::sieve,    PolicyKind::arc,      PolicyKind::lirs,
                               PolicyKind::twoq,     PolicyKind::wtinylfu, PolicyKind::gdsf,
                               PolicyKind::automatic};

Contender contender_of(PolicyKind kind) { return {std::string{to_string(kind)}, kind}; }

std::vector<Contender> every_policy() {
  std::vector<Contender> all;
  for (std::size_t i = 0; i < detail::kPolicyKinds; ++i) {
    all.push_back(contender_of(static_cast<PolicyKind>(i)));
  }
  return all;
}

std::vector<Contender> compared() {
  std::vector<Contender> list;
  list.reserve(kCompared.size());
  for (const PolicyKind kind : kCompared) list.push_back(contender_of(kind));
  return list;
}

Status unknown_policy(std::string_view name) {
  std::vector<std::string> owned;
  for (const Contender& contender : every_policy()) owned.push_back(contender.name);
  owned.emplace_back(kAll);
  owned.emplace_back(kBelady);
  const std::vector<std::string_view> names{owned.begin(), owned.end()};
  if (const auto match = closest_match(name, names)) {
    return {Code::invalid_argument,
            fmt::format("{}: unknown policy; did you mean '{}'?", printable(name), *match)};
  }
  return {Code::invalid_argument,
          fmt::format("{}: unknown policy; allowed: {}", printable(name), fmt::join(names, ", "))};
}

class PolicyList {
 public:
  Status add(std::string_view name) {
    if (name == kAll) {
      for (Contender& contender : every_policy()) {
        if (!has(contender.name)) list_.push_back(std::move(contender));
      }
      return {};
    }
    if (has(name)) {
      return {Code::invalid_argument, fmt::format("{}: given twice; allowed: once", name)};
    }
    const auto kind = detail::policy_kind(name);
    if (name != kBelady && !kind) return unknown_policy(name);
    list_.push_back({std::string{name}, kind});
    return {};
  }
  std::vector<Contender> take() { return std::move(list_); }

 private:
  bool has(std::string_view name) const {
    return std::ranges::find(list_, name, &Contender::name) != list_.end();
  }
  std::vector<Contender> list_;
};

}  // namespace

Result<std::vector<Contender>> parse_policies(std::span<const std::string> texts) {
  if (texts.empty()) return compared();
  PolicyList list;
  for (std::string_view text : texts) {
    for (;;) {
      const auto comma = text.find(',');
      if (Status status = list.add(text.substr(0, comma)); !status.ok()) return status;
      if (comma == std::string_view::npos) break;
      text.remove_prefix(comma + 1);
    }
  }
  return list.take();
}

}  // namespace forebay::trace
