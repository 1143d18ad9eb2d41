#pragma once
// What is said of a name that is not there: one text, whoever is asked. Pure.

#include <string>

#include "sae/base/status.h"

namespace sae::server {

/// NOT_FOUND.
inline absl::Status NoSweep(const std::string& sweep) {
  return absl::NotFoundError(absl::StrCat("no sweep \"", sweep, "\""));
}

}  // namespace sae::server
