#include <array>
#include <optional>

#include "track/cfi_parts.hpp"

namespace forebay::detail::cfi {
namespace {

// Where a register of the caller is.
struct Saved {
  enum class Where : std::uint8_t { kept, at_cfa, at_fp, nowhere, elsewhere };
  Where where = Where::kept;
  std::int64_t offset = 0;
};

struct Row {
  std::uint64_t cfa_register = 0;
  std::int64_t cfa_offset = 0;
  std::uintptr_t expression = 0;  // if not 0: that of the CFA, instead
  std::uint64_t expression_bytes = 0;
  Saved fp;
  Saved return_address;
};

// A value of an expression: a number, one relative to a register, or the word at one.
struct Value {
  enum class Base : std::uint8_t { number, sp, fp, at_sp, at_fp };
  Base base = Base::number;
  std::int64_t offset = 0;
};

std::int64_t wrapped_sum(std::int64_t a, std::int64_t b) noexcept {
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}

// Evaluates what compilers and linkers write for a CFA: words on the stack, and the entries of
// the procedure linkage table, where it depends on pc.
class Expression {
 public:
  Expression(Cursor code, std::uintptr_t pc) noexcept : code_(code), pc_(pc) {}

  std::optional<Value> evaluate() noexcept {
    for (int steps = 0; !code_.at_end(); ++steps) {
      if (steps == kMostSteps || !step(code_.byte())) return std::nullopt;
    }
    if (!code_.ok() || size_ == 0) return std::nullopt;
    return values_[size_ - 1];
  }

 private:
  static constexpr int kMostSteps = 64;

  bool push(Value value) noexcept {
    if (size_ == values_.size()) return false;
    values_[size_++] = value;
    return true;
  }
  bool push(std::int64_t number) noexcept { return push(Value{Value::Base::number, number}); }
  bool add(std::int64_t number) noexcept {
    Value& top = values_[size_ - 1];
    if (top.base == Value::Base::at_sp || top.base == Value::Base::at_fp) return false;
    top.offset = wrapped_sum(top.offset, number);
    return true;
  }
  bool push_register(std::uint64_t number, std::int64_t offset) noexcept {
    if (number == kSp) return push(Value{Value::Base::sp, offset});
    if (number == kFp) return push(Value{Value::Base::fp, offset});
    return number == kReturnAddress && push(wrapped_sum(static_cast<std::int64_t>(pc_), offset));
  }
  bool dereference() noexcept {
    if (size_ == 0) return false;
    Value& top = values_[size_ - 1];
    if (top.base != Value::Base::sp && top.base != Value::Base::fp) return false;
    top.base = top.base == Value::Base::sp ? Value::Base::at_sp : Value::Base::at_fp;
    return true;
  }
  bool combine(std::uint8_t operation) noexcept {
    if (size_ < 2 || values_[size_ - 1].base != Value::Base::number) return false;
    const std::int64_t right = values_[--size_].offset;
    Value& left = values_[size_ - 1];
    if (operation == 0x22) return add(right);
    if (left.base != Value::Base::number) return false;
    switch (operation) {
      case 0x1a:
        left.offset &= right;
        return true;
      case 0x24:
        if (right < 0 || right > 63) return false;
        left.offset = static_cast<std::int64_t>(static_cast<std::uint64_t>(left.offset) << right);
        return true;
      case 0x2a:
        left.offset = left.offset >= right ? 1 : 0;
        return true;
      default:
        return false;
    }
  }
  bool step(std::uint8_t operation) noexcept {
    if (operation >= 0x30 && operation <= 0x4f) return push(operation - 0x30);
    if (operation >= 0x70 && operation <= 0x8f) {
      return push_register(operation - 0x70U, code_.sleb());
    }
    switch (operation) {
      case 0x06:
        return dereference();
      case 0x08:
        return push(code_.byte());
      case 0x09:
        return push(code_.get<std::int8_t>());
      case 0x0a:
        return push(code_.get<std::uint16_t>());
      case 0x0b:
        return push(code_.get<std::int16_t>());
      case 0x0c:
        return push(code_.get<std::uint32_t>());
      case 0x0d:
        return push(code_.get<std::int32_t>());
      case 0x10:
        return push(static_cast<std::int64_t>(code_.uleb()));
      case 0x11:
        return push(code_.sleb());
      case 0x23:
        return size_ != 0 && add(static_cast<std::int64_t>(code_.uleb()));
      default:
        return combine(operation);
    }
  }

  Cursor code_;
  std::uintptr_t pc_;
  std::array<Value, 8> values_{};
  std::size_t size_ = 0;
};

// Runs instructions up to the row of `pc`.
class Program {
 public:
  Program(const Cie& cie, const UnwindTables& tables, std::uintptr_t start,
          std::uintptr_t pc) noexcept
      : cie_(cie), tables_(tables), location_(start), pc_(pc) {}

