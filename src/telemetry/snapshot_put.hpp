// Writing a snapshot's parts by their tables of keys. Allocates nothing and takes no lock, for the
// crash handler's sake; what is written may be any type with the members that the tables name.
#pragma once

#include <algorithm>
#include <ranges>
#include <string_view>
#include <type_traits>

#include "telemetry/json_writer.hpp"
#include "telemetry/snapshot_fields.hpp"

namespace forebay::detail {

template <typename T>
concept CounterLike = requires(const T& counter) {
  std::string_view{counter.name};
  { counter.value } -> std::convertible_to<double>;
};

// A counter that is there twice stands in the file once: JSON has no key twice.
void put_counters(JsonWriter& out, const auto& counters) {
  out.begin_object();
  for (const auto& counter : counters) {
    const auto same = [&](const auto& other) { return other.name == counter.name; };
    if (&*std::ranges::find_if(counters, same) != &counter) continue;
    out.key(counter.name);
    out.value(counter.value);
  }
  out.end_object();
}

template <typename Rows>
void put_table(JsonWriter& out, const Rows& rows) {
  using Row = std::ranges::range_value_t<Rows>;
  out.begin_object();
  Columns<Row>::visit([&](std::string_view key, auto member) {
    out.key(key);
    out.begin_array();
    for (const Row& row : rows) out.value(row.*member);
    out.end_array();
  });
  out.end_object();
}

template <typename T>
void put(JsonWriter& out, const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    out.value(value);
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    out.value(std::string_view{value});
  } else if constexpr (std::is_same_v<T, Pressure>) {
    out.value(to_string(value));
  } else if constexpr (std::is_same_v<T, Bytes>) {
    value.is_unlimited() ? out.null() : out.value(value.count());
  } else if constexpr (requires { Fields<T>{}; }) {
    out.begin_object();
    Fields<T>::visit(
        [&](std::string_view key, const auto& member) {
          out.key(key);
          put(out, member);
        },
        value);
    out.end_object();
  } else if constexpr (requires { value.rows; }) {
    put_table(out, value.rows);
  } else if constexpr (CounterLike<std::ranges::range_value_t<const T>>) {
    put_counters(out, value);
  } else {
    out.begin_array();
    for (const auto& element : value) put(out, element);
    out.end_array();
  }
}

// A whole file, a line a key; JsonWriter::finish() is still to be called.
template <typename Document>
void put_document(JsonWriter& out, const Document& document) {
  out.begin_object();
  out.key(kFormatKey);
  out.value(kSnapshotFormat);
  out.new_line();
  out.key(kVersionKey);
  out.value(Snapshot::kVersion);
  Fields<Document>::visit(
      [&](std::string_view key, const auto& member) {
        out.new_line();
        out.key(key);
        put(out, member);
      },
      document);
  out.end_object();
}

}  // namespace forebay::detail
