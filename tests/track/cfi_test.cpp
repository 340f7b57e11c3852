#include "track/cfi.hpp"

#include <gtest/gtest.h>
#include <link.h>

#include <cstring>
#include <random>
#include <vector>

#include "track/captured.hpp"
#include "track/unwind_table.hpp"

namespace forebay::testing {
namespace {

using detail::find_rule;
using detail::UnwindRule;
using detail::UnwindTables;
using Cfa = UnwindRule::Cfa;
using Code = std::vector<std::uint8_t>;

// ---- Tables made by hand: one function of 100 bytes

class HandMade {
 public:
  static constexpr std::size_t kCie = 64;

  explicit HandMade(const Code& fde_code, const char* augmentation = "zR") {
    put_header();
    bytes_.resize(kCie);
    put_cie(augmentation);
    put_fde(fde_code);
  }
  UnwindRule at(std::size_t offset) const { return find_rule(tables(), function() + offset); }
  UnwindTables tables() const {
    const auto base = reinterpret_cast<std::uintptr_t>(bytes_.data());
    return {base, base, base + bytes_.size()};
  }
  std::uintptr_t function() const {
    return reinterpret_cast<std::uintptr_t>(bytes_.data()) + kFunction;
  }
  Code& bytes() { return bytes_; }
  std::size_t fde() const { return fde_; }

 private:
  static constexpr std::int32_t kFunction = 1 << 20;  // far from here; it is not looked at

  template <typename T>
  void put(T value, std::size_t at) {
    if (bytes_.size() < at + sizeof value) bytes_.resize(at + sizeof value);
    std::memcpy(bytes_.data() + at, &value, sizeof value);
  }
  template <typename T>
  void add(T value) {
    put(value, bytes_.size());
  }
  void put_header() {
    bytes_ = {1, 0x1b, 0x03, 0x3b};
    add<std::int32_t>(static_cast<std::int32_t>(kCie - 4));
    add<std::uint32_t>(1);
    add<std::int32_t>(kFunction);
    add<std::int32_t>(0);  // the FDE's place, once it is known
  }
  void put_cie(const char* augmentation) {
    add<std::uint32_t>(0);  // length
    add<std::uint32_t>(0);
    bytes_.push_back(1);
    for (const char* letter = augmentation; *letter != 0; ++letter) {
      bytes_.push_back(static_cast<std::uint8_t>(*letter));
    }
    bytes_.insert(bytes_.end(), {0, 1, 0x78, 16, 1, 0x1b});
    bytes_.insert(bytes_.end(), {0x0c, 7, 8, 0x90, 1});  // CFA = rsp + 8, return address below it
    put(static_cast<std::uint32_t>(bytes_.size() - kCie - 4), kCie);
  }
  void put_fde(const Code& code) {
    fde_ = bytes_.size();
    put(static_cast<std::int32_t>(fde_), 16);
    add<std::uint32_t>(0);
    add(static_cast<std::uint32_t>(fde_ + 4 - kCie));
    add(static_cast<std::int32_t>(kFunction - static_cast<std::int32_t>(fde_) - 8));
    add<std::uint32_t>(100);
    bytes_.push_back(0);
    bytes_.insert(bytes_.end(), code.begin(), code.end());
    put(static_cast<std::uint32_t>(bytes_.size() - fde_ - 4), fde_);
  }

