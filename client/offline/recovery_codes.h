#pragma once
// The part of recovery that needs codes: the trained SAE is saved as a checkpoint, loaded as anyone
// would load it, and run on fresh rows. So this also shows that what training evaluated and what
// its users get are the same. Blocking; writes below `scratch` and removes it.

#include <string>

#include "client/offline/recovery.h"
#include "sae/base/env.h"
#include "sae/base/parallel.h"
#include "sae/comm/communicator.h"
#include "sae/data/synthetic.h"
#include "sae/model/state.h"

namespace sae::client {

/// Adds saved_fvu, dead, precision, recall, f1 and, with data of a parent and its child,
/// absorption, over the rows from `source`'s position on.
[[nodiscard]] absl::Status MeasureCodes(const RecoveryCase& recovery, const model::State& state,
                                        comm::Communicator& self, data::SyntheticSource& source,
                                        Env& env, const std::string& scratch, ThreadPool& pool,
                                        RecoveryMetrics* out);

}  // namespace sae::client
