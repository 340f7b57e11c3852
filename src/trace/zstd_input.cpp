#include <fmt/format.h>
#include <zstd.h>

#include "trace/input.hpp"

namespace forebay::trace {
namespace {

struct StreamEnd {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};
using Stream = std::unique_ptr<ZSTD_DStream, StreamEnd>;

// zstd refuses frames whose window is above 128 MiB by itself, so that memory is bounded.
class ZstdInput final : public Input {
 public:
  ZstdInput(std::unique_ptr<Input> packed, std::string head, Stream stream)
      : packed_(std::move(packed)), bytes_(std::move(head)), stream_(std::move(stream)) {
    length_ = bytes_.size();
    bytes_.resize(ZSTD_DStreamInSize());
  }

  Result<std::size_t> read(char* to, std::size_t most) override {
    ZSTD_outBuffer out{to, most, 0};
    while (out.pos == 0) {
      if (used_ == length_ && !waiting_) {
        const auto more = fetch();
        if (!more.ok()) return more.status();
        if (!*more) return finish();
      }
      ZSTD_inBuffer in{bytes_.data(), length_, used_};
      const std::size_t left = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(left) != 0) {
        return Status{Code::corrupt_data,
                      fmt::format("a damaged zstd frame: {}", ZSTD_getErrorName(left))};
      }
      used_ = in.pos;
      in_frame_ = left != 0;
      // There may be more to give without more to take.
      waiting_ = in_frame_ && out.pos == most;
    }
    return out.pos;
  }
  double share() const noexcept override { return packed_->share(); }

 private:
  Result<bool> fetch() {
    const auto got = packed_->read(bytes_.data(), bytes_.size());
    if (!got.ok()) return got.status();
    used_ = 0;
    length_ = *got;
    return length_ > 0;
  }
  Result<std::size_t> finish() const {
    if (!in_frame_) return std::size_t{0};
    return Status{Code::corrupt_data, "the file ends within a zstd frame; allowed: whole frames"};
  }

  std::unique_ptr<Input> packed_;
  std::string bytes_;
  std::size_t used_ = 0, length_ = 0;
  Stream stream_;
  bool in_frame_ = true;
  bool waiting_ = false;
};

}  // namespace

Result<std::unique_ptr<Input>> unpack_zstd(std::unique_ptr<Input> packed, std::string head) {
  Stream stream{ZSTD_createDStream()};
  if (stream == nullptr) throw std::bad_alloc{};
  return std::unique_ptr<Input>{
      std::make_unique<ZstdInput>(std::move(packed), std::move(head), std::move(stream))};
}

}  // namespace forebay::trace
