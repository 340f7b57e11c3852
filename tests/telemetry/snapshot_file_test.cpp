#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/text.hpp"
#include "support/failing_new.hpp"
#include "support/folder.hpp"
#include "telemetry/snapshot_json.hpp"
#include "telemetry/snapshot_samples.hpp"

namespace forebay {
namespace {

using detail::parse_snapshot;
using detail::snapshot_json;
using testing::large_snapshot;
using testing::small_snapshot;
using testing::TestFolder;

TEST(SnapshotFile, HoldsWhatWasWrittenInBothForms) {
  const TestFolder folder;
  const Snapshot written = small_snapshot();
  for (const char* const name : {"a.json", "a.json.zst"}) {
    ASSERT_TRUE(write_snapshot(written, folder / name).ok());
    const Result<Snapshot> read = read_snapshot(folder / name);
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_TRUE(*read == written) << name;
  }
  EXPECT_EQ(folder.read("a.json"), snapshot_json(written));
  EXPECT_EQ(folder.read("a.json.zst").substr(0, 4), "\x28\xB5\x2F\xFD");
}

TEST(SnapshotFile, TheNameDoesNotSayWhichFormItIs) {
  const TestFolder folder;
  ASSERT_TRUE(write_snapshot(small_snapshot(), folder / "a.zst").ok());
  std::filesystem::rename(folder / "a.zst", folder / "a.json");
  EXPECT_TRUE(read_snapshot(folder / "a.json").ok());
}

// Stops at the n-th question, until nothing stops any more; returns how often something did.
int stop_at_each(const TestFolder& folder, const std::function<Status(const StopCheck&)>& write) {
  for (int last = 1;; ++last) {
    int asked = 0;
    const Status status = write([&] { return ++asked == last; });
    if (asked < last) {
      EXPECT_TRUE(status.ok()) << status.message();
      return last - 1;
    }
    EXPECT_EQ(status.code(), Code::interrupted) << status.message();
    EXPECT_EQ(folder.read("a"), "old");
    EXPECT_EQ(folder.names(), std::vector<std::string>{"a"}) << "no temporary file either";
  }
}

TEST(SnapshotFile, AnInterruptedOneLeavesWhatWasThere) {
  const TestFolder folder;
  const Snapshot large = large_snapshot(20'000, 100);
  folder.write("a", "old");
  const auto write = [&](const StopCheck& stop) {
    return write_snapshot(large, folder / "a", stop);
  };
  EXPECT_GT(stop_at_each(folder, write), 2);
  EXPECT_TRUE(read_snapshot(folder / "a").ok());
  for (const ExportFormat format : {ExportFormat::memory_viz, ExportFormat::rmm_csv}) {
    folder.write("a", "old");
    const auto write_format = [&](const StopCheck& stop) {
      return export_snapshot(large, format, folder / "a", stop);
    };
    EXPECT_GT(stop_at_each(folder, write_format), 0);
  }
}

TEST(SnapshotFile, ACrashHandlersCountersAreBudgetsAndPools) {
  Snapshot crashed;
  crashed.statistics = {
      {"budget", "process", {{"used_bytes", 7}, {"denials_total", 2}}},
      {"budget", "odd", {{"used_bytes", -1}, {"limit_bytes", 1e300}, {"peak_bytes", std::nan("")}}},
      {"pool", "tensors", {{"live_bytes", 5}, {"live_blocks", 3}, {"other", 1}}},
      {"cache", "kernels", {{"hits_total", 4}}}};
  EXPECT_EQ(parse_snapshot(snapshot_json(crashed), "x").value().statistics.size(), 4U)
      << "complete";
  crashed.complete = false;
  const Snapshot read = parse_snapshot(snapshot_json(crashed), "x").value();
  ASSERT_EQ(read.budgets.size(), 2U);
  EXPECT_EQ(read.budgets[0].path, "process");
  EXPECT_EQ(read.budgets[0].used, Bytes{7});
  EXPECT_EQ(read.budgets[0].denials, 2U);
  EXPECT_TRUE(read.budgets[0].limit.is_unlimited());
  EXPECT_EQ(read.budgets[1].used, Bytes{});
  EXPECT_EQ(read.budgets[1].peak, Bytes{});
  EXPECT_TRUE(read.budgets[1].limit.is_unlimited());
  ASSERT_EQ(read.pools.size(), 1U);
  EXPECT_EQ(read.pools[0].stats.live, Bytes{5});
  EXPECT_EQ(read.pools[0].stats.live_blocks, 3U);
  ASSERT_EQ(read.statistics.size(), 1U);
  EXPECT_EQ(read.statistics[0].name, "kernels");
  // Once more, as after --out.
  EXPECT_TRUE(parse_snapshot(snapshot_json(read), "x").value() == read);
}

TEST(SnapshotFile, AnEmptySnapshotIsOneToo) {
  const Result<Snapshot> read = parse_snapshot(snapshot_json(Snapshot{}), "x");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(*read == Snapshot{});
}

TEST(SnapshotFile, IsJsonForOtherReaders) {
  const auto json = nlohmann::json::parse(snapshot_json(small_snapshot()));
  EXPECT_EQ(json["format"], "forebay snapshot");
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["budgets"][0]["limit_bytes"], nullptr) << "no limit";
  EXPECT_EQ(json["blocks"]["address"][0], 0x7f0000001000);
  EXPECT_EQ(json["statistics"][0]["values"]["share_ratio"], 0.125);
  EXPECT_EQ(json["stacks"][0], (std::vector{0, 1}));
  EXPECT_EQ(json["frames"]["functions"], (std::vector<std::string>{"grow_cache(int)", "main"}));
  EXPECT_EQ(json["events"]["rows"]["kind"], (std::vector{0, 1, 0}));
}

TEST(SnapshotFile, TextThatIsNoUtf8IsReplacedWhereItIsNone) {
  Snapshot snapshot;
  snapshot.program = "a\xFF\xC3(\xED\xA0\x80";
  const Result<Snapshot> read = parse_snapshot(snapshot_json(snapshot), "x");
  ASSERT_TRUE(read.ok()) << read.status().message();
  constexpr const char* kWrong = "\xEF\xBF\xBD";
  EXPECT_EQ(read->program, fmt::format("a{0}{0}({0}{0}{0}", kWrong));
}

TEST(SnapshotFile, ACounterThatIsNoNumberIsNullAndComesBackAsNone) {
  Snapshot snapshot;
  snapshot.statistics.push_back(
      {"cache", "c", {{"a_ratio", std::nan("")}, {"b_ratio", INFINITY}, {"a_ratio", 1}}});
  const Result<Snapshot> read = parse_snapshot(snapshot_json(snapshot), "x");
  ASSERT_TRUE(read.ok()) << read.status().message();
  const std::vector<Statistic>& statistics = read->statistics[0].statistics;
  ASSERT_EQ(statistics.size(), 2U) << "the second a_ratio is left out";
  EXPECT_TRUE(std::isnan(statistics[0].value));
  EXPECT_TRUE(std::isnan(statistics[1].value));
}

TEST(SnapshotFile, IsSmallWithManyBlocksAndStacks) {
  const Snapshot snapshot = large_snapshot(200'000, 20'000);
  const std::string json = snapshot_json(snapshot);
  EXPECT_LE(json.size(), 20'000'000U);
  const Result<Snapshot> read = parse_snapshot(json, "x");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_TRUE(*read == snapshot);
}

TEST(SnapshotFile, AFileThatIsThereStaysIfItCannotBeWritten) {
  const TestFolder folder;
  folder.write("a", "old");
  EXPECT_EQ(write_snapshot(small_snapshot(), folder / "no/a").code(), Code::io_error);
  EXPECT_EQ(write_snapshot(small_snapshot(), "").code(), Code::invalid_argument);
  EXPECT_EQ(write_snapshot(small_snapshot(), folder.path()).code(), Code::invalid_argument);
  EXPECT_EQ(folder.read("a"), "old");
}

TEST(SnapshotFile, WithoutMemoryNothingIsWrittenAndTheReasonSaid) {
  const TestFolder folder;
  const Snapshot snapshot = small_snapshot();
  for (const std::string& path : {folder / "a.json", folder / "a.zst"}) {
    ASSERT_TRUE(write_snapshot(Snapshot{}, path).ok());
    Status status;
    const auto check = [&] {
      EXPECT_EQ(folder.names().size(), path.ends_with("zst") ? 2U : 1U);
      const Result<Snapshot> there = read_snapshot(path);
      ASSERT_TRUE(there.ok()) << there.status().message();
      EXPECT_TRUE(*there == (status.ok() ? snapshot : Snapshot{}));
      EXPECT_TRUE(status.ok() || status.code() == Code::memory_refused) << status.message();
    };
    const std::size_t failures = testing::walk_allocation_failures(
        [&] {
          try {
            status = write_snapshot(snapshot, path);
          } catch (const std::bad_alloc&) {
            ADD_FAILURE() << "thrown";
          }
        },
        check);
    EXPECT_GT(failures, 20U);
    EXPECT_TRUE(status.ok());
  }
}

TEST(SnapshotFile, WithoutMemoryNothingIsReadAndTheReasonSaid) {
  const TestFolder folder;
  for (const std::string& path : {folder / "a.json", folder / "a.zst"}) {
    ASSERT_TRUE(write_snapshot(small_snapshot(), path).ok());
    Status status;
    const std::size_t failures = testing::walk_allocation_failures(
        [&] { status = read_snapshot(path).status(); },
        [&] {
          EXPECT_TRUE(status.ok() || status.code() == Code::memory_refused) << status.message();
        });
    EXPECT_GT(failures, 20U);
    EXPECT_TRUE(status.ok());
  }
}

// ---- Any snapshot

rc::Gen<std::string> any_text() {
  return rc::gen::map(
      rc::gen::container<std::vector<std::uint16_t>>(rc::gen::inRange<std::uint16_t>(0, 0x3000)),
      [](const std::vector<std::uint16_t>& points) {
        std::string text;
        for (const std::uint16_t point : points) {
          if (point < 0x80) {
            text += static_cast<char>(point);
          } else if (point < 0x800) {
            text += static_cast<char>(0xC0 | point >> 6U);
            text += static_cast<char>(0x80 | (point & 0x3FU));
          } else {
            text += static_cast<char>(0xE0 | point >> 12U);
            text += static_cast<char>(0x80 | (point >> 6U & 0x3FU));
            text += static_cast<char>(0x80 | (point & 0x3FU));
          }
        }
        return text;
      });
}

double any_double() {
  const double value = std::ldexp(*rc::gen::arbitrary<double>(), *rc::gen::inRange(-300, 300));
  return std::isfinite(value) ? value : 0;
}

// As the reader allows it.
double any_weight() { return std::min(std::abs(any_double()), 9223372036854775808.0); }

std::uint64_t any_number() {
  return *rc::gen::arbitrary<std::uint64_t>() >> *rc::gen::inRange(0, 64);
}

Bytes any_bytes() {
  return *rc::gen::inRange(0, 8) == 0 ? Bytes::unlimited() : Bytes{any_number()};
}

std::size_t any_count() { return *rc::gen::inRange<std::size_t>(0, 6); }

std::uint32_t any_below(std::size_t size) {
  return static_cast<std::uint32_t>(*rc::gen::inRange<std::size_t>(0, size));
}

std::uint32_t any_small() { return *rc::gen::arbitrary<std::uint32_t>(); }

void fill_holders(Snapshot& snapshot) {
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.devices.push_back({*any_text(), *any_text(), any_number(), any_number()});
    snapshot.budgets.push_back(
        {*any_text(), any_bytes(), any_bytes(), any_bytes(), any_bytes(), any_bytes(), any_bytes(),
         any_number(), any_number(),
         *rc::gen::element(Pressure::normal, Pressure::high, Pressure::critical),
         *rc::gen::arbitrary<bool>()});
  }
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.pools.push_back({*any_text(),
                              *any_text(),
                              {any_bytes(), any_bytes(), any_bytes(), any_bytes(), any_bytes(),
                               any_bytes(), any_bytes(), any_number(), any_number(), any_number(),
                               any_number(), any_number(), any_bytes(), any_bytes()}});
    snapshot.segments.push_back({any_below(snapshot.pools.size()), any_number(), any_number()});
  }
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.statistics.push_back({*any_text(), *any_text(), {}});
    for (std::size_t j = any_count(); j > 0; --j) {
      snapshot.statistics.back().statistics.push_back(
          {fmt::format("{}{}", j, *any_text()), any_double()});
    }
  }
}

