// From records to operations that can be applied without looking anything up.
#pragma once

#include <vector>

#include "forebay/device.hpp"
#include "trace/live_table.hpp"
#include "trace/reader.hpp"

namespace forebay::trace {

// More blocks than this live at once, or more streams, are no real program's.
inline constexpr std::size_t kMaxLive = std::size_t{1} << 28;
inline constexpr std::size_t kMaxStreams = 4096;

struct Operation {
  enum class Kind { allocate, free, tick };
  Kind kind = Kind::allocate;
  std::uint32_t slot = 0;
  std::uint64_t amount = 0;  // bytes; of a tick: nanoseconds that time goes on
  Stream stream;
};

// What a trace asks for, up to some operation.
struct Demand {
  std::uint64_t operations = 0;  // allocations + frees
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
  std::uint64_t left_out = 0;  // failed when the trace was taken, or of no block
  Bytes live;                  // bytes asked for and not freed
  Bytes peak_live;
  std::uint64_t peak_at = 0;  // operations up to the peak, that one included
  std::uint64_t peak_blocks = 0;
  std::uint64_t streams = 0;
  Duration duration{};
};

// Checks each record against the blocks that are live, and hands out operations in batches:
// what is timed is not to include the reading.
class Decoder {
 public:
  // With `tick_every` above zero, a tick stands wherever so much time has passed; three in a
  // longer gap.
  explicit Decoder(Reader reader, Duration tick_every = {})
      : reader_(std::move(reader)), tick_every_(tick_every) {}
  void reserve(std::size_t blocks) { live_.reserve(blocks); }

  // Replaces `batch` with the next at most `most` allocations and frees, and the ticks
  // between them; fewer where ticks are many, since all together are at most 2 * most + 3.
  // Returns how many there were, ticks not counted; zero at the end. Errors: those of Reader;
  // invalid_argument (a block freed that is not live, allocated twice, …).
  Result<std::size_t> fill(std::vector<Operation>& batch, std::size_t most);

  const Demand& demand() const noexcept { return demand_; }
  Format format() const noexcept { return reader_.format(); }
  double share() const noexcept { return reader_.share(); }

 private:
  Status take(const Record& record, std::vector<Operation>& batch);
  Status take_allocation(const Record& record, std::vector<Operation>& batch);
  Status take_free(const Record& record, std::vector<Operation>& batch);
  Status note_stream(std::uint64_t stream);
  void add_ticks(Duration now, std::vector<Operation>& batch);
  std::string name_of(std::uint64_t id) const;

  Reader reader_;
  const Duration tick_every_;
  Duration ticked_{};
  LiveTable live_;
  std::vector<std::uint64_t> streams_;  // sorted
  Demand demand_;
};

// The demand of a whole trace; so errors show before anything is run. `progress`, if any, is
// told the share that was read and says whether to go on. Errors: those of Decoder;
// interrupted.
Result<Demand> survey(Reader reader, const std::function<bool(double)>& progress);

}  // namespace forebay::trace
