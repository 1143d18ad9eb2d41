#pragma once
// Mistakes that the simulator's own test plants in the core, to show that its checker finds them.
// Compiled in only with SAE_PLANTED_BUGS, which that test's own copy of the core has; in every
// program the question is the constant `false`.

namespace sae::server {

enum class PlantedBug {
  kNone,
  kStaleReport,      ///< lines of an attempt that was given up count as the live one's
  kShortLease,       ///< the lease ends here before it ends at the worker
  kAckBeforeCommit,  ///< a submit is acknowledged whatever the commit said
  kStartsAgain,      ///< a worker that came back without its attempt is told to start it again
  kAllocatedIsFree,  ///< half of the slots in use count as free
  kForgetsRequests,  ///< a repeated submit is taken for a new one
  kHalfPrepared,     ///< a gang counts as prepared when one host has said so
  kQuotaIgnored,     ///< queues have no quota
  kSearchForgets,    ///< a search that is made anew is not told what the log holds
};

#ifdef SAE_PLANTED_BUGS
struct Planting {
  PlantedBug bug = PlantedBug::kNone;
  constexpr bool Is(PlantedBug other) const { return bug == other; }
};
#else
struct Planting {
  constexpr bool Is(PlantedBug) const { return false; }
};
#endif

}  // namespace sae::server
