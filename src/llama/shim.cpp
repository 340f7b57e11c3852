#include "llama/shim.hpp"

#include <ggml-backend.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <llama.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <mutex>
#include <type_traits>
#include <utility>

#include "llama/log.hpp"

// What this llama.cpp offers, found by cmake/llama.cmake.
#if FOREBAY_LLAMA_OWNS_BUFFERS
#include <forebay-llama-private/ggml-backend-impl.h>
#endif
#if FOREBAY_LLAMA_HAS_BREAKDOWN
#include <forebay-llama-private/llama-ext.h>
#endif

namespace forebay::llama::shim {

// The handles of shim.hpp are these types of llama.cpp, seen from outside.
struct ContextHandle {
  llama_context* context = nullptr;
  ggml_threadpool* pool = nullptr;
  std::function<bool()> should_stop;

  // One batch, reused: its arrays are as long as the longest batch so far.
  std::vector<llama_token> tokens;
  std::vector<llama_pos> positions;
  std::vector<std::int8_t> wants_logits;
  std::vector<std::int32_t> sequence_counts;
  std::vector<llama_seq_id*> sequences;
};

namespace {

const llama_model* raw(const ModelHandle& model) {
  return reinterpret_cast<const llama_model*>(&model);
}
llama_model* raw(ModelHandle* model) { return reinterpret_cast<llama_model*>(model); }
const llama_vocab* vocab_of(const ModelHandle& model) { return llama_model_get_vocab(raw(model)); }

void on_log(ggml_log_level level, const char* text, void* /*user*/) noexcept {
  log_text(text, level == GGML_LOG_LEVEL_ERROR);
}

// Before anything else of llama.cpp is called.
void start_backend() {
  static std::once_flag once;
  std::call_once(once, [] {
    llama_log_set(on_log, nullptr);
    llama_backend_init();
    if (ggml_backend_reg_count() == 0) ggml_backend_load_all();
  });
}

thread_local BufferOwner* current_owner = nullptr;

}  // namespace

// ---- Buffers ------------------------------------------------------------------------------

OwnerScope::OwnerScope(BufferOwner* owner) noexcept
    : previous_(std::exchange(current_owner, owner)) {}
OwnerScope::~OwnerScope() { current_owner = previous_; }

#if FOREBAY_LLAMA_OWNS_BUFFERS
namespace {

static_assert(GGML_BACKEND_API_VERSION == 2, "the layout of a buffer that this hook was made for");

// The CPU buffer type is one writable object of the process, used for KV, compute, output and
// copied weights alike. The hook replaces its allocator; buffers for nobody of ours still come
// from the original.
struct Hook {
  decltype(ggml_backend_buffer_type_i::alloc_buffer) original = nullptr;
  ggml_backend_buffer_i methods{};  // llama.cpp's own for host memory, but for what we override
};

Hook& hook() noexcept {
  static Hook the_hook;
  return the_hook;
}

OwnedBuffer& owned(ggml_backend_buffer_t buffer) noexcept {
  return *static_cast<OwnedBuffer*>(buffer->context);
}

void hook_free(ggml_backend_buffer_t buffer) noexcept { delete &owned(buffer); }
void* hook_base(ggml_backend_buffer_t buffer) noexcept { return owned(buffer).data(); }
void hook_clear(ggml_backend_buffer_t buffer, std::uint8_t value) noexcept {
  owned(buffer).clear(value);
}

ggml_status hook_init_tensor(ggml_backend_buffer_t buffer, ggml_tensor* tensor) noexcept {
  // Intermediate results are placed a thousand at a time, and need nothing of us.
  if (buffer->usage == GGML_BACKEND_BUFFER_USAGE_COMPUTE || tensor->view_src != nullptr)
    return GGML_STATUS_SUCCESS;
  OwnedBuffer& ours = owned(buffer);
  const PlacedTensor placed{
      .name = std::string_view{tensor->name, strnlen(tensor->name, sizeof tensor->name)},
      .offset = static_cast<std::uint64_t>(static_cast<std::byte*>(tensor->data) - ours.data()),
      .bytes = ggml_nbytes(tensor),
      .row_bytes = tensor->nb[1],
      .rows = static_cast<std::uint64_t>(tensor->ne[1]),
      .one_stream = tensor->ne[2] == 1 && tensor->ne[3] == 1};
  return ours.place(placed) ? GGML_STATUS_SUCCESS : GGML_STATUS_ALLOC_FAILED;
}

ggml_backend_buffer_t hook_allocate(ggml_backend_buffer_type_t type, std::size_t size) noexcept {
  if (current_owner == nullptr) return hook().original(type, size);
  auto buffer = current_owner->allocate(size);
  if (buffer == nullptr) return nullptr;
  const std::size_t real_size = buffer->size();
  return ggml_backend_buffer_init(type, hook().methods, buffer.release(), real_size);
}

// Starts from the methods of a real buffer, so that members which later releases add keep
// llama.cpp's own meaning.
bool put_hook_in_place() {
  ggml_backend_buffer_type_t type = ggml_backend_cpu_buffer_type();
  hook().original = type->iface.alloc_buffer;
  ggml_backend_buffer_t sample = hook().original(type, 4096);
  if (sample == nullptr) return false;
  hook().methods = sample->iface;
  ggml_backend_buffer_free(sample);
  hook().methods.free_buffer = hook_free;
  hook().methods.get_base = hook_base;
  hook().methods.clear = hook_clear;
  hook().methods.init_tensor = hook_init_tensor;
  type->iface.alloc_buffer = hook_allocate;
  return true;
}

// What the self-test saw.
struct Probe : BufferOwner {
  struct Page : OwnedBuffer {
    explicit Page(Probe& probe, std::size_t bytes) : owner(probe), room(bytes) {}
    ~Page() override { ++owner.freed; }
    std::byte* data() const noexcept override { return owner.page.data(); }
    std::size_t size() const noexcept override { return room; }
    bool place(const PlacedTensor& tensor) noexcept override {
      owner.placed += tensor.name == "cache_k_l0" && tensor.offset == 0 && tensor.row_bytes == 32 &&
                      tensor.rows == 4 && tensor.one_stream;
      return true;
    }
    void clear(std::uint8_t value) noexcept override { owner.cleared += value == 0; }
    Probe& owner;
    std::size_t room;
  };
  std::unique_ptr<OwnedBuffer> allocate(std::size_t bytes) noexcept override {
    ++allocated;
    if (refuse || bytes > page.size()) return nullptr;
    return std::make_unique<Page>(*this, bytes);
  }
  alignas(64) std::array<std::byte, 4096> page{};
  bool refuse = false;
  int allocated = 0, placed = 0, cleared = 0, freed = 0;
};

// Puts one tensor through the hook the way llama.cpp does with its KV, and refuses a second.
bool hook_works() {
  Probe probe;
  const OwnerScope scope(&probe);
  ggml_context* tensors =
      ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true});
  if (tensors == nullptr) return false;
  ggml_tensor* tensor = ggml_new_tensor_2d(tensors, GGML_TYPE_F32, 8, 4);
  ggml_set_name(tensor, "cache_k_l0");
  ggml_backend_buffer_type_t type = ggml_backend_cpu_buffer_type();
  bool works = false;
  if (ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors_from_buft(tensors, type)) {
    ggml_backend_buffer_clear(buffer, 0);
    works = tensor->data == probe.page.data() && ggml_backend_buffer_is_host(buffer) &&
            ggml_backend_buffer_get_base(buffer) == probe.page.data();
    ggml_backend_buffer_free(buffer);
  }
  ggml_free(tensors);
  probe.refuse = true;
  works = works && ggml_backend_buft_alloc_buffer(type, 64) == nullptr;
  return works && probe.allocated == 2 && probe.placed == 1 && probe.cleared == 1 &&
         probe.freed == 1;
}

}  // namespace

