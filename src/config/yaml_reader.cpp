#include "config/yaml_reader.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <istream>
#include <map>
#include <streambuf>

#include "forebay/config.hpp"

namespace forebay::detail {
namespace {

// Stops the parser at the first thing that may not be there.
struct Refused {
  int line;
  std::string why;
};

[[noreturn]] void refuse(const YAML::Mark& mark, std::string why) {
  throw Refused{mark.line + 1, std::move(why)};
}

// The rest of a text from line and column on, both from 0; columns count characters.
std::string_view text_from(std::string_view text, int line, int column) {
  for (; line > 0 && !text.empty(); --line) {
    const auto end = text.find('\n');
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  std::size_t at = 0;
  for (; column > 0 && at < text.size(); --column) {
    ++at;
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  }
  return text.substr(at);
}

// Whether the quoted scalar that starts `text` ends in it.
bool is_closed(std::string_view text) {
  if (text.empty()) return true;
  const char quote = text[0];
  if (quote != '"' && quote != '\'') return true;  // a block scalar, which ends with the text
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 == text.size() || text[i + 1] != quote) return true;
      ++i;
    }
  }
  return false;
}

// Takes the parser's events instead of a document tree: a refused construct is refused
// before anything is built of it.
class FlatMapReader final : public YAML::EventHandler {
 public:
  explicit FlatMapReader(std::string_view yaml) : yaml_(yaml) {}

  std::vector<YamlEntry> take_entries() {
    // yaml-cpp 0.7 lets the end of the text close a quote; only the last one can be open.
    if (!is_closed(text_from(yaml_, last_quoted_.line, last_quoted_.column))) {
      refuse(last_quoted_, "YAML syntax: a quote that is not closed");
    }
    return std::move(entries_);
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second document; allowed: one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (!in_map_) return;  // an empty file
    take(mark, "?", anchor, "", true);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "an alias (*name); allowed: plain values");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (!in_map_)
      refuse(mark,
             fmt::format("'{}' is no map of settings; allowed: key: value", printable(value)));
    take(mark, tag, anchor, value, false);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    refuse_nested(mark, "a list");
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    if (in_map_) refuse_nested(mark, "a map");
    in_map_ = true;
  }
  void OnMapEnd() override {}

 private:
  [[noreturn]] void refuse_nested(const YAML::Mark& mark, std::string_view what) const {
    if (!in_map_) refuse(mark, fmt::format("{} is no map of settings; allowed: key: value", what));
    if (!has_key_)
      refuse(mark,
             fmt::format("{} as a key, or a bracket that is not closed; allowed: a name", what));
    refuse(mark,
           fmt::format("{}: {} is not allowed here; allowed: one value", printable(key_), what));
  }

  void take(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            const std::string& value, bool null) {
    if (anchor != 0) refuse(mark, "an anchor (&name); allowed: plain values");
    if (!tag.empty() && tag != "?" && tag != "!") {
      refuse(mark, fmt::format("the tag '{}'; allowed: plain values", printable(tag)));
    }
    if (has_key_) {
      if (null && !has_colon())
        refuse(key_mark_, fmt::format("{}: no value; allowed: key: value", printable(key_)));
      if (tag == "!") last_quoted_ = mark;
      entries_.push_back({key_, value, tag == "!", null, key_mark_.line + 1});
      has_key_ = false;
      return;
    }
    if (null) refuse(mark, "an empty key; allowed: a name");
    const auto [first, fresh] = lines_.try_emplace(value, mark.line + 1);
    if (!fresh) {
      refuse(mark,
             fmt::format("{}: given twice; first on line {}", printable(value), first->second));
    }
    key_ = value;
    key_mark_ = mark;
    has_key_ = true;
  }

  // yaml-cpp takes a bare word on a line of its own for a key.
  bool has_colon() const {
    const std::string_view rest = text_from(yaml_, key_mark_.line, key_mark_.column);
    return rest.find(':', key_.size()) < rest.find('\n', key_.size());
  }

  const std::string_view yaml_;

  std::vector<YamlEntry> entries_;
  std::map<std::string, int> lines_;  // of the keys so far
  std::string key_;
  YAML::Mark key_mark_;
  YAML::Mark last_quoted_;
  int documents_ = 0;
  bool has_key_ = false;
  bool in_map_ = false;
};

// Reads a string_view as a stream without copying it.
class ViewBuffer final : public std::streambuf {
 public:
  explicit ViewBuffer(std::string_view text) {
    char* const begin = const_cast<char*>(text.data());  // get area: never written
    setg(begin, begin, begin + text.size());
  }
};

int first_bad_line(std::string_view text) {
  int line = 1;
  while (!text.empty()) {
    const auto end = text.find('\n');
    if (!is_valid_utf8_text(text.substr(0, end))) return line;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
    ++line;
  }
  return line;
}

Status bad_yaml(const std::string& source, int line, std::string_view why) {
  return {Code::invalid_argument, fmt::format("{}:{}: {}", source, line, why)};
}

}  // namespace

Result<std::vector<YamlEntry>> read_flat_yaml(std::string_view yaml, const std::string& source) {
  if (!is_valid_utf8_text(yaml)) {
    return bad_yaml(source, first_bad_line(yaml), "not UTF-8 text");
  }
  FlatMapReader reader{yaml};
  try {
    ViewBuffer buffer{yaml};
    std::istream stream{&buffer};
    YAML::Parser parser{stream};
    while (parser.HandleNextDocument(reader)) {
    }
    return reader.take_entries();
  } catch (const Refused& refused) {
    return bad_yaml(source, refused.line, refused.why);
  } catch (const YAML::Exception& error) {
    return bad_yaml(source, std::max(error.mark.line, 0) + 1,
                    fmt::format("YAML syntax: {}", printable(error.msg)));
  }
}

}  // namespace forebay::detail
