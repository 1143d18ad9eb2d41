#include "server/core/preemption.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace sae::server {
namespace {

/// A gang that could go, by what it gives up where room is wanted.
struct Victim {
  std::size_t gang = 0;
  int slots = 0;
  std::int64_t priority = 0;
  absl::Time start;
};

/// The best of the smallest sets that give `missing` slots; `victims` in the order of preference.
std::vector<Victim> Fewest(const std::vector<Victim>& victims, int missing) {
  std::vector<int> by_size;
  for (const Victim& v : victims) by_size.push_back(v.slots);
  std::sort(by_size.rbegin(), by_size.rend());
  std::size_t count = 0;
  for (int sum = 0; sum < missing; ++count) {
    if (count == by_size.size()) return {};
    sum += by_size[count];
  }
  // Take one when the largest of those behind it can still fill up.
  std::vector<Victim> chosen;
  for (std::size_t i = 0; i < victims.size() && chosen.size() < count; ++i) {
    std::vector<int> behind;
    for (std::size_t j = i + 1; j < victims.size(); ++j) behind.push_back(victims[j].slots);
    std::sort(behind.rbegin(), behind.rend());
    int sum = victims[i].slots;
    for (const Victim& v : chosen) sum += v.slots;
    const std::size_t more = count - chosen.size() - 1;
    for (std::size_t j = 0; j < more && j < behind.size(); ++j) sum += behind[j];
    if (behind.size() >= more && sum >= missing) chosen.push_back(victims[i]);
  }
  return chosen;
}

/// What a set costs: less is better.
auto Cost(const std::vector<Victim>& victims) {
  std::int64_t highest = victims[0].priority, sum = 0;
  absl::Time earliest = victims[0].start;
  for (const Victim& v : victims) {
    highest = std::max(highest, v.priority);
    sum += v.priority;
    earliest = std::min(earliest, v.start);
  }
  return std::make_tuple(highest, victims.size(), sum, -absl::ToUnixNanos(earliest));
}

std::vector<Victim> VictimsAmong(const std::vector<std::size_t>& workers,
                                 const std::vector<RunningGang>& running,
                                 const std::vector<bool>& gone, std::int64_t priority) {
  std::vector<Victim> victims;
  for (std::size_t g = 0; g < running.size(); ++g) {
    if (gone[g] || running[g].priority >= priority) continue;
    int slots = 0;
    for (const Places::Take& take : running[g].takes) {
      if (std::find(workers.begin(), workers.end(), take.worker) != workers.end())
        slots += take.slots;
    }
    if (slots > 0) victims.push_back({g, slots, running[g].priority, running[g].start});
  }
  std::sort(victims.begin(), victims.end(), [](const Victim& a, const Victim& b) {
    return std::make_tuple(a.priority, b.start, a.gang) <
           std::make_tuple(b.priority, a.start, b.gang);
  });
  return victims;
}

}  // namespace

std::vector<std::size_t> ChooseVictims(const Places& places,
                                       const std::vector<RunningGang>& running,
                                       const std::vector<bool>& gone, const Need& need,
                                       std::int64_t priority) {
  std::vector<Victim> best;
  for (const std::vector<std::size_t>& workers : places.Candidates(need)) {
    int missing = need.slots;
    for (const std::size_t i : workers)
      missing -= places.workers()[i].free + places.workers()[i].coming;
    if (missing <= 0) continue;
    const std::vector<Victim> all = VictimsAmong(workers, running, gone, priority);
    // The lowest priorities that suffice.
    for (std::size_t end = 0; end < all.size();) {
      const std::int64_t level = all[end].priority;
      while (end < all.size() && all[end].priority == level) ++end;
      const std::vector<Victim> low(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(end));
      const std::vector<Victim> chosen = Fewest(low, missing);
      if (chosen.empty()) continue;
      if (best.empty() || Cost(chosen) < Cost(best)) best = chosen;
      break;
    }
  }
  std::vector<std::size_t> gangs;
  for (const Victim& v : best) gangs.push_back(v.gang);
  return gangs;
}

}  // namespace sae::server
