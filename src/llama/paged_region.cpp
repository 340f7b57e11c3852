#include "llama/paged_region.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace forebay::llama {

Status PagedRegion::charge_to(Budget& budget) {
  FOREBAY_CHECK(runs_.empty(), "a buffer changes its payer before it holds pages");
  auto empty = budget.reserve(Bytes{});
  if (!empty) return empty.status();
  reservation_ = std::move(*empty);
  return {};
}

Status PagedRegion::add(const TensorRows& tensor, std::vector<TensorRows>& list) {
  list.push_back(tensor);
  Status status = adopt(runs_for(rows_));
  if (!status.ok()) list.pop_back();
  return status;
}

Status PagedRegion::add_fixed(std::uint64_t offset, std::uint64_t bytes) {
  return add({.offset = offset, .row_bytes = bytes, .rows = 1}, fixed_);
}

Status PagedRegion::add_growing(const TensorRows& tensor) { return add(tensor, growing_); }

Status PagedRegion::set_rows(std::uint64_t rows) {
  Status status = adopt(runs_for(rows));
  if (status.ok()) rows_ = rows;
  return status;
}

void PagedRegion::fill(std::uint8_t value) noexcept {
  for (const Run& run : runs_)
    std::memset(data() + run.first * page(), value, (run.last - run.first) * page());
}

Bytes PagedRegion::bytes_of(const Runs& runs) const noexcept {
  std::uint64_t pages = 0;
  for (const Run& run : runs) pages += run.last - run.first;
  return Bytes{pages * page()};
}

PagedRegion::Runs PagedRegion::runs_for(std::uint64_t rows) const {
  Runs runs;
  runs.reserve(fixed_.size() + growing_.size());
  const auto add_rows = [&](const TensorRows& tensor, std::uint64_t count) {
    const std::uint64_t bytes = std::min(count, tensor.rows) * tensor.row_bytes;
    if (bytes == 0) return;
    runs.push_back({tensor.offset / page(), (tensor.offset + bytes - 1) / page() + 1});
  };
  for (const TensorRows& tensor : fixed_) add_rows(tensor, tensor.rows);
  for (const TensorRows& tensor : growing_) add_rows(tensor, rows);
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.first < b.first; });

  Runs merged;
  merged.reserve(runs.size());
  for (const Run& run : runs) {
    if (!merged.empty() && run.first <= merged.back().last) {
      merged.back().last = std::max(merged.back().last, run.last);
    } else {
      merged.push_back(run);
    }
  }
  return merged;
}

// Both are sorted and disjoint, so one pass over each is enough.
PagedRegion::Runs PagedRegion::difference(const Runs& from, const Runs& without) {
  Runs left;
  auto hole = without.begin();
  for (Run run : from) {
    while (hole != without.end() && hole->last <= run.first) ++hole;
    for (auto next = hole; next != without.end() && next->first < run.last; ++next) {
      if (next->first > run.first) left.push_back({run.first, next->first});
      run.first = std::min(run.last, std::max(run.first, next->last));
    }
    if (run.first < run.last) left.push_back(run);
  }
  return left;
}

// Goes from runs_ to `wanted`: charged before it is committed, given back before it is
// uncharged, so that the charge is never below what is resident.
Status PagedRegion::adopt(Runs wanted) {
  const Runs missing = difference(wanted, runs_);
  const Runs surplus = difference(runs_, wanted);
  if (!missing.empty()) {
    const Bytes before = reservation_.bytes();
    if (Status status = reservation_.resize(before + bytes_of(missing)); !status.ok())
      return status;
    if (Status status = commit_all_of(missing); !status.ok()) {
      FOREBAY_CHECK(reservation_.resize(before).ok(), "a reservation shrinks");
      return status;
    }
  }
  decommit_all_of(surplus, surplus.size());
  runs_ = std::move(wanted);
  if (!surplus.empty())
    FOREBAY_CHECK(reservation_.resize(bytes_of(runs_)).ok(), "a reservation shrinks");
  return {};
}

Status PagedRegion::commit_all_of(const Runs& runs) {
  for (std::size_t i = 0; i < runs.size(); ++i) {
    Status status = range_->commit(Bytes{runs[i].first * page()},
                                   Bytes{(runs[i].last - runs[i].first) * page()});
    if (!status.ok()) {
      decommit_all_of(runs, i);
      return status;
    }
  }
  return {};
}

void PagedRegion::decommit_all_of(const Runs& runs, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i)
    range_->decommit(Bytes{runs[i].first * page()}, Bytes{(runs[i].last - runs[i].first) * page()});
}

}  // namespace forebay::llama
