// A folder that looks like / to a PressureMonitor.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace forebay::testing {

class FakeTree {
 public:
  FakeTree() {
    std::string name = (std::filesystem::temp_directory_path() / "forebay-tree-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no temporary folder " << name;
    root_ = name;
  }
  FakeTree(const FakeTree&) = delete;
  FakeTree& operator=(const FakeTree&) = delete;
  ~FakeTree() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  const std::filesystem::path& root() const { return root_; }

  // Writes `text` to `file`, given from the tree's root, making its folders.
  FakeTree& file(std::string_view file, std::string_view text) {
    const auto path = root_ / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream{path, std::ios::binary} << text;
    return *this;
  }

  // A process with 300 pages resident, 100 of them shared, on a machine of 8 GiB.
  FakeTree& process() {
    file("proc/self/statm", "1000 300 100 50 0 200 0\n");
    file("proc/self/status", "Name:\tfake\nVmHWM:\t    4096 kB\nVmRSS:\t    1200 kB\n");
    return file("proc/meminfo",
                "MemTotal:        8388608 kB\nMemFree:         1048576 kB\n"
                "MemAvailable:    4194304 kB\nHugePages_Total:       0\n");
  }

 private:
  std::filesystem::path root_;
};

}  // namespace forebay::testing
