#include "server/service/list_filter.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/ids.h"

namespace sae::server {
namespace {

absl::Status CheckField(const std::string& field, const std::string& where,
                        const std::vector<std::string>& fields) {
  for (const std::string& known : fields) {
    const bool prefix = known.back() == '.';
    if (prefix ? absl::StartsWith(field, known) && field.size() > known.size() : field == known)
      return absl::OkStatus();
  }
  const std::string nearest = Nearest(field, fields);
  std::vector<std::string> shown;
  for (const std::string& known : fields)
    shown.push_back(known.back() == '.' ? known + "NAME" : known);
  return absl::InvalidArgumentError(
      absl::StrCat(where, ": unknown field \"", field, "\"",
                   nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?"),
                   " (there are ", absl::StrJoin(shown, ", "), ")"));
}

/// Reads a filter from left to right.
class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  absl::StatusOr<Filter> Run(const std::vector<std::string>& fields) {
    Filter out;
    Skip();
    while (at_ < text_.size()) {
      if (!out.empty() && !Take("AND ")) return Bad("expected AND");
      Skip();
      FilterTerm term;
      while (at_ < text_.size() && !std::isspace(Peek()) && !absl::StrContains("=!:", Here()))
        term.field += text_[at_++];
      if (term.field.empty()) return Bad("expected a field");
      SAE_RETURN_IF_ERROR(CheckField(term.field, "filter", fields));
      Skip();
      if (Take("!=")) {
        term.op = FilterTerm::Op::kNotEqual;
      } else if (Take(":")) {
        term.op = FilterTerm::Op::kHas;
      } else if (!Take("=")) {
        return Bad("expected =, != or :");
      }
      Skip();
      SAE_RETURN_IF_ERROR(Value(term.value));
      out.push_back(std::move(term));
      Skip();
    }
    return out;
  }

 private:
  int Peek() const { return static_cast<unsigned char>(text_[at_]); }
  std::string Here() const { return text_.substr(at_, 1); }
  void Skip() {
    while (at_ < text_.size() && std::isspace(Peek())) ++at_;
  }
  bool Take(const std::string& word) {
    if (text_.compare(at_, word.size(), word) != 0) return false;
    at_ += word.size();
    return true;
  }
  absl::Status Value(std::string& out) {
    if (!Take("\"")) {
      while (at_ < text_.size() && !std::isspace(Peek())) out += text_[at_++];
      return out.empty() ? Bad("expected a value") : absl::OkStatus();
    }
    while (at_ < text_.size() && text_[at_] != '"') out += text_[at_++];
    return Take("\"") ? absl::OkStatus() : Bad("the quote is not closed");
  }
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("filter: \"", text_, "\": ", what,
                                                   " at character ", at_ + 1,
                                                   "; write it as state=RUNNING AND name:part"));
  }

  const std::string& text_;
  std::size_t at_ = 0;
};

bool Equal(const std::string& a, const std::string& b) {
  if (a == b) return true;
  double x = 0, y = 0;
  return absl::SimpleAtod(a, &x) && absl::SimpleAtod(b, &y) && x == y;
}

}  // namespace

absl::StatusOr<Filter> ParseFilter(const std::string& text,
                                   const std::vector<std::string>& fields) {
  return Reader(text).Run(fields);
}

bool Matches(const Filter& filter,
             const std::function<std::optional<std::string>(const std::string&)>& value) {
  return std::all_of(filter.begin(), filter.end(), [&](const FilterTerm& term) {
    const std::optional<std::string> is = value(term.field);
    switch (term.op) {
      case FilterTerm::Op::kEqual:
        return is && Equal(*is, term.value);
      case FilterTerm::Op::kNotEqual:
        return !is || !Equal(*is, term.value);
      case FilterTerm::Op::kHas:
        return is && absl::StrContains(*is, term.value);
    }
    return false;
  });
}

absl::StatusOr<Order> ParseOrder(const std::string& text, const Order& fallback,
                                 const std::vector<std::string>& fields) {
  const std::vector<std::string> words = absl::StrSplit(text, ' ', absl::SkipEmpty());
  if (words.empty()) return fallback;
  if (words.size() > 2 || (words.size() == 2 && words[1] != "desc" && words[1] != "asc")) {
    return absl::InvalidArgumentError(
        absl::StrCat("order_by: \"", text, "\" is not a field, nor a field and desc"));
  }
  SAE_RETURN_IF_ERROR(CheckField(words[0], "order_by", fields));
  return Order{words[0], words.size() == 2 && words[1] == "desc"};
}

}  // namespace sae::server
