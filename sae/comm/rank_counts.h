#pragma once
// How many elements each rank has in a gather or an exchange: one number for all, or one each.
// Borrows the list; nothing allocates.

#include <cstdint>
#include <span>

namespace sae::comm {

class RankCounts {
 public:
  RankCounts() = default;
  explicit RankCounts(std::int64_t each) : each_(each) {}
  explicit RankCounts(std::span<const std::int64_t> list) : list_(list) {}

  std::int64_t operator[](int rank) const {
    return list_.empty() ? each_ : list_[static_cast<std::size_t>(rank)];
  }
  std::int64_t Total(int ranks) const {
    std::int64_t total = 0;
    for (int r = 0; r < ranks; ++r) total += (*this)[r];
    return total;
  }
  bool AllEqual(int ranks) const {
    for (int r = 1; r < ranks; ++r) {
      if ((*this)[r] != (*this)[0]) return false;
    }
    return true;
  }

 private:
  std::int64_t each_ = 0;
  std::span<const std::int64_t> list_;
};

}  // namespace sae::comm
