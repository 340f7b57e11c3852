#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <utility>

#include "device/address_space.hpp"
#include "device/fail_point.hpp"
#include "device/mapping.hpp"
#include "device/page_set.hpp"
#include "device/request.hpp"
#include "forebay/check.hpp"
#include "forebay/device.hpp"

namespace forebay {
namespace {

// The CUDA driver's granularity of mapped memory on the devices of today.
constexpr Bytes kRangePage{2ULL << 20};

void check_options(const SimulatedDeviceOptions& options) {
  if (std::has_single_bit(options.granularity.count())) return;
  throw Failure{Status{Code::invalid_argument,
                       fmt::format("{}: granularity {} B is not allowed; it must be a power of two",
                                   options.name, options.granularity.count())}};
}

class Simulated final : public SimulatedDevice, public std::enable_shared_from_this<Simulated> {
 public:
  explicit Simulated(SimulatedDeviceOptions options)
      : options_(std::move(options)), space_(options_.capacity), capacity_(options_.capacity) {}
  ~Simulated() override {
    if (!stats_.live.is_zero()) {
      fmt::print(stderr, "forebay: device '{}' ended with {} live in {} blocks\n", name(),
                 to_string(stats_.live), stats_.live_blocks);
    }
    FOREBAY_DCHECK(stats_.live.is_zero(), "a simulated device ended before its blocks");
  }

  std::string_view name() const noexcept override { return options_.name; }
  DeviceKind kind() const noexcept override { return DeviceKind::simulated; }
  bool host_accessible() const noexcept override { return false; }
  bool stream_ordered() const noexcept override { return options_.stream_ordered; }
  void stream_wait(Stream /*waiter*/, Stream /*earlier*/) noexcept override {
    const std::lock_guard lock{mutex_};
    ++stats_.stream_waits;
  }
  // Nobody can read the bytes, so there is nothing to do.
  void zero(void* /*data*/, Bytes /*bytes*/, Stream /*stream*/) noexcept override {}
  void copy(void* /*to*/, const void* /*from*/, Bytes /*bytes*/,
            Stream /*stream*/) noexcept override {}

  Bytes capacity() const noexcept override {
    const std::lock_guard lock{mutex_};
    return capacity_;
  }
  Bytes free() const noexcept override {
    const std::lock_guard lock{mutex_};
    return saturating_sub(capacity_, stats_.live);
  }
  Bytes good_size(Bytes bytes, Bytes /*alignment*/) const noexcept override {
    return align_up(bytes, options_.granularity).value_or(Bytes::unlimited());
  }

  void fail_after(std::uint64_t n) noexcept override { fail_point_.fail_after(n); }
  void never_fail() noexcept override { fail_point_.never_fail(); }
  void set_capacity(Bytes capacity) noexcept override {
    const std::lock_guard lock{mutex_};
    capacity_ = capacity;
  }
  Stats stats() const noexcept override {
    const std::lock_guard lock{mutex_};
    return stats_;
  }

  // Charges `bytes` for pages of a range, or refuses. Counts as a use of fail_after().
  Status commit(Bytes bytes);
  void decommit(Bytes bytes) noexcept;
  Bytes range_page(Bytes wanted) const noexcept {
    return std::max({kRangePage, options_.granularity, wanted});
  }

 private:
  Result<void*> do_allocate(Bytes bytes, Bytes alignment, Stream stream) override;
  void do_deallocate(void* block, Bytes bytes, Bytes alignment, Stream stream) noexcept override;
  Result<std::unique_ptr<AddressRange>> do_reserve_address(
      Bytes bytes, const AddressRangeOptions& options) override;

  Status no_addresses(Bytes bytes) const {
    return {Code::memory_refused,
            fmt::format("{}: this process has no {} of addresses left to simulate with", name(),
                        to_string(bytes))};
  }

  // These expect mutex_ to be held.
  Status admit(Bytes bytes);
  void charge(Bytes bytes) noexcept;

  void spend(Duration latency) const {
    if (options_.on_latency && latency > Duration::zero()) options_.on_latency(latency);
  }

  const SimulatedDeviceOptions options_;
  detail::FailPoint fail_point_;
  mutable std::mutex mutex_;
  detail::AddressSpace space_;  // guarded by mutex_, as all below
  Bytes capacity_;
  Stats stats_;
};

// Pages of a simulated device: addresses that fault when touched.
class SimulatedRange final : public AddressRange {
 public:
  SimulatedRange(std::shared_ptr<Simulated> device, detail::Mapping mapping, Bytes page)
      : device_(std::move(device)),
        mapping_(std::move(mapping)),
        page_(page),
        pages_(mapping_.size(), page) {}
  ~SimulatedRange() override {
    if (!committed().is_zero()) device_->decommit(committed());
  }