std::string_view install_buffer_hook() noexcept {
  static const std::string_view note = []() -> std::string_view {
    start_backend();
    if (!put_hook_in_place()) return "llama.cpp could not allocate one page";
    if (hook_works()) return {};
    ggml_backend_cpu_buffer_type()->iface.alloc_buffer = hook().original;
    return "the self-test of the buffer hook failed";
  }();
  return note;
}
#else
std::string_view install_buffer_hook() noexcept {
  return "this llama.cpp was found without the headers that match its buffers";
}
#endif

// ---- Models and contexts ------------------------------------------------------------------

namespace {

// Runs `load` with a progress callback that stops when `on_progress` says so or throws.
struct Progress {
  const std::function<bool(float)>& report;
  bool stopped = false;

  static bool call(float share, void* self_pointer) noexcept {
    auto& self = *static_cast<Progress*>(self_pointer);
    try {
      if (!self.report(share)) self.stopped = true;
    } catch (...) {
      self.stopped = true;
    }
    return !self.stopped;
  }
};

// All layers on the CPU, whatever else this llama.cpp could use: that memory is the host's.
llama_model_params cpu_model_params() {
  static std::array<ggml_backend_dev_t, 1> no_devices{nullptr};
  llama_model_params params = llama_model_default_params();
  params.devices = no_devices.data();
  params.n_gpu_layers = 0;
  return params;
}

void set_mapping(llama_model_params& params, bool mapped) {
#if FOREBAY_LLAMA_HAS_LOAD_MODE
  params.load_mode = mapped ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
#else
  params.use_mmap = mapped;
  params.use_mlock = false;
#endif
}

Result<Model> load(const std::filesystem::path& file, const llama_model_params& params) {
  start_backend();
  const LogCapture words;
  std::string thrown;
  try {
    if (llama_model* model = llama_model_load_from_file(file.c_str(), params))
      return Model{reinterpret_cast<ModelHandle*>(model)};
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  return Status(Code::corrupt_data,
                file.string() + ": llama.cpp cannot load it: " + words.first_error_or(thrown));
}

ggml_type type_of(KvType type) noexcept {
  switch (type) {
    case KvType::f16:
      return GGML_TYPE_F16;
    case KvType::bf16:
      return GGML_TYPE_BF16;
    case KvType::q8_0:
      return GGML_TYPE_Q8_0;
    case KvType::q4_0:
      return GGML_TYPE_Q4_0;
  }
  return GGML_TYPE_F16;
}

bool ask_to_stop(void* context) noexcept {
  try {
    return static_cast<ContextHandle*>(context)->should_stop();
  } catch (...) {
    return true;
  }
}

// One batch is one pass (n_ubatch = n_batch): a failed batch then leaves nothing behind.
llama_context_params params_of(const ContextOptions& options) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = options.run.context_tokens;
  params.n_batch = std::max(options.run.batch_tokens, options.run.parallel_tokens);
  params.n_ubatch = params.n_batch;
  params.n_seq_max = 1;
#if FOREBAY_LLAMA_HAS_OUTPUTS_MAX
  params.n_outputs_max = std::max(options.run.parallel_tokens, 1U);  // 0 would mean n_batch
#endif
  params.n_threads = options.threads;
  params.n_threads_batch = options.threads;
  params.flash_attn_type =
      options.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = type_of(options.run.kv_k);
  params.type_v = type_of(options.run.kv_v);
  params.offload_kqv = false;
  params.op_offload = false;
  params.no_perf = true;
  return params;
}

// Waiting threads sleep (poll = 0): spinning ones stop everybody else on a busy machine.
void attach_pool(ContextHandle& handle, int threads) {
  if (threads < 2) return;
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  params.poll = 0;
  handle.pool = ggml_threadpool_new(&params);
  if (handle.pool != nullptr) llama_attach_threadpool(handle.context, handle.pool, handle.pool);
}

}  // namespace

