#pragma once
// Names and identifiers.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "sae/base/random.h"
#include "sae/base/status.h"

namespace sae {

/// A ULID: 26 characters of Crockford's base 32, 48 bits of milliseconds then 80 random bits, so that
/// names sort by time.
std::string MakeUlid(absl::Time time, Random& random);

/// 64 bits of the machine's entropy: to seed a Random for identifiers and jitter, in main() alone.
std::uint64_t SeedFromMachine();

/// INVALID_ARGUMENT unless `name` is 1-63 of [a-z0-9-], starting with a letter or digit: safe as a
/// resource name and as a folder.
[[nodiscard]] absl::Status ValidateName(const std::string& name, const std::string& what);

/// The candidate with the smallest edit distance to `word`, or "" when none is within half its length:
/// for "did you mean".
std::string Nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace sae