  Code bytes_;
  std::size_t fde_ = 0;
};

TEST(CallFrameInformation, SaysOfEachPlaceHowItsCallerIsFound) {
  // push %rbp; mov %rsp,%rbp; ...; leave
  const HandMade tables{{0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x50, 0x0c, 7, 8, 0xc6}};
  EXPECT_EQ(tables.at(0), (UnwindRule{Cfa::sp, UnwindRule::kKept, 8}));
  EXPECT_EQ(tables.at(1), (UnwindRule{Cfa::sp, 2, 16}));
  EXPECT_EQ(tables.at(3), (UnwindRule{Cfa::sp, 2, 16}));
  EXPECT_EQ(tables.at(4), (UnwindRule{Cfa::fp, 2, 16}));
  EXPECT_EQ(tables.at(20), (UnwindRule{Cfa::sp, UnwindRule::kKept, 8}));
  EXPECT_EQ(tables.at(99), (UnwindRule{Cfa::sp, UnwindRule::kKept, 8}));
  EXPECT_EQ(tables.at(100).cfa, Cfa::none);
  EXPECT_EQ(find_rule(tables.tables(), tables.function() - 1).cfa, Cfa::none);
}

TEST(CallFrameInformation, RemembersAndRestoresRows) {
  const HandMade tables{{0x0a, 0x41, 0x0e, 64, 0x41, 0x0b}};
  EXPECT_EQ(tables.at(1).offset, 64);
  EXPECT_EQ(tables.at(2).offset, 8);
  EXPECT_EQ(HandMade({0x0b}).at(0).cfa, Cfa::none);  // nothing was remembered
  EXPECT_EQ(HandMade(Code(100, 0x0a)).at(0).cfa, Cfa::none);
}

TEST(CallFrameInformation, EndsWhereThereIsNoReturnAddress) {
  EXPECT_EQ(HandMade({0x07, 16}).at(0).cfa, Cfa::end);
}

TEST(CallFrameInformation, KnowsTheExpressionsThatCompilersWrite) {
  // An aligned stack: the CFA at rbp - 8, rbp itself at rbp.
  const HandMade aligned{{0x0f, 3, 0x76, 0x78, 0x06, 0x10, 6, 2, 0x76, 0}};
  EXPECT_EQ(aligned.at(0), (UnwindRule{Cfa::at_fp, UnwindRule::kAtFp, -8}));
  // The procedure linkage table: one word more from the 11th of each 16 bytes on.
  const HandMade linkage{{0x0f, 11, 0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}};
  const std::size_t first = (16 - linkage.function() % 16) % 16;
  EXPECT_EQ(linkage.at(first).offset, 8);
  EXPECT_EQ(linkage.at(first + 10).offset, 8);
  EXPECT_EQ(linkage.at(first + 11).offset, 16);
}

TEST(CallFrameInformation, SaysNothingOfWhatItCannotExpress) {
  for (const Code& code : std::vector<Code>{
           {0x0c, 3, 8},                          // another register's
           {0x0e, 12},                            // not of whole words
           {0x0e, 0xff, 0xff, 0xff, 0x7f},        // far away
           {0x2d},                                // not of this machine
           {0x3f},                                // not known
           {0x09, 16, 1},                         // the return address in a register
           {0x14, 16, 1},                         // and as a value
           {0x90, 2},                             // and elsewhere
           {0x0f, 2, 0x06, 0x06},                 // an expression of nothing
           {0x0f, 0x40, 0x30},                    // longer than its function
           {0x0f, 5, 0x77, 0, 0x06, 0x06, 0x30},  // of a word's word
           {0x0f, 9, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30, 0x30},  // too deep
           {0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1},
           {0x41, 0x01, 0, 0, 0, 0},  // back
           {0x0c, 7},                 // cut off
       }) {
    EXPECT_EQ(HandMade(code).at(50).cfa, Cfa::none) << int{code[0]} << ' ' << code.size();
  }
  EXPECT_EQ(HandMade({0x10, 6, 1, 0x30}).at(0).saved_fp, UnwindRule::kLost);
  EXPECT_EQ(HandMade({0x09, 6, 3}).at(0).saved_fp, UnwindRule::kLost);
}

TEST(CallFrameInformation, RefusesCommonPartsThatItDoesNotKnow) {
  EXPECT_EQ(HandMade({}, "zQ").at(0).cfa, Cfa::none);
  EXPECT_EQ(HandMade({}, "zRRRRRRRRR").at(0).cfa, Cfa::none);
  EXPECT_EQ(HandMade({}, "eh").at(0).cfa, Cfa::none);
  // A frame of the kernel's whose code is not the return from a handler.
  EXPECT_EQ(HandMade({}, "zRS").at(0).cfa, Cfa::none);
}

TEST(CallFrameInformation, DamagedInAnyByteIsHarmless) {
  const Code code{0x41, 0x0e, 16,   0x86, 2,    0x43, 0x0d, 6,    0x0a, 0x50, 0x0c, 7,
                  8,    0xc6, 0x41, 0x0b, 0x0f, 3,    0x76, 0x78, 0x06, 0x10, 6,    2,
                  0x76, 0,    0x2e, 8,    0x02, 1,    0x03, 1,    0,    0x04, 1,    0,
                  0,    0,    0x12, 7,    0x7f, 0x13, 0x7e, 0x11, 6,    0x02};
  const HandMade whole{code};
  for (std::size_t i = 0; i < HandMade{code}.bytes().size(); ++i) {
    for (const int value : {0, 1, 0x7f, 0x80, 0xff, 0x40, 0x0f, 0x3f}) {
      HandMade damaged{code};
      damaged.bytes()[i] = static_cast<std::uint8_t>(value);
      for (const std::size_t offset : {0U, 4U, 30U, 99U}) {
        const UnwindRule rule = damaged.at(offset);
        ASSERT_LE(rule.cfa, Cfa::end);
        ASSERT_LE(std::abs(rule.offset), UnwindRule::kMostOffset);
        ASSERT_EQ(rule.offset % 8, 0);
        ASSERT_LE(rule.saved_fp, UnwindRule::kLost);
      }
    }
  }
}

TEST(CallFrameInformation, CutOffAnywhereIsHarmless) {
  const HandMade whole{{0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6}};
  UnwindTables tables = whole.tables();
  const std::uintptr_t end = tables.high;
  for (tables.high = tables.low; tables.high < end; ++tables.high) {
    EXPECT_EQ(find_rule(tables, whole.function() + 4).cfa, Cfa::none);
  }
  EXPECT_EQ(find_rule(tables, whole.function() + 4).cfa, Cfa::fp);
}

// ---- The tables of this program

struct OwnTables {
  std::uintptr_t header = 0;
  std::uintptr_t low = 0;  // of the segment that the tables are in
  std::uintptr_t high = 0;
};

int look(dl_phdr_info* info, std::size_t, void* into) {
  auto& own = *static_cast<OwnTables*>(into);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME) {
      own.header = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    }
  }
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const std::uintptr_t start = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && own.header - start < segment.p_memsz) {
      own.low = start;
      own.high = start + segment.p_memsz;
    }
  }
  return 1;
}

