// Any order of commits, writes, decommits and moves of pages of the host leaves ranges as a list
// of their pages says. RapidCheck finds a short order that does not.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdint>
#include <vector>

#include "conformance/range_model.hpp"
#include "forebay/device.hpp"

namespace forebay {
namespace {

using conformance::RangeModel;

enum class Verb { commit, write, decommit, adopt };

// Numbers are taken modulo what there is, so that every list of them means something.
struct Operation {
  Verb verb = Verb::commit;
  std::uint8_t range = 0;
  std::uint8_t source = 0;
  std::uint8_t page = 0;
  std::uint8_t source_page = 0;
  std::uint8_t count = 0;
};

void showValue(const Operation& operation, std::ostream& out) {
  constexpr const char* kVerbs[] = {"commit", "write", "decommit", "adopt"};
  out << kVerbs[static_cast<std::size_t>(operation.verb)] << " range " << operation.range % 2
      << " page " << int{operation.page} << " count " << int{operation.count} << " from range "
      << operation.source % 2 << " page " << int{operation.source_page};
}

rc::Gen<Operation> any_operation() {
  return rc::gen::build<Operation>(
      rc::gen::set(&Operation::verb,
                   rc::gen::element(Verb::commit, Verb::write, Verb::decommit, Verb::adopt)),
      rc::gen::set(&Operation::range), rc::gen::set(&Operation::source),
      rc::gen::set(&Operation::page), rc::gen::set(&Operation::source_page),
      rc::gen::set(&Operation::count));
}

void apply(const Operation& operation, std::vector<RangeModel>& models) {
  RangeModel& model = models[operation.range % 2];
  RangeModel& source = models[operation.source % 2];
  const std::size_t pages = model.size();
  const std::size_t count = operation.count % pages;
  const std::size_t page = operation.page % (pages - count + 1);
  switch (operation.verb) {
    case Verb::commit:
      RC_ASSERT(model.commit(page, count).ok());
      return;
    case Verb::write:
      model.write(page, count, static_cast<unsigned char>(1 + operation.source_page % 255));
      return;
    case Verb::decommit:
      model.decommit(page, count);
      return;
    case Verb::adopt: {
      const std::size_t from = operation.source_page % (pages - count + 1);
      const Status status = model.adopt(page, source, from, count);
      RC_ASSERT(status.code() != Code::unsupported);
    }
  }
}

void check_any_order(const AddressRangeOptions& options) {
  const auto host = Device::host();
  const auto operations = *rc::gen::container<std::vector<Operation>>(any_operation());
  const Bytes page = host->reserve_address({}, options).value()->page();
  const auto first = host->reserve_address(page * 12, options).value();
  const auto second = host->reserve_address(page * 12, options).value();
  std::vector<RangeModel> models;
  models.emplace_back(*first, true);
  models.emplace_back(*second, true);
  for (const Operation& operation : operations) {
    apply(operation, models);
    RC_ASSERT(models[0].matches() && models[1].matches());
  }
  RC_ASSERT(first->committed() == models[0].committed());
  RC_ASSERT(second->committed() == models[1].committed());
}

RC_GTEST_PROP(HostRangeProperty, IsAsItsListOfPagesSays, ()) { check_any_order({}); }

RC_GTEST_PROP(HostRangeProperty, IsAsItsListOfPagesSaysWithHugePagesAdvised, ()) {
  check_any_order({.page = Bytes{1ULL << 20}, .huge_pages = HugePages::advise});
}

}  // namespace
}  // namespace forebay
