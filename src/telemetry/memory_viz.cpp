// The dictionary of torch.cuda.memory._snapshot(), as its documentation in torch/cuda/memory.py
// gives it, and as torch/utils/viz/MemoryViz.js and torch/cuda/_memory_viz.py read it.
//
// What these readers take for granted, and what follows:
//   - blocks of a segment tile it: idle memory is written as "inactive" blocks;
//   - segments of one device do not overlap: pools upon pools go to devices of their own;
//   - the history can be played backwards from the segments: a block that lies in none of them
//     (of another resource than a pool, or since given back) brings its segment along.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "telemetry/formats.hpp"
#include "telemetry/history.hpp"

namespace forebay::detail {
namespace {

constexpr std::uint32_t kNone = 0xFFFF'FFFF;
constexpr std::uint64_t kLarge = 1 << 20;  // from here on PyTorch calls a segment large

// Addresses that belong together: what a pool took from upstream, or a block of no pool.
struct Region {
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t source = kNone;
  std::uint32_t pool = kNone;
  std::uint32_t device = 0;
  std::uint32_t first = 0;  // of its blocks, in Layout::placed
  std::uint32_t count = 0;

  std::uint64_t end() const { return address + bytes; }
  bool holds(std::uint64_t at, std::uint64_t size) const {
    return at >= address && size <= bytes && at - address <= bytes - size;
  }
};

bool by_source_and_address(const Region& a, const Region& b) {
  return a.source != b.source ? a.source < b.source : a.address < b.address;
}

// The device of what lies in no pool's segment.
std::string past_group(std::uint32_t source) { return "blocks of " + std::to_string(source); }

// Which blocks are in which region, and which region is on which device.
class Layout {
 public:
  explicit Layout(const Snapshot& snapshot);

  const std::vector<Region>& regions() const { return regions_; }
  const std::vector<std::uint32_t>& placed() const { return placed_; }
  // Null: none that holds this address.
  const Region* find(std::uint32_t source, std::uint64_t address) const;
  // Where blocks of a source are shown that are in no region.
  std::uint32_t past_device(std::uint32_t source);
  std::uint32_t devices() const { return static_cast<std::uint32_t>(numbers_.size()); }

 private:
  void add_segments();
  void place_blocks();
  void place(std::uint32_t block, std::size_t& region, std::uint64_t& free_from);
  void assign_devices();
  std::string group_of(const Region& region) const;
  std::uint32_t device_of(const std::string& group, std::uint32_t layer);