// A copy, that may be damaged. What it is relative to moves with it, the code too.
class Copy {
 public:
  Copy() {
    dl_iterate_phdr(&look, &own_);
    bytes_.resize(own_.high - own_.low);
    // Not by memcpy: there is more than variables between these addresses.
    EXPECT_TRUE(detail::read_memory(own_.low, bytes_.data(), bytes_.size()));
  }
  UnwindTables tables() const {
    const auto low = reinterpret_cast<std::uintptr_t>(bytes_.data());
    return {low + (own_.header - own_.low), low, low + bytes_.size()};
  }
  UnwindTables original() const { return {own_.header, own_.low, own_.high}; }
  std::uintptr_t moved(std::uintptr_t pc) const { return pc - own_.header + tables().header; }
  std::size_t header() const { return own_.header - own_.low; }
  Code& bytes() { return bytes_; }
  // Starts of functions, by the table.
  std::vector<std::uintptr_t> functions() const {
    std::uint32_t count = 0;
    std::memcpy(&count, bytes_.data() + header() + 8, 4);
    std::vector<std::uintptr_t> starts;
    for (std::uint32_t i = 0; i < count; ++i) {
      std::int32_t start = 0;
      std::memcpy(&start, bytes_.data() + header() + 12 + std::size_t{i} * 8, 4);
      starts.push_back(own_.header + static_cast<std::uintptr_t>(std::intptr_t{start}));
    }
    return starts;
  }

 private:
  OwnTables own_;
  Code bytes_;
};

TEST(TablesOfThisProgram, SayTheSameWhereverTheyLie) {
  if (!detail::has_unwind_tables()) GTEST_SKIP() << "no unwind tables on this system";
  const Copy copy;
  std::size_t known = 0;
  const auto functions = copy.functions();
  ASSERT_GT(functions.size(), 100U);
  for (std::size_t i = 0; i < functions.size(); i += 1 + functions.size() / 2000) {
    const UnwindRule rule = find_rule(copy.original(), functions[i]);
    EXPECT_EQ(find_rule(copy.tables(), copy.moved(functions[i])), rule);
    if (rule.cfa == Cfa::sp && rule.offset == 8) ++known;
  }
  EXPECT_GT(known, 50U);  // at its start, a function has pushed nothing
}

TEST(TablesOfThisProgram, AreHarmlessWhenDamaged) {
  if (!detail::has_unwind_tables()) GTEST_SKIP() << "no unwind tables on this system";
  Copy copy;
  const Code whole = copy.bytes();
  const auto functions = copy.functions();
  std::mt19937_64 random{11};
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::size_t> damaged;
    for (int i = 0; i < 200; ++i) {
      // Mostly in the records; now and then in the header and its table.
      const bool in_header = random() % 8 == 0;
      const std::size_t at =
          copy.header() + random() % (in_header ? 64 : whole.size() - copy.header());
      copy.bytes()[at] = static_cast<std::uint8_t>(random());
      damaged.push_back(at);
    }
    const std::uintptr_t pc = functions[random() % functions.size()] + random() % 64;
    const UnwindRule rule = find_rule(copy.tables(), copy.moved(pc));
    ASSERT_LE(std::abs(rule.offset), UnwindRule::kMostOffset);
    for (const std::size_t at : damaged) copy.bytes()[at] = whole[at];
  }
}

TEST(Memory, ThatIsNotThereIsAnErrorNotAFault) {
  if (!detail::has_unwind_tables()) GTEST_SKIP() << "the system does not let us ask";
  std::uint64_t word = 0;
  const std::uint64_t there = 4711;
  EXPECT_TRUE(detail::read_memory(reinterpret_cast<std::uintptr_t>(&there), &word, sizeof word));
  EXPECT_EQ(word, there);
  errno = 5;
  EXPECT_FALSE(detail::read_memory(16, &word, sizeof word));
  EXPECT_EQ(errno, 5);
  EXPECT_EQ(find_rule({16, 8, 4096}, 32).cfa, Cfa::none);
}

}  // namespace
}  // namespace forebay::testing
