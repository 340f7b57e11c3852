// Other processes: this program's own work apart, and peers.
#pragma once

#include <string>
#include <vector>

#include "tracking/figures.hpp"

namespace forebay::bench {

struct Command {
  std::vector<std::string> arguments;    // the first is the program's path
  std::vector<std::string> environment;  // "NAME=value", beside this process's own
};

// Runs it to its end. Returns the figures that it printed; throws std::runtime_error if it failed.
Figures run(const Command& command);

// This program, and the one beside it without tracking.
std::string own_program();
std::string untracked_program();

// Empty if there is none.
std::string find_library(const std::string& file);
std::string find_program(const std::string& name);

// A new folder, gone with everything in it at the end.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace forebay::bench
