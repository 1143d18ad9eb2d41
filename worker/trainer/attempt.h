#pragma once
// One attempt in this process, or one each of several trials on one stream: joins the ranks, sets up log, events,
// leases and supervisor, runs the trials, and turns their ends into verdicts and an exit code. Called once, on
// main's thread.
// Signals ask all trials to yield; a lease that has passed only its own. Exit code of several: 75 when any yielded,
// else that of the first that failed, else 0; each trial's verdict is in its own events.jsonl.

#include <vector>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/signals.h"
#include "sae/config/run_config.h"

namespace saeloom::trainer {

/// The exit code. When the ranks did not end together in order, it does not return: the process _exits.
/// `configs`: one, or several that CheckGang accepts.
int RunAttempt(sae::Env& env, sae::Clock& clock, sae::SignalWatcher& signals,
               const std::vector<sae::config::RunConfig>& configs);

}  // namespace saeloom::trainer