void CloseModel::operator()(ModelHandle* model) const noexcept { llama_model_free(raw(model)); }

void CloseContext::operator()(ContextHandle* handle) const noexcept {
  if (handle->context != nullptr) {
    if (handle->pool != nullptr) llama_detach_threadpool(handle->context);
    llama_free(handle->context);
  }
  if (handle->pool != nullptr) ggml_threadpool_free(handle->pool);
  delete handle;
}

bool maps_weights() noexcept { return llama_supports_mmap(); }

Result<Model> load_model(const std::filesystem::path& file,
                         const std::function<bool(float)>& on_progress) {
  llama_model_params params = cpu_model_params();
  set_mapping(params, maps_weights());
  Progress progress{.report = on_progress};
  if (on_progress) {
    params.progress_callback = Progress::call;
    params.progress_callback_user_data = &progress;
  }
  auto model = load(file, params);
  if (progress.stopped) return Status(Code::interrupted, "loading was stopped");
  return model;
}

Result<Context> make_context(ModelHandle& model, const ContextOptions& options,
                             std::string* log_text) {
  Context handle{new ContextHandle};
  handle->should_stop = options.should_stop;
  llama_context_params params = params_of(options);
  if (options.should_stop) {
    params.abort_callback = ask_to_stop;
    params.abort_callback_data = handle.get();
  }
  const LogCapture words;
  std::string thrown;
  try {
    handle->context = llama_init_from_model(raw(&model), params);
    if (handle->context != nullptr) attach_pool(*handle, options.threads);
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  if (log_text != nullptr) *log_text = words.text();
  if (handle->context == nullptr)
    return Status(Code::unsupported,
                  "llama.cpp cannot make a context: " + words.first_error_or(thrown));
  return handle;
}

bool reports_memory() noexcept { return FOREBAY_LLAMA_HAS_BREAKDOWN != 0; }

Result<Model> open_without_weights(const std::filesystem::path& file) {
  llama_model_params params = cpu_model_params();
  set_mapping(params, false);  // nothing to map
#if FOREBAY_LLAMA_HAS_BREAKDOWN
  params.no_alloc = true;
#else
  params.vocab_only = true;
#endif
  return load(file, params);
}

#if FOREBAY_LLAMA_HAS_BREAKDOWN
Result<DryRun> dry_run(ModelHandle& model, const ContextOptions& options) {
  const OwnerScope nobody(nullptr);
  auto context = make_context(model, options);
  if (!context) return context.status();
  DryRun need;
  need.vocabulary = vocabulary(model);
  for (const auto& [type, bytes] : llama_get_memory_breakdown((*context)->context)) {
    need.weights += Bytes{bytes.model};
    need.context += Bytes{bytes.context};
    need.compute += Bytes{bytes.compute};
  }
  return need;
}
#else
Result<DryRun> dry_run(ModelHandle&, const ContextOptions&) {
  return Status(Code::unsupported, "this llama.cpp was found without its report of memory");
}
#endif

Bytes model_bytes(const ModelHandle& model) noexcept { return Bytes{llama_model_size(raw(model))}; }

std::uint32_t vocabulary(const ModelHandle& model) noexcept {
  return static_cast<std::uint32_t>(llama_vocab_n_tokens(vocab_of(model)));
}

Result<std::vector<Token>> tokenize(const ModelHandle& model, std::string_view text) {
  if (text.size() > static_cast<std::size_t>(INT32_MAX) / 2)
    return Status(Code::invalid_argument, "a text of " + std::to_string(text.size()) +
                                              " bytes is too long; at most 1 GiB at a time");
  std::vector<Token> tokens(text.size() + 8);
  try {
    for (;;) {
      const std::int32_t count = llama_tokenize(
          vocab_of(model), text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
          static_cast<std::int32_t>(tokens.size()), /*add_special=*/true, /*parse_special=*/true);
      tokens.resize(static_cast<std::size_t>(std::abs(count)));
      if (count >= 0) return tokens;
    }
  } catch (const std::exception& error) {
    return Status(Code::invalid_argument,
                  std::string("llama.cpp cannot tokenize this text: ") + error.what());
  }
}

std::string piece(const ModelHandle& model, Token token) {
  if (token < 0 || static_cast<std::uint32_t>(token) >= vocabulary(model)) return {};
  std::string text(64, '\0');
  for (;;) {
    const std::int32_t length =
        llama_token_to_piece(vocab_of(model), token, text.data(),
                             static_cast<std::int32_t>(text.size()), 0, /*special=*/false);
    text.resize(static_cast<std::size_t>(std::abs(length)));
    if (length >= 0) return text;
  }
}

bool ends_generation(const ModelHandle& model, Token token) noexcept {
  return token >= 0 && static_cast<std::uint32_t>(token) < vocabulary(model) &&
         llama_vocab_is_eog(vocab_of(model), token);
}

Result<std::string> apply_chat_template(const ModelHandle& model, std::string_view message) {
  const char* chat_template = llama_model_chat_template(raw(model), nullptr);
  if (chat_template == nullptr)
    return Status(Code::unsupported, "the model carries no chat template");
  const std::string content(message);
  const llama_chat_message turn{.role = "user", .content = content.c_str()};
  std::string text(content.size() + 256, '\0');
  for (;;) {
    const std::int32_t length =
        llama_chat_apply_template(chat_template, &turn, 1, /*add_ass=*/true, text.data(),
                                  static_cast<std::int32_t>(text.size()));
    if (length < 0)
      return Status(Code::unsupported, "llama.cpp does not know the model's chat template");
    const bool whole = static_cast<std::size_t>(length) <= text.size();
    text.resize(static_cast<std::size_t>(length));
    if (whole) return text;
  }
}

std::uint32_t context_tokens(const ContextHandle& handle) noexcept {
  return llama_n_ctx(handle.context);
}
std::uint32_t batch_tokens(const ContextHandle& handle) noexcept {
  return llama_n_batch(handle.context);
}

namespace {

llama_batch batch_of(ContextHandle& handle, std::span<const Row> rows) {
  static llama_seq_id only_sequence = 0;
  handle.tokens.clear();
  handle.positions.clear();
  handle.wants_logits.clear();
  for (const Row& row : rows) {
    handle.tokens.push_back(row.token);
    handle.positions.push_back(row.position);
    handle.wants_logits.push_back(row.wants_logits ? 1 : 0);
  }
  handle.sequence_counts.assign(rows.size(), 1);
  handle.sequences.assign(rows.size(), &only_sequence);
  llama_batch batch{};
  batch.n_tokens = static_cast<std::int32_t>(rows.size());
  batch.token = handle.tokens.data();
  batch.pos = handle.positions.data();
  batch.n_seq_id = handle.sequence_counts.data();
  batch.seq_id = handle.sequences.data();
  batch.logits = handle.wants_logits.data();
  return batch;
}

// A failed batch may leave llama.cpp's graph allocator without a buffer that it believes it
// has, and the next batch would write through a null pointer. Asking for a control vector
// that is not there changes nothing but makes the next batch allocate afresh.
void allocate_afresh([[maybe_unused]] ContextHandle& handle) noexcept {
#if FOREBAY_LLAMA_HAS_SET_CONTROL_VECTOR
  llama_set_adapter_cvec(handle.context, nullptr, 0, 0, -1, -1);
#endif
}

Outcome outcome_of(int code) noexcept {
  switch (code) {
    case 0:
      return Outcome::done;
    case 1:
      return Outcome::no_room;
    case 2:
      return Outcome::stopped;
    case -1:
      return Outcome::bad_batch;
    default:
      return Outcome::failed;
  }
}

}  // namespace

Outcome decode(ContextHandle& handle, std::span<const Row> rows, std::string& words) {
  const LogCapture capture;
  Outcome outcome = Outcome::failed;
  std::string thrown;
  try {
    outcome = outcome_of(llama_decode(handle.context, batch_of(handle, rows)));
  } catch (const std::exception& error) {
    thrown = error.what();
  }
  if (outcome == Outcome::done) return outcome;
  if (outcome == Outcome::failed) allocate_afresh(handle);
  words = capture.first_error_or(thrown);
  return outcome;
}

std::int32_t last_position(const ContextHandle& handle) noexcept {
  return llama_memory_seq_pos_max(llama_get_memory(handle.context), 0);
}

const float* logits_of_row(ContextHandle& handle, std::int32_t row) noexcept {
  return llama_get_logits_ith(handle.context, row);
}

std::string version() {
  std::string text = "llama.cpp";
#if FOREBAY_LLAMA_HAS_VERSION
  text += std::string(" ") + llama_version();
#endif
  return text + ", ggml " + ggml_version() + " (commit " + ggml_commit() + ")";
}

void set_log_sink(std::function<void(std::string_view)> sink) {
  start_backend();
  set_sink(std::move(sink));
}

}  // namespace forebay::llama::shim