  std::byte* data() const noexcept override { return mapping_.data(); }
  Bytes size() const noexcept override { return mapping_.size(); }
  Bytes committed() const noexcept override { return pages_.bytes(); }
  Bytes missing(Bytes offset, Bytes bytes) const noexcept override {
    return pages_.missing(offset, bytes);
  }
  Bytes page() const noexcept override { return page_; }

  Status commit(Bytes offset, Bytes bytes) override {
    return detail::refuse_bad_alloc([&]() -> Status {
      if (Status bad = detail::check_pages("commit", *this, offset, bytes); !bad.ok()) return bad;
      if (Status full = device_->commit(pages_.missing(offset, bytes)); !full.ok()) return full;
      pages_.insert(offset, bytes);
      return {};
    });
  }

  void decommit(Bytes offset, Bytes bytes) noexcept override {
    FOREBAY_CHECK(detail::are_pages(*this, offset, bytes),
                  "decommit of what are not pages of the range");
    const Bytes erased = pages_.erase(offset, bytes);
    if (!erased.is_zero()) device_->decommit(erased);
  }

  Status adopt(Bytes offset, AddressRange& source, Bytes source_offset, Bytes bytes) override {
    return detail::refuse_bad_alloc([&]() -> Status {
      auto* const from = dynamic_cast<SimulatedRange*>(&source);
      if (from == nullptr || from->device_ != device_) {
        return detail::foreign_source(device_->name());
      }
      Status bad = detail::check_adoption(*this, offset, *from, source_offset, bytes);
      if (!bad.ok()) return bad;
      pages_.insert(offset, bytes);
      from->pages_.erase(source_offset, bytes);
      return {};
    });
  }

 private:
  const std::shared_ptr<Simulated> device_;
  const detail::Mapping mapping_;
  const Bytes page_;
  detail::PageSet pages_;
};

Status Simulated::admit(Bytes bytes) {
  const Bytes room = saturating_sub(capacity_, stats_.live);
  const bool scripted = fail_point_.fails();
  if (!scripted && bytes <= room) return {};
  ++stats_.refusals;
  if (!scripted) return detail::does_not_fit(name(), bytes, room, capacity_);
  return {Code::memory_refused,
          fmt::format("{}: asked {}, refused by fail_after()", name(), to_string(bytes))};
}

void Simulated::charge(Bytes bytes) noexcept {
  stats_.live += bytes;
  stats_.peak = std::max(stats_.peak, stats_.live);
}

Result<void*> Simulated::do_allocate(Bytes bytes, Bytes alignment, Stream /*stream*/) {
  spend(options_.allocate_latency);
  const Bytes size = good_size(bytes, alignment);
  const std::lock_guard lock{mutex_};
  if (Status refused = admit(size); !refused.ok()) return refused;
  const auto address = space_.take(size, std::max(alignment, options_.granularity));
  if (address == 0) {
    ++stats_.refusals;
    return no_addresses(size);
  }
  charge(size);
  ++stats_.live_blocks;
  ++stats_.allocations;
  // An address that stands for memory of a device which is not there; never dereferenced.
  return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

void Simulated::do_deallocate(void* block, Bytes bytes, Bytes alignment,
                              Stream /*stream*/) noexcept {
  {
    const std::lock_guard lock{mutex_};
    const Bytes size = space_.give(reinterpret_cast<std::uintptr_t>(block));
    FOREBAY_CHECK(size == good_size(bytes, alignment), "deallocated with another size");
    stats_.live -= size;
    --stats_.live_blocks;
    ++stats_.deallocations;
  }
  spend(options_.deallocate_latency);
}

Result<std::unique_ptr<AddressRange>> Simulated::do_reserve_address(
    Bytes bytes, const AddressRangeOptions& options) {
  const Bytes page = range_page(options.page);
  const auto size = align_up(bytes, page);
  if (!size) return no_addresses(bytes);
  detail::Mapping mapping;
  if (!size->is_zero()) {
    auto mapped = detail::Mapping::map(*size, detail::Access::none, kMaxAlignment);
    if (!mapped) return no_addresses(bytes);
    mapping = std::move(*mapped);
  }
  return std::unique_ptr<AddressRange>{
      new SimulatedRange{shared_from_this(), std::move(mapping), page}};
}

Status Simulated::commit(Bytes bytes) {
  spend(options_.allocate_latency);
  const std::lock_guard lock{mutex_};
  if (Status refused = admit(bytes); !refused.ok()) return refused;
  charge(bytes);
  return {};
}

void Simulated::decommit(Bytes bytes) noexcept {
  {
    const std::lock_guard lock{mutex_};
    stats_.live -= bytes;
  }
  spend(options_.deallocate_latency);
}

}  // namespace

std::shared_ptr<SimulatedDevice> SimulatedDevice::create(SimulatedDeviceOptions options) {
  check_options(options);
  return std::make_shared<Simulated>(std::move(options));
}

}  // namespace forebay
