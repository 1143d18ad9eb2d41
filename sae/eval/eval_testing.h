#pragma once
// Codes for tests, written as rows of (latent, value).

#include <cstdint>
#include <utility>
#include <vector>

#include "sae/kernels/codes.h"

namespace sae::eval::testing {

using Row = std::vector<std::pair<int, float>>;

inline kernels::Codes<float> CodesOf(const std::vector<Row>& rows, std::int64_t latents) {
  kernels::Codes<float> c;
  c.tokens = static_cast<std::int64_t>(rows.size());
  c.latents = latents;
  c.indptr = {0};
  for (const Row& row : rows) {
    for (const auto& [id, value] : row) {
      c.ids.push_back(id);
      c.values.push_back(value);
    }
    c.indptr.push_back(static_cast<std::int64_t>(c.ids.size()));
  }
  return c;
}

}  // namespace sae::eval::testing
