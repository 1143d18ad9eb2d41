#include "sae/eval/assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace sae::eval {
namespace {

constexpr double kTie = 1e-12;
constexpr std::size_t kNone = static_cast<std::size_t>(-1);

/// Costs -w, rows <= cols. Potentials u, v with cost - u - v >= 0, tight on the assignment; v <= 0,
/// and v = 0 for columns without a row.
class Solver {
 public:
  Solver(std::span<const double> weights, std::size_t rows, std::size_t cols)
      : w_(weights),
        rows_(rows),
        cols_(cols),
        u_(rows),
        v_(cols),
        owner_(cols, kNone),
        column_(rows, kNone) {}

  std::vector<std::size_t> Solve() {
    for (std::size_t i = 0; i < rows_; ++i) Augment(i);
    TakeLowest();
    return column_;
  }

 private:
  double Slack(std::size_t i, std::size_t j) const { return -w_[i * cols_ + j] - u_[i] - v_[j]; }

  // A shortest path from row `start` to a free column, over reduced costs.
  void Augment(std::size_t start) {
    std::vector<double> distance(cols_, std::numeric_limits<double>::infinity());
    std::vector<std::size_t> from(cols_, kNone);  // the column before, on the path
    std::vector<char> done(cols_, 0);
    std::vector<std::size_t> order;
    std::size_t row = start, last = kNone;
    double length = 0;
    for (;;) {
      std::size_t next = kNone;
      for (std::size_t j = 0; j < cols_; ++j) {
        if (done[j]) continue;
        const double d = length + Slack(row, j);
        if (d < distance[j]) {
          distance[j] = d;
          from[j] = last;
        }
        if (next == kNone || distance[j] < distance[next]) next = j;
      }
      length = distance[next];
      last = next;
      if (owner_[next] == kNone) break;
      done[next] = 1;
      order.push_back(next);
      row = owner_[next];
    }
    u_[start] += length;
    for (const std::size_t j : order) {
      u_[owner_[j]] += length - distance[j];
      v_[j] -= length - distance[j];
    }
    while (last != kNone) {
      const std::size_t before = from[last];
      owner_[last] = before == kNone ? start : owner_[before];
      column_[owner_[last]] = last;
      last = before;
    }
  }

  // All optima use tight edges only and cover every column with v < 0. Rows in order each take the
  // lowest column that still leaves an optimum for the rows after them.
  void TakeLowest() {
    double scale = 0;
    for (const double w : w_) scale = std::max(scale, std::abs(w));
    tolerance_ = kTie * scale;
    for (std::size_t i = 0; i < rows_; ++i) {
      for (std::size_t j = 0; j < column_[i]; ++j) {
        if (Slack(i, j) <= tolerance_ && Take(i, j)) break;
      }
    }
  }

  /// A column without a row belongs to one of cols - rows rows of weight 0, which come last.
  bool Tight(std::size_t owner, std::size_t j) const {
    return (owner == kNone ? -v_[j] : Slack(owner, j)) <= tolerance_;
  }

  /// Gives column j to row i, if a chain of tight edges leads from j's owner, each owner moving on
  /// to the next column, to the column that i leaves. Rows before i keep theirs.
  bool Take(std::size_t i, std::size_t j) {
    const auto movable = [&](std::size_t owner) { return owner == kNone || owner > i; };
    const std::size_t old = column_[i];
    if (!movable(owner_[j])) return false;
    std::vector<std::size_t> from(cols_, kNone), queue = {j};
    std::vector<char> seen(cols_, 0);
    seen[j] = 1;
    for (std::size_t head = 0; head < queue.size() && seen[old] == 0; ++head) {
      for (std::size_t c = 0; c < cols_; ++c) {
        if (seen[c] != 0 || !Tight(owner_[queue[head]], c)) continue;
        if (c != old && !movable(owner_[c])) continue;
        seen[c] = 1;
        from[c] = queue[head];
        queue.push_back(c);
      }
    }
    if (seen[old] == 0) return false;
    for (std::size_t at = old; at != j; at = from[at]) Give(owner_[from[at]], at);
    Give(i, j);
    return true;
  }

  void Give(std::size_t row, std::size_t column) {
    owner_[column] = row;
    if (row != kNone) column_[row] = column;
  }

  const std::span<const double> w_;
  const std::size_t rows_, cols_;
  std::vector<double> u_, v_;
  std::vector<std::size_t> owner_, column_;
  double tolerance_ = 0;
};

}  // namespace

absl::StatusOr<Assignment> AssignMax(std::span<const double> weights, std::int64_t rows,
                                     std::int64_t cols) {
  if (rows < 0 || cols < 0 || static_cast<std::int64_t>(weights.size()) != rows * cols) {
    return absl::InvalidArgumentError(
        absl::StrCat("assignment: ", weights.size(), " weights are not ", rows, " x ", cols));
  }
  if (!std::all_of(weights.begin(), weights.end(), [](double w) { return std::isfinite(w); }))
    return absl::InvalidArgumentError("assignment: a weight is not finite");
  const auto m = static_cast<std::size_t>(rows), n = static_cast<std::size_t>(cols);
  Assignment out;
  out.column.assign(m, -1);
  if (m <= n) {
    const std::vector<std::size_t> column = Solver(weights, m, n).Solve();
    for (std::size_t i = 0; i < m; ++i) out.column[i] = static_cast<std::int64_t>(column[i]);
  } else {
    std::vector<double> transposed(weights.size());
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) transposed[j * m + i] = weights[i * n + j];
    }
    const std::vector<std::size_t> row = Solver(transposed, n, m).Solve();
    for (std::size_t j = 0; j < n; ++j) out.column[row[j]] = static_cast<std::int64_t>(j);
  }
  for (std::size_t i = 0; i < m; ++i) {
    if (out.column[i] >= 0) out.total += weights[i * n + static_cast<std::size_t>(out.column[i])];
  }
  return out;
}

}  // namespace sae::eval
