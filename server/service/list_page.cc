#include "server/service/list_page.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "sae/base/hash.h"

namespace sae::server {
namespace {

constexpr int kDefaultPage = 50;
constexpr int kLargestPage = 1000;

std::string Sealed(const std::string& body, const std::string& listed) {
  const std::string text = absl::WebSafeBase64Escape(body);
  return absl::StrCat(text, ".", HashToText(Xxh3(absl::StrCat(listed, "\n", body))).substr(5));
}

absl::Status BadToken(const std::string& token) {
  return absl::InvalidArgumentError(
      absl::StrCat("page_token: \"", token,
                   "\" is not one of this list, filter and order; begin without a token"));
}

absl::StatusOr<std::string> Opened(const std::string& token, const std::string& listed) {
  std::string body;
  const std::string text = token.substr(0, token.find('.'));
  if (!absl::WebSafeBase64Unescape(text, &body) || Sealed(body, listed) != token)
    return BadToken(token);
  return body;
}

absl::StatusOr<std::size_t> SizeOf(int size) {
  if (size < 0)
    return absl::InvalidArgumentError(absl::StrCat("page_size: ", size, ", must be >= 0"));
  return static_cast<std::size_t>(size == 0 ? kDefaultPage : std::min(size, kLargestPage));
}

/// Negative: a before b.
int Compare(const Place& a, const Place& b, bool descending) {
  if (a.has_key != b.has_key) return a.has_key ? -1 : 1;
  const int by_key = a.key.compare(b.key);
  const int order = by_key != 0 ? by_key : a.tie < b.tie ? -1 : a.tie > b.tie ? 1 : 0;
  return descending ? -order : order;
}

std::string Packed(const Place& place) {
  return absl::StrCat(place.has_key ? "k" : "n", place.name, "/", place.key);
}

}  // namespace

std::string SortKey(std::int64_t x) {
  return absl::StrFormat("%016x", static_cast<std::uint64_t>(x) ^ (std::uint64_t{1} << 63));
}

std::string SortKey(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x == 0 ? 0.0 : x);
  const std::uint64_t sign = std::uint64_t{1} << 63;
  return absl::StrFormat("%016x", (bits & sign) != 0 ? ~bits : bits | sign);
}

absl::StatusOr<PageResult> PageOf(const std::vector<Place>& places, const PageRequest& request) {
  SAE_ASSIGN_OR_RETURN(const std::size_t size, SizeOf(request.size));
  const auto before = [&](std::size_t a, std::size_t b) {
    return Compare(places[a], places[b], request.descending) < 0;
  };
  std::vector<std::size_t> order(places.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (!request.token.empty()) {
    SAE_ASSIGN_OR_RETURN(const std::string body, Opened(request.token, request.listed));
    const std::size_t slash = body.find('/');
    if (slash == std::string::npos || slash == 0) return BadToken(request.token);
    Place last{body[0] == 'k', body.substr(slash + 1), 0, body.substr(1, slash - 1)};
    // After the same item, if it is still where it was; else from the first that is not before it.
    const auto same = std::find_if(places.begin(), places.end(), [&](const Place& place) {
      return place.name == last.name && place.key == last.key;
    });
    last.tie = request.descending ? INT64_MAX : INT64_MIN;
    std::erase_if(order, [&](std::size_t i) {
      return same != places.end() ? Compare(places[i], *same, request.descending) <= 0
                                  : Compare(places[i], last, request.descending) < 0;
    });
  }
  // Only the page is put in order: a list may have a hundred thousand items.
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(size, order.size()));
  std::partial_sort(order.begin(), end, order.end(), before);
  PageResult out;
  out.items.assign(order.begin(), end);
  if (end != order.end() && !out.items.empty())
    out.next_token = Sealed(Packed(places[out.items.back()]), request.listed);
  return out;
}

absl::StatusOr<Cursor> CursorOf(const PageRequest& request) {
  Cursor cursor;
  SAE_ASSIGN_OR_RETURN(cursor.size, SizeOf(request.size));
  if (request.token.empty()) return cursor;
  SAE_ASSIGN_OR_RETURN(const std::string body, Opened(request.token, request.listed));
  std::uint64_t position = 0;
  if (!absl::SimpleAtoi(body, &position)) return BadToken(request.token);
  cursor.begin = position;
  return cursor;
}

std::string TokenAt(std::size_t position, const PageRequest& request) {
  return Sealed(absl::StrCat(position), request.listed);
}

}  // namespace sae::server
