#include "sae/data/synthetic.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "sae/base/ids.h"
#include "sae/base/random.h"

namespace sae::data {
namespace {

/// Streams of random numbers, told apart by what they draw.
enum Purpose : std::uint64_t { kDictionary = 1, kBias = 2, kRow = 3 };

double Dot(const float* a, const float* b, std::int64_t d) {
  double sum = 0;
  for (std::int64_t i = 0; i < d; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void Normalise(float* v, std::int64_t d, double norm) {
  const double scale = norm / std::sqrt(std::max(Dot(v, v, d), 1e-300));
  for (std::int64_t i = 0; i < d; ++i) v[i] = static_cast<float>(v[i] * scale);
}

absl::Status Check(const SyntheticOptions& o) {
  const auto probability = [](double p) { return p >= 0 && p <= 1; };
  if (o.d >= 1 && o.features >= 1 && probability(o.p_min) && probability(o.p_max) &&
      o.p_min <= o.p_max && o.zipf >= 0 && o.sigma >= 0 && std::isfinite(o.mu) &&
      o.bias_norm >= 0) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("synthetic data needs d >= 1, features >= 1, 0 <= p_min <= p_max <= 1, zipf >= "
                   "0, sigma >= 0, bias_norm >= 0; given d=",
                   o.d, ",features=", o.features, ",p_min=", o.p_min, ",p_max=", o.p_max,
                   ",zipf=", o.zipf, ",sigma=", o.sigma, ",bias_norm=", o.bias_norm));
}

}  // namespace

SyntheticSource::SyntheticSource(const SyntheticOptions& options)
    : options_(options),
      dictionary_(static_cast<std::size_t>(options.features * options.d)),
      bias_(static_cast<std::size_t>(options.d)),
      probabilities_(static_cast<std::size_t>(options.features)) {
  const std::int64_t d = options_.d;
  Random random(HashCounter(options_.seed, 0, kDictionary));
  for (float& v : dictionary_) v = static_cast<float>(random.Normal());
  for (std::int64_t i = 0; i < options_.features; ++i) {
    float* row = dictionary_.data() + i * d;
    Normalise(row, d, 1);
    for (std::int64_t j = 0; options_.features <= d && j < i; ++j) {
      const float* other = dictionary_.data() + j * d;
      const double overlap = Dot(row, other, d);
      for (std::int64_t c = 0; c < d; ++c) row[c] -= static_cast<float>(overlap * other[c]);
    }
    Normalise(row, d, 1);
  }
  Random bias(HashCounter(options_.seed, 0, kBias));
  for (float& v : bias_) v = static_cast<float>(bias.Normal());
  Normalise(bias_.data(), d, options_.bias_norm);
  const double last = std::pow(static_cast<double>(options_.features), -options_.zipf);
  for (std::int64_t i = 0; i < options_.features; ++i) {
    const double raw = std::pow(static_cast<double>(i + 1), -options_.zipf);
    const double share = last < 1 ? (raw - last) / (1 - last) : 1;
    probabilities_[static_cast<std::size_t>(i)] =
        options_.p_min + share * (options_.p_max - options_.p_min);
  }
}

absl::StatusOr<std::unique_ptr<SyntheticSource>> SyntheticSource::Create(
    const SyntheticOptions& options) {
  SAE_RETURN_IF_ERROR(Check(options));
  return std::unique_ptr<SyntheticSource>(new SyntheticSource(options));
}

std::vector<float> SyntheticSource::Amplitudes(std::int64_t row) const {
  Random random(HashCounter(options_.seed, static_cast<std::uint64_t>(row), kRow));
  std::vector<float> a(probabilities_.size(), 0.0F);
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (random.Uniform() >= probabilities_[i]) continue;
    a[i] = static_cast<float>(std::max(0.0, options_.mu + options_.sigma * random.Normal()));
  }
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

absl::StatusOr<SyntheticSpec> ParseSyntheticSpec(const std::string& text) {
  SyntheticSpec spec;
  SyntheticOptions& o = spec.options;
  const std::map<std::string, double*> reals = {{"p_max", &o.p_max}, {"p_min", &o.p_min},
                                                {"zipf", &o.zipf},   {"mu", &o.mu},
                                                {"sigma", &o.sigma}, {"bias_norm", &o.bias_norm}};
  const std::map<std::string, std::int64_t*> integers = {
      {"d", &o.d}, {"features", &o.features}, {"rows", &spec.rows}};
  const std::vector<std::string> parts =
      absl::StrSplit(ToAbsl(text), absl::ByChar(','), absl::SkipEmpty());
  for (const std::string& part : parts) {
    const auto equals = part.find('=');
    const std::string key = part.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : part.substr(equals + 1);
    bool good = false;
    if (const auto it = reals.find(key); it != reals.end()) {
      good = absl::SimpleAtod(ToAbsl(value), it->second);
    } else if (const auto whole = integers.find(key); whole != integers.end()) {
      good = absl::SimpleAtoi(ToAbsl(value), whole->second);
    } else if (key == "seed") {
      good = absl::SimpleAtoi(ToAbsl(value), &o.seed);
    } else {
      const std::string near = Nearest(key, {"d", "features", "rows", "seed", "p_max", "p_min",
                                             "zipf", "mu", "sigma", "bias_norm"});
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic data: unknown key '", key, "'",
                       near.empty() ? "" : absl::StrCat(", did you mean '", near, "'?")));
    }
    if (!good)
      return absl::InvalidArgumentError(
          absl::StrCat("synthetic data: '", part, "' is not KEY=NUMBER"));
  }
  if (spec.rows < 1)
    return absl::InvalidArgumentError(
        absl::StrCat("synthetic data: rows=", spec.rows, " must be at least 1"));
  SAE_RETURN_IF_ERROR(Check(o));
  return spec;
}

}  // namespace sae::data
