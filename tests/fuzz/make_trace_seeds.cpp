// Writes the seed corpus of trace_fuzz into a folder: small traces of both formats, and the
// lies that a reader must see through.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

constexpr const char* kHeader = "Thread,Time,Action,Pointer,Size,Stream\n";

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream{file, std::ios::binary} << text;
}

void add_logs(const std::filesystem::path& folder) {
  const std::string header = kHeader;
  write(folder / "log",
        header +
            "1,23:59:59.999999,allocate,0x7f00,4096,0x0\n2,00:00:01.000000,allocate,0x8f00,1,0x1\n"
            "1,00:00:01:500000,allocate "
            "failure,(nil),99,0x0\n1,00:10:00:000000,free,0x7f00,4096,0x1\n"
            "2,01:00:00:000000,free,0x8f00,1,0x0\n");
  write(folder / "log_nil", header +
                                "1,00:00:00:000000,allocate,(nil),0,0x0\n"
                                "1,00:00:00:000000,free,0x0,0,0x0\n");
  write(folder / "log_twice", header +
                                  "1,00:00:00:000000,allocate,0x1,1,0\n"
                                  "1,00:00:00:000000,allocate,0x1,1,0\n");
  write(folder / "log_size", header +
                                 "1,00:00:00:000000,allocate,0x1,1,0\n"
                                 "1,00:00:00:000000,free,0x1,2,0\n");
  write(folder / "log_short", header + "1,00:00:00:000000,allocate,0x1\n");
}

void add_json(const std::filesystem::path& folder) {
  write(folder / "json",
        "{\"t\":0,\"op\":\"alloc\",\"id\":1,\"bytes\":4096,\"stream\":1,\"tag\":\"kv\"}\n"
        "{\"t\":0.5,\"op\":\"alloc\",\"id\":2,\"bytes\":281474976710656}\r\n\n"
        "{\"t\":3.25e1,\"op\":\"free\",\"id\":1,\"bytes\":4096,\"stream\":2}\n"
        "{\"t\":1e9,\"op\":\"free\",\"id\":2}");
  write(folder / "json_escapes",
        "{\"op\":\"alloc\",\"id\":1,\"bytes\":0,\"tag\":\"\\\"\\\\\\u00e9\xc3\xa9\"}");
  write(folder / "json_unknown", "{\"op\":\"free\",\"id\":18446744073709551615}");
  write(folder / "json_key", "{\"opp\":\"alloc\"}");
  write(folder / "json_nested", "{\"id\":{\"id\":[[[[[[[[");
  write(folder / "json_cut", "{\"op\":\"alloc\",\"id\":1,\"by");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
    return 2;
  }
  const std::filesystem::path folder{arguments[1]};
  std::filesystem::create_directories(folder);
  add_logs(folder);
  add_json(folder);
  return 0;
}
