// The only door to llama.cpp: shim.cpp alone includes its headers.
//
// Everything here is our own type, so that a change of llama.cpp's API ends in one file.
// No exception of llama.cpp passes this door, and none of ours passes into it.
//
// Thread safety: a Model and a Context belong to one thread at a time; the hook, the log and
// version() are process-wide and thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "forebay/llama.hpp"

namespace forebay::llama::shim {

// ---- Buffers ------------------------------------------------------------------------------

// A tensor that llama.cpp placed in a buffer. Offsets and sizes in bytes.
struct PlacedTensor {
  std::string_view name;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t row_bytes = 0;
  std::uint64_t rows = 0;
  bool one_stream = false;  // rows follow each other from the start to the end
};

// A buffer that llama.cpp works in and we own. It ends when llama.cpp frees it.
class OwnedBuffer {
 public:
  virtual ~OwnedBuffer() = default;
  OwnedBuffer(const OwnedBuffer&) = delete;
  OwnedBuffer& operator=(const OwnedBuffer&) = delete;

  virtual std::byte* data() const noexcept = 0;
  virtual std::size_t size() const noexcept = 0;  // at least what was asked
  // A tensor was given its place. False: refuse it.
  virtual bool place(const PlacedTensor& tensor) noexcept = 0;
  // llama.cpp wants the buffer to hold `value` everywhere.
  virtual void clear(std::uint8_t value) noexcept = 0;

 protected:
  OwnedBuffer() = default;
};

// Who is asked for buffers while it is current on the thread that llama.cpp runs on.
class BufferOwner {
 public:
  virtual ~BufferOwner() = default;
  // nullptr: refused; llama.cpp then gives up what it was doing.
  virtual std::unique_ptr<OwnedBuffer> allocate(std::size_t bytes) noexcept = 0;

 protected:
  BufferOwner() = default;
};

// Makes `owner` current on this thread until the scope ends. Scopes nest.
class OwnerScope {
 public:
  explicit OwnerScope(BufferOwner* owner) noexcept;
  ~OwnerScope();
  OwnerScope(const OwnerScope&) = delete;
  OwnerScope& operator=(const OwnerScope&) = delete;

 private:
  BufferOwner* previous_;
};

// Puts the hook in place (once a process) and tests it. Empty if buffers can be owned, else
// why not, in words.
std::string_view install_buffer_hook() noexcept;

// ---- Models and contexts ------------------------------------------------------------------

struct ContextOptions {
  RunShape run;
  int threads = 1;
  bool flash_attention = true;
  std::function<bool()> should_stop;  // asked while decoding; may be empty
};

struct ModelHandle;    // llama_model
struct ContextHandle;  // llama_context with its thread pool
struct CloseModel {
  void operator()(ModelHandle* model) const noexcept;
};
struct CloseContext {
  void operator()(ContextHandle* context) const noexcept;
};
using Model = std::unique_ptr<ModelHandle, CloseModel>;
using Context = std::unique_ptr<ContextHandle, CloseContext>;

// Whether weights are mapped from the file; if not, they are copied through the hook.
bool maps_weights() noexcept;

// Loads a model. Errors: interrupted, corrupt_data with llama.cpp's words.
Result<Model> load_model(const std::filesystem::path& file,
                         const std::function<bool(float)>& on_progress);
// Error: unsupported with llama.cpp's words. `log_text` gets the lines of the making.
Result<Context> make_context(ModelHandle& model, const ContextOptions& options,
                             std::string* log_text = nullptr);

// A model with its vocabulary and numbers, and no weights. Error: corrupt_data.
Result<Model> open_without_weights(const std::filesystem::path& file);

// What a run takes, by llama.cpp's dry run.
struct DryRun {
  Bytes weights;
  Bytes context;
  Bytes compute;
  std::uint32_t vocabulary = 0;
};
// Whether this llama.cpp has a dry run; if not, dry_run() says unsupported.
bool reports_memory() noexcept;
// REQUIRES: a model opened without weights. Error: unsupported.
Result<DryRun> dry_run(ModelHandle& model, const ContextOptions& options);

// Model
Bytes model_bytes(const ModelHandle& model) noexcept;  // its tensors, as stored
std::uint32_t vocabulary(const ModelHandle& model) noexcept;
Result<std::vector<Token>> tokenize(const ModelHandle& model, std::string_view text);
std::string piece(const ModelHandle& model, Token token);
bool ends_generation(const ModelHandle& model, Token token) noexcept;
Result<std::string> apply_chat_template(const ModelHandle& model, std::string_view message);

// Context
enum class Outcome { done, no_room, stopped, bad_batch, failed };
std::uint32_t context_tokens(const ContextHandle& context) noexcept;
std::uint32_t batch_tokens(const ContextHandle& context) noexcept;
// Rows of one sequence. After anything but `done` llama.cpp holds what it held before.
// `words` gets llama.cpp's own account of a failure.
Outcome decode(ContextHandle& context, std::span<const Row> rows, std::string& words);
// The greatest position held; -1 if none.
std::int32_t last_position(const ContextHandle& context) noexcept;
// The logits of row `row` of the last batch; nullptr if it had none.
const float* logits_of_row(ContextHandle& context, std::int32_t row) noexcept;

std::string version();
void set_log_sink(std::function<void(std::string_view)> sink);

}  // namespace forebay::llama::shim
