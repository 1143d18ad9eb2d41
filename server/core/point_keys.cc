#include "server/core/point_keys.h"

#include <optional>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"

#include "sae/base/hash.h"

namespace sae::server {
namespace {

/// Numbers count by value: 8, 8.0 and "8" are one.
std::string Canonical(std::string value) {
  if (value.size() >= 2 && value.front() == '"') value = value.substr(1, value.size() - 2);
  double number = 0;
  if (value == "true" || value == "false" || !absl::SimpleAtod(value, &number)) return value;
  return absl::StrFormat("#%.17g", number == 0 ? 0 : number);
}

std::uint64_t Part(const std::string& path, const std::string& value) {
  return Xxh3(absl::StrCat(path, "\n", Canonical(value)));
}

std::string Text(double x) { return absl::StrFormat("%.17g", x); }
std::string Text(std::int64_t x) { return absl::StrCat(x); }
std::string Text(bool x) { return x ? "true" : "false"; }
std::string Text(const std::string& x) { return x; }
template <typename T>
std::string Text(const std::optional<T>& x) {
  return x ? Text(*x) : "auto";
}

}  // namespace

PointKeys::PointKeys(const config::TrialConfig& base) {
  config::TrialConfig copy = base;
  for (const config::Field& field : config::Fields(copy)) {
    const std::string text = std::visit([](const auto* p) { return Text(*p); }, field.pointer);
    const std::uint64_t part = Part(field.path, text);
    base_.emplace(field.path, part);
    sum_ += part;
  }
}

std::uint64_t PointKeys::Of(
    const std::vector<std::pair<std::string, std::string>>& assignments) const {
  std::uint64_t sum = sum_;
  for (const auto& [path, value] : assignments) {
    if (const auto it = base_.find(path); it != base_.end()) sum -= it->second;
    sum += Part(path, value);
  }
  return sum;
}

}  // namespace sae::server