  const Snapshot& snapshot_;
  std::vector<Region> regions_;  // by source and address
  std::vector<Region> loose_;
  std::vector<std::uint32_t> placed_;  // blocks, those of a region in a row
  std::map<std::pair<std::string, std::uint32_t>, std::uint32_t> numbers_;
};

Layout::Layout(const Snapshot& snapshot) : snapshot_(snapshot) {
  add_segments();
  place_blocks();
  regions_.insert(regions_.end(), loose_.begin(), loose_.end());
  std::ranges::sort(regions_, by_source_and_address);
  assign_devices();
}

void Layout::add_segments() {
  std::unordered_map<std::string_view, std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < snapshot_.sources.size(); ++i) {
    numbers.emplace(snapshot_.sources[i], i);
  }
  for (const SnapshotSegment& segment : snapshot_.segments) {
    if (segment.bytes == 0 || segment.address > UINT64_MAX - segment.bytes) continue;
    Region region{.address = segment.address, .bytes = segment.bytes, .pool = segment.pool};
    if (segment.pool < snapshot_.pools.size()) {
      const auto at = numbers.find(snapshot_.pools[segment.pool].name);
      if (at != numbers.end()) region.source = at->second;
    }
    regions_.push_back(region);
  }
  std::ranges::sort(regions_, by_source_and_address);
}

// Puts a block into the region that holds it; else into one of its own. Blocks come by source and
// address, so that `region` only moves on. `free_from`: the end of the block before.
void Layout::place(std::uint32_t block, std::size_t& region, std::uint64_t& free_from) {
  const SnapshotBlock& b = snapshot_.blocks[block];
  const Region wanted{.address = b.address, .bytes = b.bytes, .source = b.pool};
  while (region < regions_.size() && !by_source_and_address(wanted, regions_[region])) ++region;
  const bool fits = region > 0 && regions_[region - 1].source == b.pool &&
                    regions_[region - 1].holds(b.address, b.bytes);
  if (!fits) {
    loose_.push_back(wanted);
    loose_.back().first = block;
    return;
  }
  Region& into = regions_[region - 1];
  if (into.count != 0 && b.address < free_from) return;  // a block cannot be within another
  if (into.count++ == 0) into.first = static_cast<std::uint32_t>(placed_.size());
  placed_.push_back(block);
  free_from = b.address + b.bytes;
}

void Layout::place_blocks() {
  std::vector<std::uint32_t> order;
  order.reserve(snapshot_.blocks.size());
  for (std::uint32_t i = 0; i < snapshot_.blocks.size(); ++i) {
    const SnapshotBlock& block = snapshot_.blocks[i];
    if (block.bytes != 0 && block.address <= UINT64_MAX - block.bytes) order.push_back(i);
  }
  std::ranges::sort(order, [this](std::uint32_t a, std::uint32_t b) {
    const SnapshotBlock& x = snapshot_.blocks[a];
    const SnapshotBlock& y = snapshot_.blocks[b];
    return x.pool != y.pool ? x.pool < y.pool : x.address < y.address;
  });
  std::size_t region = 0;
  std::uint64_t free_from = 0;
  for (const std::uint32_t block : order) place(block, region, free_from);
  for (Region& alone : loose_) {
    placed_.push_back(std::exchange(alone.first, static_cast<std::uint32_t>(placed_.size())));
    alone.count = 1;
  }
}

std::string Layout::group_of(const Region& region) const {
  if (region.pool < snapshot_.pools.size()) return "of " + snapshot_.pools[region.pool].upstream;
  return past_group(region.source);
}

std::uint32_t Layout::device_of(const std::string& group, std::uint32_t layer) {
  const auto next = static_cast<std::uint32_t>(numbers_.size());
  return numbers_.try_emplace({group, layer}, next).first->second;
}

// A device a group, and more where its regions overlap: each goes to the first one with room.
void Layout::assign_devices() {
  for (const SnapshotPool& pool : snapshot_.pools) device_of("of " + pool.upstream, 0);
  std::vector<std::uint32_t> order(regions_.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, {}, [this](std::uint32_t i) { return regions_[i].address; });
  std::map<std::string, std::vector<std::uint64_t>> ends;  // of each group's layers
  for (const std::uint32_t i : order) {
    const std::string group = group_of(regions_[i]);
    auto& layers = ends[group];
    const auto room =
        std::ranges::find_if(layers, [&](std::uint64_t end) { return end <= regions_[i].address; });
    const auto layer = static_cast<std::uint32_t>(room - layers.begin());
    if (room == layers.end()) layers.push_back(0);
    layers[layer] = regions_[i].end();
    regions_[i].device = device_of(group, layer);
  }
}

std::uint32_t Layout::past_device(std::uint32_t source) { return device_of(past_group(source), 0); }

const Region* Layout::find(std::uint32_t source, std::uint64_t address) const {
  const Region wanted{.address = address, .source = source};
  const auto after = std::ranges::upper_bound(regions_, wanted, by_source_and_address);
  if (after == regions_.begin()) return nullptr;
  const Region& region = *std::prev(after);
  return region.source == source && region.holds(address, 1) ? &region : nullptr;
}

// What an entry of the history is about.
struct Change {
  std::string_view action;
  std::uint64_t address = 0;
  std::uint64_t bytes = 0;
  std::uint32_t stream = 0;
};

class Writer {
 public:
  Writer(const Snapshot& snapshot, Document& document)
      : snapshot_(snapshot), document_(document), history_(snapshot), layout_(snapshot) {}

  void write();

