#include "tracking/process.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>

extern char** environ;  // NOLINT(readability-identifier-naming): POSIX's name

namespace forebay::bench {
namespace {

namespace fs = std::filesystem;

std::string read_all(int file) {
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; (got = read(file, part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(got));
  }
  return text;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> whole_environment(const std::vector<std::string>& more) {
  std::vector<std::string> all = more;
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string entry = *at;
    const std::string name = entry.substr(0, entry.find('=') + 1);
    bool replaced = false;
    for (const std::string& other : more) replaced = replaced || other.starts_with(name);
    if (!replaced) all.push_back(entry);
  }
  return all;
}

// Returns what it printed; `status` as waitpid has it.
std::string spawn(const Command& command, int& status) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) throw std::runtime_error{"no pipe"};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  auto arguments = command.arguments;
  auto environment = whole_environment(command.environment);
  pid_t child = 0;
  const int error = posix_spawn(&child, arguments[0].c_str(), &actions, nullptr,
                                pointers(arguments).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string out = error == 0 ? read_all(ends[0]) : "";
  close(ends[0]);
  if (error != 0) throw std::runtime_error{command.arguments[0] + ": cannot be started"};
  waitpid(child, &status, 0);
  return out;
}

fs::path own_path() { return fs::read_symlink("/proc/self/exe"); }

std::string first_that_exists(const std::vector<std::string>& folders, const std::string& name) {
  for (const std::string& folder : folders) {
    const fs::path path = fs::path{folder} / name;
    if (fs::exists(path)) return path.string();
  }
  return "";
}

}  // namespace

Figures run(const Command& command) {
  int status = 0;
  const std::string out = spawn(command, status);
  if (status != 0) {
    throw std::runtime_error{
        WIFSIGNALED(status)
            ? fmt::format("{} ended by signal {}", command.arguments[0], WTERMSIG(status))
            : fmt::format("{} failed; see above", command.arguments[0])};
  }
  // Tools print about themselves around it.
  std::istringstream lines{out};
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with('{')) return figures_from_line(line);
  }
  return figures_from_line(out);
}

std::string own_program() { return own_path().string(); }
std::string untracked_program() {
  return (own_path().parent_path() / "tracking_bench_untracked").string();
}

std::string find_library(const std::string& file) {
  return first_that_exists({"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64",
                            "/usr/lib", "/usr/local/lib"},
                           file);
}
std::string find_program(const std::string& name) {
  return first_that_exists({"/usr/bin", "/usr/local/bin"}, name);
}

Folder::Folder() {
  std::string path = (fs::temp_directory_path() / "tracking_bench.XXXXXX").string();
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error{path + ": cannot be made"};
  path_ = path;
}
Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace forebay::bench
