#include <fmt/format.h>

#include "device/request.hpp"
#include "forebay/tensor.hpp"

namespace forebay {
namespace {

Status check_teacher(const TeacherShapes& shapes) {
  const std::pair<std::string_view, std::uint64_t> fields[] = {{"batch", shapes.batch},
                                                               {"sequence", shapes.sequence},
                                                               {"hidden", shapes.hidden},
                                                               {"vocab", shapes.vocab},
                                                               {"layers", shapes.layers}};
  for (const auto& [name, value] : fields) {
    if (value != 0) continue;
    return {Code::invalid_argument,
            fmt::format("teacher shapes: {} 0 is not allowed; it must be 1 or more", name)};
  }
  return {};
}

}  // namespace

Result<std::vector<TensorSpec>> teacher_specs(const TeacherShapes& shapes) {
  return detail::refuse_bad_alloc([&]() -> Result<std::vector<TensorSpec>> {
    if (Status bad = check_teacher(shapes); !bad.ok()) return bad;
    std::vector<TensorSpec> specs;
    const auto add = [&](std::initializer_list<std::uint64_t> extents, std::size_t count) {
      auto shape = Shape::make({extents.begin(), extents.size()});
      if (shape) specs.push_back({*shape, shapes.dtype, count});
      return shape.status();
    };
    Status made = add({shapes.batch, shapes.sequence, shapes.hidden}, shapes.layers);
    if (made.ok()) made = add({shapes.batch, shapes.sequence, shapes.vocab}, 1);
    if (made.ok()) made = add({shapes.batch, shapes.hidden}, shapes.layers);
    if (!made.ok()) return made.with_context("teacher shapes");
    return specs;
  });
}

}  // namespace forebay
