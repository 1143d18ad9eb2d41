#pragma once
// Reflection by hand: each config struct lists its fields once, in a Visit function, and everything that
// needs "all fields" (JSON, YAML overrides by path, the proto mapping's test, documentation) walks it.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace sae::config {

/// A field where it lives. std::optional means "auto" when empty.
using FieldPointer = std::variant<bool*, std::int64_t*, double*, std::string*, std::optional<std::int64_t>*,
                                  std::optional<double>*>;

struct Field {
  /// Dotted from the struct's root, as in a sweep's `parameters`: "sae.k".
  std::string path;
  FieldPointer pointer;
  /// One line for --help and docs.
  std::string help;
};

}  // namespace sae::config
