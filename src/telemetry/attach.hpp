// Attaching: what another process publishes, as this one sees it. Everything that comes from there
// is checked before it is believed.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "forebay/bytes.hpp"
#include "forebay/status.hpp"
#include "telemetry/published_view.hpp"

#pragma GCC visibility push(default)  // the command uses it
namespace forebay::detail {

// `directory`: as PublishOptions::directory.
//
// Those that publish there now, by number. A directory that does not exist has none. Errors: those
// of open_publish_directory().
Result<std::vector<PublishedView>> published_processes(const std::string& directory = {});

// Errors: not_found (no such process publishes there); failed_precondition (directory, or it died
// while it wrote); corrupt_data; io_error.
Result<PublishedView> read_published(const std::string& directory, std::int64_t pid);

struct AskOptions {
  Duration patience = std::chrono::seconds{60};  // with the whole of it, however the bytes drip
  Bytes most{1ULL << 30};                        // of an answer
  std::function<void()> on_wait{};               // called once if nothing comes for so long:
  Duration quiet = std::chrono::seconds{1};
};
// Its answer to a request ("snapshot"). Errors: not_found; io_error (also: it took too long, or
// closed the connection); corrupt_data (no answer as it should be, or a larger one); what the
// process answered.
Result<std::string> ask_published(const std::string& directory, std::int64_t pid,
                                  std::string_view request, const AskOptions& options = {});

}  // namespace forebay::detail
#pragma GCC visibility pop