 private:
  struct Context {
    std::uint32_t stack;
    std::uint32_t tag;
    std::uint32_t source;
    auto operator<=>(const Context&) const = default;
  };
  struct Place {
    std::uint32_t device = kNone;
    std::uint32_t stream = 0;
    bool within = false;  // a pool's region: it brings no segment along
  };

  void write_segment(const Region& region);
  void write_blocks(const Region& region);
  void write_block(std::uint64_t address, std::uint64_t bytes, const SnapshotBlock* block);
  void write_frames(const Context& context);
  void write_frame(std::string_view name, std::string_view file);
  void write_trace(std::uint32_t device, const std::vector<std::uint32_t>& events);
  void write_event(std::uint32_t event);
  void write_change(const Change& change, std::uint32_t event);
  Place place_of(std::uint32_t event);
  std::vector<std::vector<std::uint32_t>> events_of_devices();
  static std::uint32_t stream_of(const Region& region) {
    return region.pool == kNone ? 0 : region.pool;
  }
  std::uint64_t used(const Region& region) const;

  const Snapshot& snapshot_;
  Document& document_;
  History history_;
  Layout layout_;
  std::map<Context, std::uint32_t> contexts_;
};

std::uint64_t Writer::used(const Region& region) const {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < region.count; ++i) {
    sum += snapshot_.blocks[layout_.placed()[region.first + i]].bytes;
  }
  return sum;
}

void Writer::write_frame(std::string_view name, std::string_view file) {
  document_.begin_dict();
  document_.key("name");
  document_.text(name);
  document_.key("filename");
  document_.text(file);
  document_.key("line");
  document_.number(0);
  document_.end_dict();
}

// The stack, and, as the outermost frame, who it is for: the readers have no other place for it.
void Writer::write_frames(const Context& context) {
  const auto number = static_cast<std::uint32_t>(contexts_.size());
  const std::uint32_t value = contexts_.try_emplace(context, number).first->second;
  if (document_.recall(value)) return;
  document_.begin_list();
  for (const SnapshotFrame& frame : stack_at(snapshot_, context.stack)) {
    const SnapshotModule* const module = module_of(snapshot_, frame);
    write_frame(name_of(snapshot_, frame), module == nullptr ? "??" : module->path);
  }
  write_frame(title_of(tag_at(snapshot_, context.tag)), source_at(snapshot_, context.source));
  document_.end_list();
  document_.remember(value);
}

// Null: memory that is idle.
void Writer::write_block(std::uint64_t address, std::uint64_t bytes, const SnapshotBlock* block) {
  if (bytes == 0) return;
  document_.begin_dict();
  document_.key("address");
  document_.number(address);
  document_.key("size");
  document_.number(bytes);
  document_.key("requested_size");
  document_.number(block == nullptr ? 0 : bytes);
  document_.key("state");
  document_.word(block == nullptr ? "inactive" : "active_allocated");
  document_.key("frames");
  if (block == nullptr) {
    document_.begin_list();
    document_.end_list();
  } else {
    write_frames({block->stack, block->tag, block->pool});
  }
  document_.end_dict();
}

void Writer::write_blocks(const Region& region) {
  std::uint64_t at = region.address;
  for (std::uint32_t i = 0; i < region.count; ++i) {
    const SnapshotBlock& block = snapshot_.blocks[layout_.placed()[region.first + i]];
    write_block(at, block.address - at, nullptr);
    write_block(block.address, block.bytes, &block);
    at = block.address + block.bytes;
  }
  write_block(at, region.end() - at, nullptr);
}

void Writer::write_segment(const Region& region) {
  document_.begin_dict();
  const std::uint64_t sum = used(region);
  const std::initializer_list<std::pair<std::string_view, std::uint64_t>> numbers{
      {"device", region.device},    {"address", region.address}, {"total_size", region.bytes},
      {"allocated_size", sum},      {"active_size", sum},        {"requested_size", sum},
      {"stream", stream_of(region)}};
  for (const auto& [name, number] : numbers) {
    document_.key(name);
    document_.number(number);
  }
  document_.key("segment_type");
  document_.word(region.bytes < kLarge ? "small" : "large");
  document_.key("segment_pool_id");
  document_.pair(0, 0);
  document_.key("is_expandable");
  document_.boolean(false);
  document_.key("frames");
  document_.begin_list();
  document_.end_list();
  document_.key("blocks");
  document_.begin_list();
  write_blocks(region);
  document_.end_list();
  document_.end_dict();
}

