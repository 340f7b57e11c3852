// From the settings to what generate() takes.
#pragma once

#include "forebay/config.hpp"
#include "forebay/generate.hpp"

namespace forebay::app {

// All but the line. Errors: those of model_of() and read_prompt().
Result<GenerateOptions> run_options(const Config& config);

}  // namespace forebay::app
