// What a look at all live blocks costs the program, and what it comes to as a file.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

#include "forebay/pool.hpp"
#include "forebay/telemetry.hpp"
#include "forebay/tracker.hpp"
#include "pool/measure.hpp"
#include "tracking/heavy_work.hpp"
#include "tracking/work.hpp"

namespace forebay::bench {
namespace {

// Another thread that takes and drops all the time, and remembers how long the longest took.
class Bystander {
 public:
  explicit Bystander(Pool& pool) : thread_([this, &pool] { run(pool); }) {
    while (operations_.load() == 0) std::this_thread::yield();
  }
  ~Bystander() {
    ends_.store(true);
    thread_.join();
  }
  Bystander(const Bystander&) = delete;
  Bystander& operator=(const Bystander&) = delete;

  // The longest since the last call, in ns, once one more has ended.
  double longest() {
    const std::uint64_t now = operations_.load();
    while (operations_.load() < now + 2) std::this_thread::yield();
    return longest_.exchange(0);
  }

 private:
  // Two sizes: of a slab, and of pages.
  void run(Pool& pool) {
    double last = wall_ns();
    while (!ends_.load(std::memory_order_relaxed)) {
      const std::uint64_t bytes = operations_.load() % 2 == 0 ? 1000 : 100'000;
      const Buffer buffer = pool.acquire(Bytes{bytes}).value();
      const double now = wall_ns();
      if (now - last > longest_.load()) longest_.store(now - last);
      last = now;
      operations_.fetch_add(1);
    }
  }

  std::atomic<double> longest_{0};
  std::atomic<std::uint64_t> operations_{0};
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

double file_bytes(const std::string& path) {
  return static_cast<double>(std::filesystem::file_size(path));
}

// The machine may be busy with others, and then stops the bystander by itself: so that is looked at
// too, and all of it several times.
void measure_live(Pool& pool, Figures& figures) {
  constexpr int kTimes = 20;
  Bystander bystander{pool};
  std::map<std::string, Samples> samples;
  for (int i = 0; i != kTimes; ++i) {
    bystander.longest();
    const double start = wall_ns();
    const double cpu = thread_cpu_ns();
    const LiveTable table = Tracker::live();
    const double took = wall_ns() - start;
    samples["live_cpu_ms"].add((thread_cpu_ns() - cpu) / 1e6);
    samples["live_ms"].add(took / 1e6);
    samples["pause_ms"].add(bystander.longest() / 1e6);
    const double end = wall_ns() + took;
    while (wall_ns() < end) std::this_thread::yield();
    samples["no_pause_ms"].add(bystander.longest() / 1e6);
    figures["blocks_seen"] = static_cast<double>(table.blocks.size());
  }
  for (const auto& [name, values] : samples) figures[name] = values.median();
  figures["least_pause_ms"] = samples["pause_ms"].least();
}

void measure_files(const std::string& folder, Figures& figures) {
  const double start = thread_cpu_ns();
  const Snapshot snapshot = Snapshot::take();
  const double taken = thread_cpu_ns();
  figures["take_ms"] = (taken - start) / 1e6;
  write_snapshot(snapshot, folder + "/snapshot.json").throw_if_error();
  const double written = thread_cpu_ns();
  figures["json_ms"] = (written - taken) / 1e6;
  write_snapshot(snapshot, folder + "/snapshot.json.zst").throw_if_error();
  figures["zst_ms"] = (thread_cpu_ns() - written) / 1e6;
  figures["json_bytes"] = file_bytes(folder + "/snapshot.json");
  figures["zst_bytes"] = file_bytes(folder + "/snapshot.json.zst");
  figures["blocks_written"] = static_cast<double>(snapshot.blocks.size());
}

}  // namespace

// Variants: "sampled", "full".
Figures snapshot_work(const WorkOptions& options) {
  TrackerOptions tracking;
  tracking.grade = options.variant == "full" ? TrackingGrade::full : TrackingGrade::sampled;
  Tracker::set_options(tracking).throw_if_error();
  const auto pool = Pool::create(Device::host());
  Figures figures;
  {
    const TagScope tag{"decoder"};
    const auto blocks = heavy_blocks(*pool, options.count);
    measure_live(*pool, figures);
    measure_files(options.folder, figures);
  }
  return figures;
}

}  // namespace forebay::bench
