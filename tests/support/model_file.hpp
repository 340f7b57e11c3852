// A real model to test with.
#pragma once

#include <filesystem>

namespace forebay::test {

// The file named by FOREBAY_TEST_MODEL, else the one that `make setup` keeps in the cache
// folder; empty if there is none.
std::filesystem::path model_file();

}  // namespace forebay::test