  bool run(Cursor code) noexcept {
    constexpr int kMostInstructions = 1 << 16;
    for (int count = 0; !code.at_end() && location_ <= pc_; ++count) {
      if (count == kMostInstructions || !step(code)) return false;
    }
    return code.ok();
  }
  // What the initial instructions came to is what `restore` goes back to.
  void begin_function() noexcept { initial_ = row_; }
  const Row& row() const noexcept { return row_; }

 private:
  // The registers that matter; others have no place.
  Saved* saved(std::uint64_t number) noexcept { return saved(row_, number); }
  static Saved* saved(Row& row, std::uint64_t number) noexcept {
    if (number == kFp) return &row.fp;
    return number == kReturnAddress ? &row.return_address : nullptr;
  }
  void set(std::uint64_t number, Saved::Where where, std::int64_t offset = 0) noexcept {
    if (Saved* place = saved(number)) *place = {where, offset};
  }
  void set_offset(std::uint64_t number, std::int64_t factor) noexcept {
    const auto product =
        static_cast<std::uint64_t>(factor) * static_cast<std::uint64_t>(cie_.data_alignment);
    set(number, Saved::Where::at_cfa, static_cast<std::int64_t>(product));
  }
  void restore(std::uint64_t number) noexcept {
    if (Saved* place = saved(number)) *place = *saved(initial_, number);
  }
  void set_cfa(std::uint64_t number, std::int64_t offset) noexcept {
    row_.cfa_register = number;
    row_.cfa_offset = offset;
    row_.expression = 0;
  }
  std::int64_t factored(std::int64_t offset) const noexcept {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(offset) *
                                     static_cast<std::uint64_t>(cie_.data_alignment));
  }
  bool advance(std::uint64_t delta) noexcept {
    const std::uint64_t by = delta * cie_.code_alignment;
    if (by > ~std::uint64_t{0} - location_) return false;
    location_ += by;
    return true;
  }
  bool step(Cursor& code) noexcept {
    const std::uint8_t instruction = code.byte();
    const std::uint8_t low = instruction & 0x3f;
    switch (instruction & 0xc0) {
      case 0x40:
        return advance(low);
      case 0x80:
        set_offset(low, static_cast<std::int64_t>(code.uleb()));
        return true;
      case 0xc0:
        restore(low);
        return true;
      default:
        return step_of_cfa(low, code) || step_of_register(low, code);
    }
  }
  bool step_of_cfa(std::uint8_t instruction, Cursor& code) noexcept;
  bool step_of_register(std::uint8_t instruction, Cursor& code) noexcept;
  void read_expression(std::uint64_t number, Cursor& code) noexcept;
  bool remember() noexcept {
    if (depth_ == remembered_.size()) return false;
    remembered_[depth_++] = row_;
    return true;
  }
  bool restore_row() noexcept {
    if (depth_ == 0) return false;
    row_ = remembered_[--depth_];
    return true;
  }

