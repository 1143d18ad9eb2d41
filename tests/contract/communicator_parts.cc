// Groups split off a group.
#include "tests/contract/communicator_suite.h"

namespace sae::comm::contract {
namespace {

absl::Status SplitOrdersByKey(Communicator& c) {
  // Odd and even ranks, in reverse order.
  const int color = c.rank() % 2;
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> part, c.Split(color, -c.rank()));
  const int members = (c.size() + 1 - color) / 2;
  if (part->size() != members)
    return absl::InternalError(absl::StrCat("a part of ", part->size(), " ranks"));
  if (part->rank() != members - 1 - c.rank() / 2)
    return absl::InternalError("the key does not order ranks");
  std::int64_t sum = c.rank();
  SAE_RETURN_IF_ERROR(part->AllReduceSum(std::span<std::int64_t>(&sum, 1)));
  std::int64_t expected = 0;
  for (int r = color; r < c.size(); r += 2) expected += r;
  if (sum != expected) return absl::InternalError("the part's sum is not over its members");
  // Equal keys: by rank; and the parent still works between uses of its part.
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> all, c.Split(7, 0));
  if (all->rank() != c.rank() || all->size() != c.size())
    return absl::InternalError("equal keys keep rank order");
  SAE_RETURN_IF_ERROR(c.Barrier());
  SAE_RETURN_IF_ERROR(all->Barrier());
  return part->Barrier();
}

// Groups of two, then one of their first ranks: how a selection over many ranks gathers.
absl::Status SplitInTwoLevels(Communicator& c) {
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> pair, c.Split(c.rank() / 2, c.rank()));
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> across, c.Split(pair->rank(), c.rank()));
  for (int round = 0; round < 3; ++round) {
    std::vector<std::int32_t> mine{c.rank() + round, -c.rank()};
    std::vector<std::int32_t> near(mine.size() * static_cast<std::size_t>(pair->size()));
    SAE_RETURN_IF_ERROR(
        pair->AllGather(std::span<const std::int32_t>(mine), std::span<std::int32_t>(near)));
    std::int64_t sum = 0;
    for (const std::int32_t value : near) sum += value;
    if (sum != static_cast<std::int64_t>(round) * pair->size())
      return absl::InternalError("the near gather is wrong");
    // Of the first of each pair over all pairs.
    std::int64_t first = near[0];
    SAE_RETURN_IF_ERROR(across->AllReduceSum(std::span<std::int64_t>(&first, 1)));
    std::int64_t expected = 0;
    for (int r = pair->rank(); r < c.size(); r += 2) expected += r / 2 * 2 + round;
    if (first != expected)
      return absl::InternalError(absl::StrCat("across: ", first, " for ", expected));
  }
  return c.Barrier();
}

absl::Status SplitOfSplit(Communicator& c) {
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> part, c.Split(0, -c.rank()));
  SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> inner, part->Split(0, -part->rank()));
  if (inner->rank() != c.rank()) return absl::InternalError("two reversals are none");
  part.reset();  // the inner group goes on without the one it came from
  std::int64_t one = 1;
  SAE_RETURN_IF_ERROR(inner->AllReduceSum(std::span<std::int64_t>(&one, 1)));
  if (one != c.size()) return absl::InternalError("the inner group lost a rank");
  return c.Barrier();
}

}  // namespace

void AppendParts(std::vector<Case>& cases) {
  cases.push_back({"SplitOrdersByKey", 1, absl::Seconds(60), SplitOrdersByKey});
  cases.push_back({"SplitInTwoLevels", 1, absl::Seconds(60), SplitInTwoLevels});
  cases.push_back({"SplitOfSplit", 1, absl::Seconds(60), SplitOfSplit});
}

}  // namespace sae::comm::contract
