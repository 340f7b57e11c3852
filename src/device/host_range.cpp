// Address ranges of the host: private anonymous memory.
//
// All pages can be read and written from the start, and take memory when first written:
// kernels of inference engines read padded rows past the committed ones, which must be
// legal and yield zeroes (the kernel's shared zero page, which is nobody's memory). So
// commit is an account, not a system call; what makes memory come and go is the write and
// the decommit.
//
// Huge pages. With `never` they are off, since one would make 2 MiB resident for a single
// committed page of 4 KiB. With `always` the granularity is 2 MiB. With `advise` they are off
// but for those huge pages that one commit covers whole, and a huge page goes in one of two
// ways: purged whole, or, if only a part goes, split first. Left alone the kernel would keep
// all 2 MiB of it until memory is short, and might fill up the hole again. (One that a child
// process still shares after fork stays whole until it is not shared, or memory is short.)
#include "device/host_range.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "device/fail_point.hpp"
#include "device/page_set.hpp"
#include "device/request.hpp"
#include "forebay/check.hpp"

namespace forebay::detail {
namespace {

constexpr Bytes kHugePage = kMaxAlignment;

Bytes align_down(Bytes bytes, Bytes alignment) noexcept {
  return Bytes{bytes.count() & ~(alignment.count() - 1)};
}

// The end of the huge page that `offset` is in; `offset` itself if one begins there.
Bytes huge_end(Bytes offset) noexcept { return align_up(offset, kHugePage).value_or(offset); }

// Fails on kernels without huge pages, where there is nothing to advise, and when a mapping
// cannot be split for want of mappings: then the advice from before stands.
void advise(std::byte* data, Bytes bytes, int advice) noexcept {
  static_cast<void>(::madvise(data, bytes.count(), advice));
}

Status no_pages(Bytes asked) {
  const auto host = Device::host();
  return does_not_fit(host->name(), asked, host->free(), host->capacity());
}

// Invariant: wherever one of the kernel's mappings ends inside the range and the next begins,
// there is a page of edges_, or with `advise` a huge page begins. (Not each such page is one.)
class HostRange final : public AddressRange {
 public:
  HostRange(Mapping mapping, const AddressRangeOptions& options)
      : mapping_(std::move(mapping)),
        page_(host_range_page(options)),
        huge_pages_(options.huge_pages),
        pages_(mapping_.size(), page_),
        edges_(mapping_.size(), page_) {
    if (!size().is_zero()) apply_policy(Bytes{}, size());
  }

  std::byte* data() const noexcept override { return mapping_.data(); }
  Bytes size() const noexcept override { return mapping_.size(); }
  Bytes committed() const noexcept override { return pages_.bytes(); }
  Bytes page() const noexcept override { return page_; }
  Bytes missing(Bytes offset, Bytes bytes) const noexcept override {
    return pages_.missing(offset, bytes);
  }

  Status commit(Bytes offset, Bytes bytes) override {
    return refuse_bad_alloc([&]() -> Status {
      if (Status bad = check_pages("commit", *this, offset, bytes); !bad.ok()) return bad;
      if (host_mappings().fails()) return no_pages(pages_.missing(offset, bytes));
      advise_whole_pages(offset, bytes);
      pages_.insert(offset, bytes);
      return {};
    });
  }

  void decommit(Bytes offset, Bytes bytes) noexcept override {
    FOREBAY_CHECK(are_pages(*this, offset, bytes), "decommit of what are not pages of the range");
    if (bytes.is_zero()) return;
    release_huge_pages(offset, bytes);
    if (!make_whole(offset, bytes)) discard(at(offset), bytes);
    pages_.erase(offset, bytes);
  }

  Status adopt(Bytes offset, AddressRange& source, Bytes source_offset, Bytes bytes) override {
    return refuse_bad_alloc([&]() -> Status {
      auto* const from = dynamic_cast<HostRange*>(&source);
      if (from == nullptr) return foreign_source("host");
      if (from->page_ != page_ || from->huge_pages_ != huge_pages_) {
        return {Code::unsupported, "host: moves pages only between ranges of the same options"};
      }
      if (Status bad = check_adoption(*this, offset, *from, source_offset, bytes); !bad.ok()) {
        return bad;
      }
      if (bytes.is_zero()) return {};
      if (!move_in(offset, *from, source_offset, bytes)) return cannot_move();
      pages_.insert(offset, bytes);
      from->pages_.erase(source_offset, bytes);
      from->make_whole(source_offset, bytes);
      return {};
    });
  }

 private:
  static Status cannot_move() {
    return {Code::unsupported,
            "host: the kernel moved no pages (it needs Linux 5.7, and mappings left under "
            "vm.max_map_count)"};
  }

  std::byte* at(Bytes offset) const noexcept { return data() + offset.count(); }