void fill_code(Snapshot& snapshot) {
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.modules.push_back({*any_text(), *any_text(), any_number()});
  }
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.stacks.emplace_back();
    for (std::size_t j = any_count(); j > 0; --j) {
      snapshot.stacks.back().push_back(
          {any_below(snapshot.modules.size() + 1), any_number(), *any_text()});
    }
  }
}

void fill_blocks(Snapshot& snapshot) {
  for (std::size_t i = 1 + any_count(); i > 0; --i) {
    snapshot.tags.push_back(
        {*any_text(), *any_text(), any_bytes(), any_number(), any_bytes(), any_number()});
    snapshot.sources.push_back(*any_text());
  }
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.blocks.push_back({any_number(), any_number(), any_below(snapshot.sources.size()),
                               any_below(snapshot.tags.size()),
                               any_below(snapshot.stacks.size() + 1), any_double(), any_weight(),
                               any_weight()});
  }
  for (std::size_t i = any_count(); i > 0; --i) {
    snapshot.events.push_back({*any_text(), *any_text(), any_below(snapshot.tags.size() + 1),
                               any_small(), any_double(), any_number(), any_number()});
  }
}

Snapshot any_snapshot() {
  Snapshot snapshot;
  snapshot.program = *any_text();
  snapshot.pid = *rc::gen::arbitrary<std::int64_t>();
  snapshot.taken_at = *any_text();
  snapshot.clock_seconds = any_double();
  snapshot.reason = *any_text();
  snapshot.complete = *rc::gen::arbitrary<bool>();
  snapshot.resident_bytes = any_number();
  snapshot.sample_interval_bytes = any_number();
  snapshot.grade = *any_text();
  fill_holders(snapshot);
  fill_code(snapshot);
  fill_blocks(snapshot);
  return snapshot;
}

RC_GTEST_PROP(SnapshotFile, AnySnapshotComesBackAsItWas, ()) {
  const Snapshot written = any_snapshot();
  const Result<Snapshot> read = parse_snapshot(snapshot_json(written), "x");
  if (!read.ok()) RC_FAIL(read.status().message());
  RC_ASSERT(*read == written);
}

}  // namespace
}  // namespace forebay
