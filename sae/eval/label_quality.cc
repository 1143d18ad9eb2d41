#include "sae/eval/label_quality.h"

#include <algorithm>
#include <vector>

namespace sae::eval {

double PrecisionAtBaseRate(double recall, double false_positive_rate, double base_rate) {
  const double hits = recall * base_rate;
  return hits / (hits + false_positive_rate * (1 - base_rate));
}

LabelQuality MeasureLabel(std::span<const float> f, std::span<const std::uint8_t> label,
                          float threshold) {
  LabelQuality q;
  q.rows = static_cast<std::int64_t>(f.size());
  std::vector<std::size_t> fired;
  double mass = 0, labelled_mass = 0;
  std::int64_t hits = 0;
  for (std::size_t r = 0; r < f.size(); ++r) {
    q.labelled += label[r] != 0 ? 1 : 0;
    if (!(f[r] > threshold)) continue;
    fired.push_back(r);
    mass += f[r];
    labelled_mass += label[r] != 0 ? f[r] : 0;
    hits += label[r] != 0 ? 1 : 0;
  }
  q.fired = static_cast<std::int64_t>(fired.size());
  q.recall = static_cast<double>(hits) / static_cast<double>(q.labelled);
  q.precision = static_cast<double>(hits) / static_cast<double>(q.fired);
  q.coverage = labelled_mass / mass;
  std::stable_sort(fired.begin(), fired.end(),
                   [&](std::size_t a, std::size_t b) { return f[a] < f[b]; });
  for (std::size_t t = 0; t < 10; ++t) {
    const std::size_t begin = t * fired.size() / 10, end = (t + 1) * fired.size() / 10;
    double right = 0;
    for (std::size_t i = begin; i < end; ++i) right += label[fired[i]] != 0 ? 1 : 0;
    q.precision_by_decile[t] = right / static_cast<double>(end - begin);
  }
  return q;
}

}  // namespace sae::eval
