// What the commands need of a language-model engine. Built with llama.cpp or without: a
// missing engine is an answer at run time.
#pragma once

#include <filesystem>

#include "forebay/config.hpp"
#include "forebay/model.hpp"

namespace forebay::app {

// Measures compute and output bytes by the engine's dry run. Empty if there is no engine.
// Errors: as the engine has them when it opens the file.
Result<ComputeMeter> open_compute_meter(const std::filesystem::path& model);

// The plan of the very run that `generate` would make with these settings and this line.
// Errors: as generate's before it loads; unsupported if there is no engine.
Result<TokenPlan> plan_of_run(const Config& config, Bytes line);

// "llama.cpp …", or "none".
std::string engine_version();

}  // namespace forebay::app
