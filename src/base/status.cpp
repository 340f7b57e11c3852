#include "forebay/status.hpp"

#include <fmt/format.h>

namespace forebay {

struct Status::Rep {
  Code code;
  std::string message;
  std::optional<Refusal> refusal;
};

namespace {

std::string message_of(const Refusal& refusal) {
  std::string text =
      fmt::format("{}: asked {}, {} free ({} used of {})", refusal.budget, to_string(refusal.asked),
                  to_string(saturating_sub(refusal.limit, refusal.used)), to_string(refusal.used),
                  to_string(refusal.limit));
  if (!refusal.reclaimed.is_zero()) {
    text += fmt::format(", after reclaiming {}", to_string(refusal.reclaimed));
  }
  const char* separator = "; held by ";
  for (const Holder& holder : refusal.holders) {
    text += fmt::format("{}{} {}", separator, holder.name, to_string(holder.used));
    if (!holder.reclaimable.is_zero()) {
      text += fmt::format(" ({} reclaimable)", to_string(holder.reclaimable));
    }
    separator = ", ";
  }
  separator = "; try: ";
  for (const std::string& advice : refusal.advice) {
    text += separator + advice;
    separator = "; or ";
  }
  return text;
}

}  // namespace

std::string_view to_string(Code code) noexcept {
  switch (code) {
    case Code::ok:
      return "ok";
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::not_found:
      return "not_found";
    case Code::corrupt_data:
      return "corrupt_data";
    case Code::memory_refused:
      return "memory_refused";
    case Code::failed_precondition:
      return "failed_precondition";
    case Code::unsupported:
      return "unsupported";
    case Code::io_error:
      return "io_error";
    case Code::interrupted:
      return "interrupted";
  }
  return "unknown";
}

Status::Status(Code code, std::string message) {
  FOREBAY_CHECK(code != Code::ok, "an ok Status has no message");
  rep_ = std::make_shared<const Rep>(Rep{code, std::move(message), std::nullopt});
}

Status::Status(Refusal refusal) {
  std::string message = message_of(refusal);
  rep_ = std::make_shared<const Rep>(
      Rep{Code::memory_refused, std::move(message), std::move(refusal)});
}

Code Status::code() const noexcept { return rep_ ? rep_->code : Code::ok; }

const std::string& Status::message() const noexcept {
  static const std::string empty;
  return rep_ ? rep_->message : empty;
}

const Refusal* Status::refusal() const noexcept {
  return rep_ && rep_->refusal ? &*rep_->refusal : nullptr;
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return *this;
  Status status = *this;
  status.rep_ = std::make_shared<const Rep>(
      Rep{rep_->code, fmt::format("{}: {}", context, rep_->message), rep_->refusal});
  return status;
}

void Status::throw_error() const {
  if (code() == Code::memory_refused) throw MemoryRefused{*this};
  throw Failure{*this};
}

}  // namespace forebay
