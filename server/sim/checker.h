#pragma once
// Judges a history: what must hold whatever failed. Knows nothing of the coordinator's code; it
// reads the log by itself, so that a mistake there is not made here again. Each function checks one
// invariant and returns what it found, one sentence a breach; empty = it holds. Pure.

#include <string>
#include <vector>

#include "server/sim/history.h"

namespace sae::server::sim {

using Breaches = std::vector<std::string>;

/// I1: of each trial at most one attempt has processes at a time.
Breaches CheckOneLiveAttempt(const History& history);
/// I2: slots of a worker are in one live allocation only: by the log, on the machines, and in both
/// together (what still runs keeps its slots).
Breaches CheckSlots(const History& history);
/// I3: what was acknowledged to a client was done, once: submits, cancels, retries.
Breaches CheckClientOperations(const History& history);
/// I4: acknowledged points and checkpoints are in the log, once, unless a later attempt superseded
/// them.
Breaches CheckReports(const History& history);
/// I5: nothing starts that was not allocated, that had ended (or, of a gang over several workers,
/// whose trial has a newer attempt), or, having been seen to run, once more.
Breaches CheckStarts(const History& history);
/// I6: a gang over several workers is whole, counts as prepared only when each host had reserved
/// its part, and starts only then; trials of one gang are allocated together.
Breaches CheckGangs(const History& history);
/// I7: nothing changes a trial or sweep that has ended, except a recorded retry or addition.
Breaches CheckTerminalStates(const History& history);
/// I8: each sweep's log counts 1, 2, 3, ..; each watcher saw just that, in order.
Breaches CheckStreams(const History& history);
/// I9: what a search decides follows from the log before it, whatever restarted in between, and is
/// kept to. (By server/search itself, which its own tests judge.)
Breaches CheckSearch(const History& history);
/// I10: once the faults are over, everything ends.
Breaches CheckSettled(const History& history);
/// I11: what is allocated stays within the queue's quota and the sweep's max_concurrent.
Breaches CheckQuotas(const History& history);
/// I12: no trial gets more attempts than the policy allows.
Breaches CheckAttemptLimits(const History& history);

/// All of them; each breach begins with its invariant's name.
Breaches CheckAll(const History& history);

}  // namespace sae::server::sim