  const Cie& cie_;
  const UnwindTables& tables_;
  std::uintptr_t location_;
  const std::uintptr_t pc_;
  Row row_;
  Row initial_;
  std::array<Row, 4> remembered_;  // compilers nest one or two
  std::size_t depth_ = 0;
};

// Locations, the CFA, whole rows. False: none of them, or damaged.
bool Program::step_of_cfa(std::uint8_t instruction, Cursor& code) noexcept {
  switch (instruction) {
    case 0x00:
      return true;
    case 0x01: {
      const std::uint64_t to = code.pointer(cie_.pointer_encoding, tables_.header);
      if (!code.ok() || to < location_) return false;
      location_ = to;
      return true;
    }
    case 0x02:
      return advance(code.byte());
    case 0x03:
      return advance(code.get<std::uint16_t>());
    case 0x04:
      return advance(code.get<std::uint32_t>());
    case 0x0a:
      return remember();
    case 0x0b:
      return restore_row();
    case 0x0c: {
      const std::uint64_t number = code.uleb();
      set_cfa(number, static_cast<std::int64_t>(code.uleb()));
      return true;
    }
    case 0x0d:
      set_cfa(code.uleb(), row_.cfa_offset);
      return true;
    case 0x0e:
      row_.cfa_offset = static_cast<std::int64_t>(code.uleb());
      return true;
    case 0x0f:
      row_.expression_bytes = code.uleb();
      row_.expression = code.at();
      code.skip(row_.expression_bytes);
      return true;
    case 0x12: {
      const std::uint64_t number = code.uleb();
      set_cfa(number, factored(code.sleb()));
      return true;
    }
    case 0x13:
      row_.cfa_offset = factored(code.sleb());
      return true;
    case 0x2e:
      code.uleb();
      return true;  // bytes of arguments, pushed
    default:
      return false;
  }
}

// A register that is saved where an expression says: known is only "at rbp", which functions
// that align their stack have for rbp itself.
void Program::read_expression(std::uint64_t number, Cursor& code) noexcept {
  const std::uint64_t bytes = code.uleb();
  if (bytes > code.end() - code.at()) return code.fail();
  if (Saved* place = saved(number)) {
    const auto value = Expression{Cursor{code.at(), code.at() + bytes}, pc_}.evaluate();
    const bool at_fp = value && value->base == Value::Base::fp;
    *place = {at_fp ? Saved::Where::at_fp : Saved::Where::elsewhere, at_fp ? value->offset : 0};
  }
  code.skip(bytes);
}

bool Program::step_of_register(std::uint8_t instruction, Cursor& code) noexcept {
  if (instruction == 0 || instruction > 0x2f) return false;
  const std::uint64_t number = code.uleb();
  switch (instruction) {
    case 0x05:
      set_offset(number, static_cast<std::int64_t>(code.uleb()));
      return true;
    case 0x06:
      restore(number);
      return true;
    case 0x07:
      set(number, Saved::Where::nowhere);
      return true;
    case 0x08:
      set(number, Saved::Where::kept);
      return true;
    case 0x09:  // in another register
    case 0x14:  // a value, not its place
      code.uleb();
      set(number, Saved::Where::elsewhere);
      return true;
    case 0x15:
      code.sleb();
      set(number, Saved::Where::elsewhere);
      return true;
    case 0x10:
      read_expression(number, code);
      return true;
    case 0x16:
      read_expression(number, code);
      set(number, Saved::Where::elsewhere);
      return true;
    case 0x11:
      set_offset(number, code.sleb());
      return true;
    case 0x2f: {
      const std::uint64_t factor = code.uleb();
      set_offset(number, static_cast<std::int64_t>(~factor + 1));
      return true;
    }
    default:
      return false;
  }
}

// ---- The rule

constexpr bool fits(std::int64_t offset) noexcept {
  return offset >= -UnwindRule::kMostOffset && offset <= UnwindRule::kMostOffset && offset % 8 == 0;
}

UnwindRule with_cfa(UnwindRule::Cfa kind, std::int64_t offset) noexcept {
  if (!fits(offset)) return {};
  return {kind, UnwindRule::kKept, static_cast<std::int32_t>(offset)};
}

UnwindRule cfa_of(const Row& row, std::uintptr_t pc) noexcept {
  using Cfa = UnwindRule::Cfa;
  if (row.expression == 0) {
    if (row.cfa_register == kSp) return with_cfa(Cfa::sp, row.cfa_offset);
    return row.cfa_register == kFp ? with_cfa(Cfa::fp, row.cfa_offset) : UnwindRule{};
  }
  const Cursor code{row.expression, row.expression + row.expression_bytes};
  const auto value = Expression{code, pc}.evaluate();
  if (!value) return {};
  switch (value->base) {
    case Value::Base::sp:
      return with_cfa(Cfa::sp, value->offset);
    case Value::Base::fp:
      return with_cfa(Cfa::fp, value->offset);
    case Value::Base::at_fp:
      return with_cfa(Cfa::at_fp, value->offset);
    default:
      return {};
  }
}

std::uint8_t saved_fp(const Saved& fp) noexcept {
  constexpr std::int64_t kDeepest = std::int64_t{8} * (UnwindRule::kAtFp - 1);
  switch (fp.where) {
    case Saved::Where::kept:
    case Saved::Where::nowhere:
      return UnwindRule::kKept;
    case Saved::Where::at_fp:
      return fp.offset == 0 ? UnwindRule::kAtFp : UnwindRule::kLost;
    case Saved::Where::elsewhere:
      return UnwindRule::kLost;
    case Saved::Where::at_cfa:
      break;
  }
  const bool packs = fp.offset <= -8 && fp.offset >= -kDeepest && fp.offset % 8 == 0;
  return packs ? static_cast<std::uint8_t>(-fp.offset / 8) : UnwindRule::kLost;
}

UnwindRule rule_of(const Row& row, std::uintptr_t pc) noexcept {
  using Where = Saved::Where;
  if (row.return_address.where == Where::nowhere) return {UnwindRule::Cfa::end};
  if (row.return_address.where != Where::at_cfa || row.return_address.offset != -8) return {};
  UnwindRule rule = cfa_of(row, pc);
  if (rule.cfa != UnwindRule::Cfa::none) rule.saved_fp = saved_fp(row.fp);
  return rule;
}

}  // namespace

UnwindRule run_programs(const Cie& cie, const Cursor& common, const Cursor& own,
                        const UnwindTables& tables, std::uintptr_t start,
                        std::uintptr_t pc) noexcept {
  Program program{cie, tables, start, pc};
  if (!program.run(common)) return {};
  program.begin_function();
  if (!program.run(own)) return {};
  return rule_of(program.row(), pc);
}

}  // namespace forebay::detail::cfi