  // For pages without content: with `advise`, what is not committed is not advised.
  void apply_policy(Bytes offset, Bytes bytes) noexcept {
    advise(at(offset), bytes, huge_pages_ == HugePages::always ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  }

  void advise_whole_pages(Bytes offset, Bytes bytes) noexcept {
    if (huge_pages_ != HugePages::advise) return;
    const Bytes first = huge_end(offset);
    const Bytes last = align_down(offset + bytes, kHugePage);
    if (first < last) advise(at(first), last - first, MADV_HUGEPAGE);
  }

  // Before pages go: the huge pages that they are in are advised no more, and those that lose
  // only a part are split (which MADV_COLD does to the ends of what it is given).
  void release_huge_pages(Bytes offset, Bytes bytes) noexcept {
    if (huge_pages_ != HugePages::advise) return;
    const Bytes end = offset + bytes;
    const Bytes first = align_down(offset, kHugePage);
    advise(at(first), std::min(huge_end(end), size()) - first, MADV_NOHUGEPAGE);
    const Bytes head = std::min(huge_end(offset), end);
    const Bytes tail = std::max(align_down(end, kHugePage), head);
    if (offset < head) advise(at(offset), head - offset, MADV_COLD);
    if (tail < end) advise(at(tail), end - tail, MADV_COLD);
  }

  // A huge page that would lie across two at its new place is split before.
  void split_misplaced(Bytes offset, Bytes bytes, Bytes target) noexcept {
    if (huge_pages_ != HugePages::advise) return;
    if ((offset.count() - target.count()) % kHugePage.count() == 0) return;
    const Bytes last = align_down(offset + bytes, kHugePage);
    for (Bytes at_page = huge_end(offset); at_page < last; at_page += kHugePage) {
      advise(at(at_page), page_, MADV_COLD);
    }
  }

  // Whether all of it was moved; if not, nothing was.
  bool move_in(Bytes offset, HostRange& from, Bytes source_offset, Bytes bytes) noexcept {
    from.release_huge_pages(source_offset, bytes);
    from.split_misplaced(source_offset, bytes, offset);
    Bytes moved;
    while (moved < bytes) {
      const Bytes piece = move_piece(offset + moved, from, source_offset + moved, bytes - moved);
      if (piece.is_zero()) break;
      moved += piece;
    }
    if (moved == bytes) {
      advise_whole_pages(offset, bytes);
      return true;
    }
    move_back(offset, from, source_offset, moved);
    from.advise_whole_pages(source_offset, bytes);
    return false;
  }

  // The bytes that one call moved: those of one mapping. Before Linux 6.17 a stretch of several
  // is refused after the target was unmapped, and since then it may be moved by half.
  Bytes move_piece(Bytes offset, HostRange& from, Bytes source_offset, Bytes bytes) noexcept {
    const Bytes piece = from.of_one_mapping(source_offset, bytes);
    mark_edges(offset, piece);
    if (!host_mappings().fails() && move_memory(from.at(source_offset), at(offset), piece)) {
      return piece;
    }
    apply_policy(offset, piece);  // for what had to be mapped again
    return {};
  }

  // By copying, page by page: that needs no mapping.
  void move_back(Bytes offset, HostRange& from, Bytes source_offset, Bytes bytes) noexcept {
    for (Bytes moved; moved < bytes; moved += page_) {
      std::memcpy(from.at(source_offset + moved), at(offset + moved), page_.count());
      discard(at(offset + moved), page_);
    }
    if (!bytes.is_zero()) make_whole(offset, bytes);
  }

  Bytes of_one_mapping(Bytes offset, Bytes bytes) const noexcept {
    Bytes end = offset + bytes;
    if (!edges_.bytes().is_zero()) end = edges_.first_in(offset + page_, bytes - page_);
    if (huge_pages_ == HugePages::advise) end = std::min(end, huge_end(offset + page_));
    return end - offset;
  }

  void mark_edges(Bytes offset, Bytes bytes) noexcept {
    edges_.erase(offset, bytes);
    edges_.insert(offset, page_);
    if (offset + bytes < size()) edges_.insert(offset + bytes, page_);
  }

  // Pages to be emptied that were moved here, or lie beside such ones: maps them afresh, so that
  // moves do not cut the range into ever more mappings. Whether it did.
  bool make_whole(Bytes offset, Bytes bytes) noexcept {
    if (edges_.bytes().is_zero()) return false;
    const Bytes end = offset + bytes;
    const Bytes last = std::min(end + page_, size());
    if (edges_.first_in(offset, last - offset) == last) return false;
    if (!renew(at(offset), bytes)) return false;
    apply_policy(offset, bytes);
    mark_edges(offset, bytes);
    return true;
  }

  Mapping mapping_;
  const Bytes page_;
  const HugePages huge_pages_;
  PageSet pages_;
  PageSet edges_;
};

}  // namespace

Bytes host_range_page(const AddressRangeOptions& options) noexcept {
  if (options.huge_pages == HugePages::always) return kHugePage;
  return std::max(options.page, system_page());
}

std::unique_ptr<AddressRange> make_host_range(Mapping mapping, const AddressRangeOptions& options) {
  return std::make_unique<HostRange>(std::move(mapping), options);
}

}  // namespace forebay::detail
