#pragma once
// One attempt in this process: joins the ranks, sets up log, events, lease and supervisor, runs the trial,
// and turns its end into a verdict and an exit code. Called once, on main's thread.

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/signals.h"
#include "sae/config/run_config.h"

namespace saeloom::trainer {

/// The exit code. When the ranks did not end together in order, it does not return: the process _exits.
int RunAttempt(sae::Env& env, sae::Clock& clock, sae::SignalWatcher& signals, const sae::config::RunConfig& config);

}  // namespace saeloom::trainer
