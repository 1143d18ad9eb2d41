#pragma once
// Errors of the whole project: absl::Status, two propagation macros, and the bridge between
// std::string_view and Debian's absl::string_view (a distinct type there).

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

/// Returns early with the error of `expr` (absl::Status).
#define SAE_RETURN_IF_ERROR(expr)                              \
  if (::absl::Status sae_status_ = (expr); sae_status_.ok()) { \
  } else                                                       \
    return sae_status_
#define SAE_CONCAT_INNER_(a, b) a##b
#define SAE_CONCAT_(a, b) SAE_CONCAT_INNER_(a, b)
/// Declares or assigns `lhs` from the absl::StatusOr `expr`, or returns its error.
#define SAE_ASSIGN_OR_RETURN(lhs, expr) \
  SAE_ASSIGN_OR_RETURN_IMPL_(SAE_CONCAT_(sae_statusor_, __COUNTER__), lhs, expr)
#define SAE_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return std::move(tmp).status();   \
  lhs = *std::move(tmp)

namespace sae {

inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }
inline std::string Message(const absl::Status& s) { return std::string(s.message()); }

/// Prefixes the message of a non-OK status; the code and payloads are kept.
absl::Status Annotate(absl::Status status, absl::string_view context);

/// Status of a failed system call: the code that fits `error` (an errno), and "what: strerror".
absl::Status ErrnoToStatus(int error, absl::string_view what);

}  // namespace sae
