#include "trace/decoder.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

namespace forebay::trace {
namespace {

using Kind = Operation::Kind;

Decoder decoder_of(std::string_view text, Duration tick_every = {}) {
  return Decoder{Reader::over(text, "t").value(), tick_every};
}

std::vector<Operation> all_of(Decoder& decoder, std::size_t most = 100) {
  std::vector<Operation> all, batch;
  for (;;) {
    const auto count = decoder.fill(batch, most);
    EXPECT_TRUE(count.ok()) << count.status().message();
    if (!count.ok() || *count == 0) return all;
    all.insert(all.end(), batch.begin(), batch.end());
  }
}

TEST(Decoder, GivesSlotsThatAreUsedAgain) {
  Decoder decoder = decoder_of(
      "{\"op\":\"alloc\",\"id\":70,\"bytes\":8,\"stream\":3}\n"
      "{\"op\":\"alloc\",\"id\":80,\"bytes\":16}\n"
      "{\"op\":\"free\",\"id\":70}\n"
      "{\"op\":\"alloc\",\"id\":90,\"bytes\":24}\n"
      "{\"op\":\"free\",\"id\":80,\"stream\":4}\n");
  const auto operations = all_of(decoder);
  ASSERT_EQ(operations.size(), 5U);
  EXPECT_EQ(operations[0].slot, 0U);
  EXPECT_EQ(operations[1].slot, 1U);
  EXPECT_EQ(operations[2].kind, Kind::free);
  EXPECT_EQ(operations[2].amount, 8U);
  EXPECT_EQ(operations[2].stream.handle, 3U);  // its block's
  EXPECT_EQ(operations[3].slot, 0U);
  EXPECT_EQ(operations[4].stream.handle, 4U);
  EXPECT_EQ(decoder.demand().peak_blocks, 2U);
  EXPECT_EQ(decoder.demand().live, Bytes{24});
}

TEST(Decoder, LeavesOutWhatHasNoBlock) {
  Decoder decoder = decoder_of(std::string{kRmmHeader} +
                               "\n"
                               "1,00:00:00:000000,allocate failure,(nil),512,0x0\n"
                               "1,00:00:00:000000,allocate,0x0,0,0x0\n"
                               "1,00:00:00:000000,free,(nil),0,0x0\n"
                               "1,00:00:00:000000,allocate,0x10,0,0x0\n");
  EXPECT_EQ(all_of(decoder).size(), 1U);
  EXPECT_EQ(decoder.demand().left_out, 3U);
  EXPECT_EQ(decoder.demand().operations, 1U);
}

TEST(Decoder, TicksAsTimePasses) {
  using std::chrono::milliseconds;
  Decoder decoder = decoder_of(
      "{\"t\":0,\"op\":\"alloc\",\"id\":1,\"bytes\":1}\n"
      "{\"t\":0.05,\"op\":\"alloc\",\"id\":2,\"bytes\":1}\n"
      "{\"t\":0.35,\"op\":\"alloc\",\"id\":3,\"bytes\":1}\n"
      "{\"t\":100000,\"op\":\"alloc\",\"id\":4,\"bytes\":1}\n",
      milliseconds{100});
  std::map<Kind, int> counts;
  Duration passed{};
  for (const Operation& operation : all_of(decoder)) {
    ++counts[operation.kind];
    if (operation.kind == Kind::tick)
      passed += Duration{static_cast<Duration::rep>(operation.amount)};
  }
  EXPECT_EQ(counts[Kind::allocate], 4);
  EXPECT_EQ(counts[Kind::tick], 3 + 3) << "a gap of a day is a bounded number of looks";
  EXPECT_EQ(passed, std::chrono::seconds{100000});
}

TEST(Decoder, TicksDoNotMakeABatchLonger) {
  constexpr std::size_t kMost = 1000;
  std::string text;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    text += fmt::format("{{\"t\":{},\"op\":\"alloc\",\"id\":{},\"bytes\":1}}\n", i * 3600, i);
  }
  Decoder decoder = decoder_of(text, std::chrono::seconds{1});
  std::vector<Operation> batch;
  std::size_t operations = 0, longest = 0;
  for (;;) {
    const auto count = decoder.fill(batch, kMost);
    ASSERT_TRUE(count.ok()) << count.status().message();
    if (*count == 0) break;
    operations += *count;
    longest = std::max(longest, batch.size());
  }
  EXPECT_EQ(operations, 5000U);
  EXPECT_LE(longest, 2 * kMost + 3);
}

TEST(Decoder, CountsWhatANaiveModelCounts) {
  std::mt19937_64 random{11};
  std::map<std::uint64_t, std::uint64_t> live;
  std::uint64_t sum = 0, peak = 0, peak_at = 0, blocks = 0, operations = 0, next = 1;
  std::string text;
  for (int i = 0; i < 5000; ++i) {
    if (live.empty() || random() % 5 < 3) {
      const std::uint64_t bytes = random() % 100000;
      text += fmt::format("{{\"op\":\"alloc\",\"id\":{},\"bytes\":{}}}\n", next, bytes);
      live[next++] = bytes;
      sum += bytes;
    } else {
      const auto victim =
          std::next(live.begin(), static_cast<std::ptrdiff_t>(random() % live.size()));
      text += fmt::format("{{\"op\":\"free\",\"id\":{}}}\n", victim->first);
      sum -= victim->second;
      live.erase(victim);
    }
    ++operations;
    blocks = std::max<std::uint64_t>(blocks, live.size());
    if (sum > peak) {
      peak = sum;
      peak_at = operations;
    }
  }
  for (const std::size_t most : {std::size_t{1}, std::size_t{7}, std::size_t{100000}}) {
    Decoder decoder = decoder_of(text);
    EXPECT_EQ(all_of(decoder, most).size(), operations);
    EXPECT_EQ(decoder.demand().operations, operations);
    EXPECT_EQ(decoder.demand().peak_live, Bytes{peak});
    EXPECT_EQ(decoder.demand().peak_at, peak_at);
    EXPECT_EQ(decoder.demand().peak_blocks, blocks);
    EXPECT_EQ(decoder.demand().live, Bytes{sum});
  }
}

TEST(Survey, CanBeStopped) {
  const auto demand = survey(Reader::over("{\"op\":\"alloc\",\"id\":1,\"bytes\":1}", "t").value(),
                             [](double) { return false; });
  EXPECT_EQ(demand.status().code(), Code::interrupted);
}

}  // namespace
}  // namespace forebay::trace
