#pragma once
// Filters and orders of lists: "state=RUNNING AND labels.model=gpt2 AND name:part", "priority
// desc". Values of equal numbers are equal; one with spaces stands in double quotes. Pure. Errors:
// INVALID_ARGUMENT that names the field and the nearest known one.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae::server {

struct FilterTerm {
  enum class Op { kEqual, kNotEqual, kHas };  ///< = != :
  std::string field;
  Op op = Op::kEqual;
  std::string value;
};
/// All terms must hold.
using Filter = std::vector<FilterTerm>;

/// `fields`: those that exist; one that ends in '.' stands for all that begin so.
[[nodiscard]] absl::StatusOr<Filter> ParseFilter(const std::string& text,
                                                 const std::vector<std::string>& fields);
/// `value`: of a field; nullopt = it has none.
bool Matches(const Filter& filter,
             const std::function<std::optional<std::string>(const std::string&)>& value);

struct Order {
  std::string field;
  bool descending = false;
};
/// "" = `fallback`. `fields` as above.
[[nodiscard]] absl::StatusOr<Order> ParseOrder(const std::string& text, const Order& fallback,
                                               const std::vector<std::string>& fields);

}  // namespace sae::server
