#include "sae/lm/corpus.h"

#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sae/lm/unicode.h"

namespace sae::lm {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";

bool IsBlank(std::string_view line) {
  return line.find_first_not_of(kBlanks) == std::string_view::npos;
}

/// Calls visit(line without its end, offset, number from 1) for every line.
template <class Visit>
void ForEachLine(std::string_view text, const Visit& visit) {
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string_view::npos) end = text.size();
    visit(text.substr(begin, end - begin), begin, ++number);
    begin = end + 1;
  }
}

bool LooksLikeJson(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || text[first] != '{') return false;
  const std::string_view line = text.substr(first, text.substr(first).find('\n'));
  return nlohmann::json::accept(line.begin(), line.end());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Corpus>> Corpus::Open(const std::string& path,
                                                     const std::string& text_field) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open corpus ", path));
  std::unique_ptr<Corpus> corpus(new Corpus);
  corpus->path_ = path;
  corpus->field_ = text_field;
  struct stat info = {};
  const int error = ::fstat(fd, &info) == 0 ? 0 : errno;
  const bool regular = error == 0 && S_ISREG(info.st_mode);
  void* map = MAP_FAILED;
  if (regular && info.st_size > 0) {
    map = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  }
  ::close(fd);
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("cannot read corpus ", path));
  if (!regular)
    return absl::InvalidArgumentError(absl::StrCat("corpus ", path, " is not a regular file"));
  if (info.st_size > 0) {
    if (map == MAP_FAILED) return absl::InternalError(absl::StrCat("cannot map corpus ", path));
    corpus->file_ = {static_cast<const std::byte*>(map), static_cast<std::size_t>(info.st_size)};
  }
  SAE_RETURN_IF_ERROR(corpus->Index());
  return corpus;
}

Corpus::~Corpus() {
  if (!file_.empty()) ::munmap(const_cast<std::byte*>(file_.data()), file_.size());
}

absl::Status Corpus::Index() {
  const std::string_view text(reinterpret_cast<const char*>(file_.data()), file_.size());
  json_ = LooksLikeJson(text);
  if (json_) {
    AddLines(text);
  } else {
    AddParagraphs(text);
  }
  if (documents_.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("corpus ", path_,
                     " is empty: give plain text with blank lines between documents, or JSON lines "
                     "with a text field"));
  }
  return absl::OkStatus();
}

void Corpus::AddLines(std::string_view text) {
  ForEachLine(text, [&](std::string_view line, std::size_t begin, std::int64_t number) {
    if (!IsBlank(line)) documents_.push_back({begin, line.size(), number});
  });
}

void Corpus::AddParagraphs(std::string_view text) {
  bool open = false;
  ForEachLine(text, [&](std::string_view line, std::size_t begin, std::int64_t number) {
    const bool blank = IsBlank(line);
    if (!blank && !open) documents_.push_back({begin, 0, number});
    if (!blank) documents_.back().bytes = begin + line.size() - documents_.back().begin;
    open = !blank;
  });
}

absl::StatusOr<std::string> Corpus::Parse(const Place& place) const {
  const std::string_view line(reinterpret_cast<const char*>(file_.data()) + place.begin,
                              place.bytes);
  const auto object = nlohmann::json::parse(ReplaceInvalidUtf8(line), nullptr, false);
  const std::string where = absl::StrCat(path_, ": line ", place.line);
  if (!object.is_object())
    return absl::InvalidArgumentError(absl::StrCat(where, " is not a JSON object"));
  const auto it = object.find(field_);
  if (it == object.end() || !it->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(where, " has no text in field \"", field_, "\": name it with --text-field"));
  }
  return it->get<std::string>();
}

absl::StatusOr<std::string> Corpus::Text(std::int64_t document) const {
  const Place& place = documents_[static_cast<std::size_t>(document)];
  if (json_) return Parse(place);
  return ReplaceInvalidUtf8(
      {reinterpret_cast<const char*>(file_.data()) + place.begin, place.bytes});
}

}  // namespace sae::lm
