#pragma once
// Documents of a text file: plain text, where blank lines separate documents, or JSON lines, where
// each object has a text field. JSON lines are told by a first line that is a JSON object. The file
// is mapped, only offsets are held. Immutable after Open, thread-safe. Errors: INVALID_ARGUMENT for
// an empty corpus or a line that is not what it should be (names file and line), NOT_FOUND for a
// missing file.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sae/base/status.h"

namespace sae::lm {

class Corpus {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Corpus>> Open(
      const std::string& path, const std::string& text_field = "text");
  ~Corpus();
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  const std::string& path() const { return path_; }
  bool is_json() const { return json_; }
  std::int64_t size() const { return static_cast<std::int64_t>(documents_.size()); }
  std::span<const std::byte> file() const { return file_; }
  /// Well-formed UTF-8: other bytes have become U+FFFD.
  [[nodiscard]] absl::StatusOr<std::string> Text(std::int64_t document) const;

 private:
  struct Place {
    std::size_t begin, bytes;
    std::int64_t line;  ///< from 1
  };
  Corpus() = default;
  [[nodiscard]] absl::Status Index();
  void AddLines(std::string_view text);
  void AddParagraphs(std::string_view text);
  [[nodiscard]] absl::StatusOr<std::string> Parse(const Place& place) const;

  std::string path_;
  std::string field_;
  std::span<const std::byte> file_;
  bool json_ = false;
  std::vector<Place> documents_;
};

}  // namespace sae::lm
