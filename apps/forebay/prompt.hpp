// Where the prompt comes from.
#pragma once

#include <string>

#include "forebay/config.hpp"

namespace forebay::app {

inline constexpr Bytes kMaxPrompt{16ULL << 20};

// The prompt that the settings name: text, a file, or standard input ("-"). One line break
// at the end of a file or of the input is no part of it. A flag wins over the file.
// Errors: invalid_argument (none, two, empty, too long, no UTF-8), not_found, io_error.
Result<std::string> read_prompt(const Config& config);

}  // namespace forebay::app
