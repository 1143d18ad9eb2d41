#pragma once
// What the trials of one bracket have reached: by rung, their losses in order. Pure; not
// thread-safe.

#include <cstddef>
#include <cstdint>
#include <ext/pb_ds/assoc_container.hpp>
#include <ext/pb_ds/tree_policy.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace sae::server::search {

/// Ordered by loss, then trial. No loss is NaN.
using Entry = std::pair<double, int>;
/// A set that knows the rank of its elements.
using RankedSet =
    __gnu_pbds::tree<Entry, __gnu_pbds::null_type, std::less<Entry>, __gnu_pbds::rb_tree_tag,
                     __gnu_pbds::tree_order_statistics_node_update>;

struct Rung {
  double tokens = 0;        ///< where it lies
  RankedSet all;            ///< of every trial that reached it, or failed on the way to it
  std::set<Entry> waiting;  ///< of those that are paused here

  std::int64_t size() const { return static_cast<std::int64_t>(all.size()); }
  /// How many of `all` come before `entry`.
  std::int64_t RankOf(const Entry& entry) const {
    return static_cast<std::int64_t>(all.order_of_key(entry));
  }
};

/// Deals trials to brackets in the proportions of `weights`: trial i goes where most is owed, which
/// depends on i and the weights alone. Grows as it is asked.
class BracketDealer {
 public:
  explicit BracketDealer(std::vector<double> weights);
  int BracketOf(int trial);

 private:
  std::vector<double> share_;  ///< sums to 1
  std::vector<double> dealt_;
  std::vector<std::uint8_t> brackets_;
};

}  // namespace sae::server::search
