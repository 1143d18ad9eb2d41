#pragma once
// Records to compact bytes and back. A record names its fields once, in a template
// `Fields(archive, record)` that hands each of them to the archive; the three archives here write
// them, read them, and describe their layout. Integers are zigzag varints, repeated words are
// written once (Shared). Not thread-safe. A reader of damaged bytes turns to !ok() and yields
// default values; it never reads beyond its end.

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace sae::server {

/// A word that many records of one archive have in common.
template <typename T>
struct Shared {
  T& text;
};
template <typename T>
Shared(T&) -> Shared<T>;

class ArchiveWriter {
 public:
  template <typename... T>
  void operator()(const T&... fields) {
    (Put(fields), ...);
  }
  std::string Take() { return std::move(out_); }

 private:
  void Varint(std::uint64_t v) {
    for (; v >= 0x80; v >>= 7) out_ += static_cast<char>(v | 0x80);
    out_ += static_cast<char>(v);
  }
  void Put(std::int64_t v) {
    Varint((static_cast<std::uint64_t>(v) << 1) ^ static_cast<std::uint64_t>(v >> 63));
  }
  void Put(const std::string& text) {
    Varint(text.size());
    out_ += text;
  }
  void Put(double v) { out_.append(reinterpret_cast<const char*>(&v), sizeof v); }
  template <typename T>
  void Put(const Shared<T>& word) {
    const auto [it, added] = words_.emplace(word.text, words_.size() + 1);
    Varint(added ? 0 : it->second);
    if (added) Put(word.text);
  }
  void Put(absl::Time t) { Put(absl::ToUnixNanos(t)); }
  void Put(absl::Duration d) { Put(absl::ToInt64Nanoseconds(d)); }
  template <typename T>
  void Put(const std::optional<T>& v) {
    Put(std::int64_t{v.has_value()});
    if (v) Put(*v);
  }
  template <typename A, typename B>
  void Put(const std::pair<A, B>& v) {
    Put(v.first);
    Put(v.second);
  }
  template <typename T>
  void Put(const T& v) {
    if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      Put(static_cast<std::int64_t>(v));
    } else if constexpr (requires { v.begin(); }) {
      Varint(v.size());
      for (const auto& element : v) Put(element);
    } else {
      Fields(*this, v);
    }
  }

  std::string out_;
  std::unordered_map<std::string, std::size_t> words_;
};

class ArchiveReader {
 public:
  explicit ArchiveReader(const std::string& bytes)
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  template <typename... T>
  void operator()(T&&... fields) {
    (Get(fields), ...);
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && at_ == end_; }

 private:
  std::uint64_t Varint() {
    std::uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == end_) break;
      const auto byte = static_cast<std::uint8_t>(*at_++);
      v |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return v;
    }
    ok_ = false;
    return 0;
  }
  /// A size that what is left can hold: at least a byte an element.
  std::size_t Size() {
    const std::uint64_t size = Varint();
    if (size <= static_cast<std::uint64_t>(end_ - at_)) return static_cast<std::size_t>(size);
    ok_ = false;
    at_ = end_;
    return 0;
  }
  void Get(std::int64_t& v) {
    const std::uint64_t u = Varint();
    v = static_cast<std::int64_t>(u >> 1) ^ -static_cast<std::int64_t>(u & 1);
  }
  void Get(std::string& text) {
    const std::size_t size = Size();
    text.assign(at_, size);
    at_ += size;
  }
  void Get(double& v) {
    if (end_ - at_ < static_cast<std::ptrdiff_t>(sizeof v)) {
      ok_ = false;
      return;
    }
    std::memcpy(&v, at_, sizeof v);
    at_ += sizeof v;
  }
  template <typename T>
  void Get(Shared<T>& word) {
    const std::uint64_t index = Varint();
    if (index == 0) {
      Get(word.text);
      words_.push_back(word.text);
    } else if (index <= words_.size()) {
      word.text = words_[static_cast<std::size_t>(index) - 1];
    } else {
      ok_ = false;
    }
  }
  void Get(absl::Time& t) {
    std::int64_t nanos = 0;
    Get(nanos);
    t = nanos == INT64_MAX   ? absl::InfiniteFuture()
        : nanos == INT64_MIN ? absl::InfinitePast()
                             : absl::FromUnixNanos(nanos);
  }
  void Get(absl::Duration& d) {
    std::int64_t nanos = 0;
    Get(nanos);
    d = nanos == INT64_MAX ? absl::InfiniteDuration() : absl::Nanoseconds(nanos);
  }
  template <typename T>
  void Get(std::optional<T>& v) {
    std::int64_t there = 0;
    Get(there);
    v.reset();
    if (there != 0) Get(v.emplace());
  }
  template <typename A, typename B>
  void Get(std::pair<A, B>& v) {
    Get(v.first);
    Get(v.second);
  }
  template <typename T>
  void Get(std::vector<T>& v) {
    v.resize(Size());
    for (T& element : v) Get(element);
  }
  template <typename K, typename V, typename C>
  void Get(std::map<K, V, C>& v) {
    v.clear();
    for (std::size_t n = Size(); n > 0 && ok_; --n) {
      std::pair<K, V> element;
      Get(element);
      v.insert(std::move(element));
    }
  }
  template <typename K, typename C>
  void Get(std::set<K, C>& v) {
    v.clear();
    for (std::size_t n = Size(); n > 0 && ok_; --n) {
      K element{};
      Get(element);
      v.insert(std::move(element));
    }
  }
  template <typename T>
  void Get(T& v) {
    if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      std::int64_t number = 0;
      Get(number);
      if (std::is_enum_v<T> && (number < 0 || number > 100)) ok_ = false;
      v = static_cast<T>(number);
    } else {
      Fields(*this, v);
    }
  }

  const char* at_;
  const char* end_;
  bool ok_ = true;
  std::vector<std::string> words_;
};

/// One letter a field: layouts that differ in it cannot read each other's bytes.
class ArchiveLayout {
 public:
  template <typename... T>
  void operator()(const T&... fields) {
    (Say(fields), ...);
  }
  const std::string& text() const { return text_; }

 private:
  void Say(const std::string&) { text_ += 's'; }
  void Say(double) { text_ += 'd'; }
  void Say(absl::Time) { text_ += 't'; }
  void Say(absl::Duration) { text_ += 'u'; }
  template <typename T>
  void Say(const Shared<T>&) {
    text_ += 'w';
  }
  template <typename T>
  void Say(const std::optional<T>&) {
    text_ += '?';
    Say(T{});
  }
  template <typename A, typename B>
  void Say(const std::pair<A, B>&) {
    Say(std::remove_const_t<A>{});
    Say(B{});
  }
  template <typename T>
  void Say(const T& v) {
    if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
      text_ += 'i';
    } else if constexpr (requires { v.begin(); }) {
      text_ += '[';
      Say(typename T::value_type{});
      text_ += ']';
    } else {
      text_ += '{';
      Fields(*this, v);
      text_ += '}';
    }
  }
  std::string text_;
};

}  // namespace sae::server
