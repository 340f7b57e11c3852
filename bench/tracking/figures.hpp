// What one run of some work found, as its process tells its parent: a line of JSON.
#pragma once

#include <map>
#include <string>

namespace forebay::bench {

using Figures = std::map<std::string, double>;

std::string to_line(const Figures& figures);
// Throws std::runtime_error for what is no such line.
Figures figures_from_line(const std::string& line);

// The most that this process ever had in memory, beyond what it had before main(): the programs
// that are compared are linked with different libraries.
double peak_bytes();

}  // namespace forebay::bench