Writer::Place Writer::place_of(std::uint32_t event) {
  const SnapshotEvent& e = snapshot_.events[event];
  if (e.kind == "deny") return {.device = 0};
  const History::Fate fate = history_.fate(event);
  if (fate == History::Fate::none || e.bytes == 0) return {};
  const std::uint32_t source = history_.source_of(event);
  const Region* const region = layout_.find(source, e.address);
  if (region != nullptr && region->pool != kNone) {
    return {.device = region->device, .stream = stream_of(*region), .within = true};
  }
  if (fate == History::Fate::live && region != nullptr) return {.device = region->device};
  // Its segment is not there at the end, as the block itself must not be.
  if (fate == History::Fate::live || fate == History::Fate::open) return {};
  return {.device = layout_.past_device(source)};
}

std::vector<std::vector<std::uint32_t>> Writer::events_of_devices() {
  std::vector<std::vector<std::uint32_t>> devices;
  for (std::uint32_t i = 0; i < snapshot_.events.size(); ++i) {
    const Place place = place_of(i);
    if (place.device == kNone) continue;
    if (place.device >= devices.size()) devices.resize(place.device + 1);
    devices[place.device].push_back(i);
  }
  devices.resize(std::max<std::size_t>({devices.size(), layout_.devices(), 1}));
  return devices;
}

void Writer::write_change(const Change& change, std::uint32_t event) {
  const SnapshotEvent& e = snapshot_.events[event];
  document_.begin_dict();
  document_.key("action");
  document_.word(change.action);
  const bool refused = change.action == "oom";
  document_.key(refused ? "device_free" : "addr");
  document_.number(change.address);
  document_.key("size");
  document_.number(change.bytes);
  document_.key("stream");
  document_.number(change.stream);
  document_.key("time_us");
  document_.number(static_cast<std::uint64_t>(utc_of(snapshot_, e.seconds)) / 1000);
  document_.key("frames");
  const bool live = history_.fate(event) == History::Fate::live;
  const SnapshotBlock* const block = live ? &snapshot_.blocks[history_.block_of(event)] : nullptr;
  write_frames({block == nullptr ? 0 : block->stack, e.tag == 0 ? kNone : e.tag - 1,
                refused ? kNone : history_.source_of(event)});
  document_.end_dict();
}

void Writer::write_event(std::uint32_t event) {
  const SnapshotEvent& e = snapshot_.events[event];
  if (e.kind == "deny") return write_change({.action = "oom", .bytes = e.bytes}, event);
  const Place place = place_of(event);
  const bool taken = history_.fate(event) != History::Fate::release;
  const auto change = [&](std::string_view action) {
    write_change({action, e.address, e.bytes, place.stream}, event);
  };
  if (taken) {
    if (!place.within) change("segment_alloc");
    return change("alloc");
  }
  change("free_requested");
  change("free_completed");
  if (!place.within) change("segment_free");
}

void Writer::write() {
  const auto devices = events_of_devices();
  document_.begin_dict();
  document_.key("segments");
  document_.begin_list();
  for (const Region& region : layout_.regions()) write_segment(region);
  document_.end_list();
  document_.key("device_traces");
  document_.begin_list();
  for (const auto& events : devices) {
    document_.begin_list();
    for (const std::uint32_t event : events) write_event(event);
    document_.end_list();
  }
  document_.end_list();
  document_.key("allocator_settings");
  document_.begin_dict();
  document_.end_dict();
  document_.key("external_annotations");
  document_.begin_list();
  document_.end_list();
  document_.end_dict();
  document_.finish();
}

}  // namespace

void write_memory_viz(const Snapshot& snapshot, Document& document) {
  Writer{snapshot, document}.write();
}

}  // namespace forebay::detail
