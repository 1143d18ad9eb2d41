#include "sae/data/synthetic.h"

#include <algorithm>

#include "sae/base/random.h"
#include "sae/data/synthetic_dictionary.h"
#include "sae/data/synthetic_streams.h"

namespace sae::data {

SyntheticSource::SyntheticSource(const SyntheticOptions& options)
    : options_(options),
      dictionary_(MakeDictionary(options)),
      bias_(MakeBias(options)),
      firing_(options),
      magnitudes_(options),
      hierarchy_(options, magnitudes_.mean()) {}

absl::StatusOr<std::unique_ptr<SyntheticSource>> SyntheticSource::Create(
    const SyntheticOptions& options) {
  SAE_RETURN_IF_ERROR(Validate(options));
  return std::unique_ptr<SyntheticSource>(new SyntheticSource(options));
}

std::vector<float> SyntheticSource::Amplitudes(std::int64_t row) const {
  Random random(HashCounter(options_.seed, static_cast<std::uint64_t>(row), kRowStream));
  std::vector<float> a(static_cast<std::size_t>(options_.features), 0.0F);
  const SyntheticFiring::Factors factors = firing_.DrawFactors(random);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (firing_.Fires(i, factors, random)) a[i] = magnitudes_.Draw(i, random);
  }
  hierarchy_.Apply(a, random);
  return a;
}

void SyntheticSource::FillRow(std::int64_t row, std::span<float> out) const {
  std::copy(bias_.begin(), bias_.end(), out.begin());
  const std::vector<float> a = Amplitudes(row);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == 0.0F) continue;
    const float* feature = dictionary_.data() + i * out.size();
    for (std::size_t c = 0; c < out.size(); ++c) out[c] += a[i] * feature[c];
  }
}

absl::Status SyntheticSource::Next(std::span<float> rows) {
  const auto width = static_cast<std::size_t>(options_.d);
  if (rows.size() % width != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", rows.size(), " values is not whole rows of d = ", options_.d));
  }
  for (; !rows.empty(); rows = rows.subspan(width)) FillRow(position_++, rows.first(width));
  return absl::OkStatus();
}

absl::Status SyntheticSource::Seek(std::int64_t position) {
  if (position < 0)
    return absl::InvalidArgumentError(absl::StrCat("cannot seek to row ", position));
  position_ = position;
  return absl::OkStatus();
}

}  // namespace sae::data
