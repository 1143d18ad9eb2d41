#pragma once
// Pages of a list. A token says after which item the next page begins, and is bound to what is
// listed: parent, filter and order. Pure. Errors: INVALID_ARGUMENT for a token of another list.

#include <cstdint>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::server {

/// An item's place in a list: by `key`, then `tie`; those without a key come last in any order.
struct Place {
  bool has_key = true;
  std::string key;  ///< bytes in their order
  std::int64_t tie = 0;
  std::string name;  ///< tells it again on the next page
};
/// Bytes whose order is the number's.
std::string SortKey(std::int64_t x);
std::string SortKey(double x);

struct PageRequest {
  int size = 0;  ///< 0 = 50
  std::string token;
  std::string listed;  ///< parent, filter, order
  bool descending = false;
};
struct PageResult {
  std::vector<std::size_t> items;  ///< indices into the places, in order
  std::string next_token;          ///< "" = there are no more
};
[[nodiscard]] absl::StatusOr<PageResult> PageOf(const std::vector<Place>& places,
                                                const PageRequest& request);

/// The same for a list that is in its order already: positions [begin, end) of `size` items, of
/// which `matches` says which count.
struct Cursor {
  std::size_t begin = 0;
  std::size_t size = 0;
};
[[nodiscard]] absl::StatusOr<Cursor> CursorOf(const PageRequest& request);
std::string TokenAt(std::size_t position, const PageRequest& request);

}  // namespace sae::server
