// The names of this process, apart from the rest, which does without stacks.
#include "track/event_file.hpp"
#include "track/event_names.hpp"

namespace forebay::detail {
namespace {

constexpr EventNames kNames{&stacks_used, &frames_of, &contexts_used, &name_of,
                            [](std::uintptr_t address) { return symbolize(address).function; }};

}  // namespace

Status open_event_file(const std::string& path) { return open_event_file(path, kNames); }

}  // namespace forebay::detail
