#pragma once
// Bearer tokens: saeloom_ID_SECRET, with an id that may be shown and 160 random bits that may not.
// Only a SHA-256 of the secret is kept: with so many random bits, nothing is to be gained by
// guessing, so a slow hash would only slow every call. Pure but for the entropy.

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "sae/base/status.h"

namespace sae::server {

/// Fills the bytes with what nobody can foresee.
using Entropy = std::function<absl::Status(std::span<std::byte>)>;
/// getrandom(2).
[[nodiscard]] absl::Status MachineEntropy(std::span<std::byte> bytes);

struct NewToken {
  std::string id;
  std::string text;  ///< saeloom_ID_SECRET: shown once, never kept
  std::string hash;  ///< of the secret
};
[[nodiscard]] absl::StatusOr<NewToken> MakeToken(const Entropy& entropy);

struct TokenParts {
  std::string id;
  std::string secret;
};
std::optional<TokenParts> ParseToken(const std::string& text);

/// Hexadecimal, bound to the id: a hash that is copied to another row opens nothing.
std::string HashSecret(const TokenParts& token);
/// In a time that does not depend on where they differ.
bool SameHash(const std::string& a, const std::string& b);

}  // namespace sae::server
