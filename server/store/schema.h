#pragma once
// The tables of the event log and the steps from older versions (docs/formats/event_log.md).
// Errors: FAILED_PRECONDITION for a newer version or another program's database, with the remedy.

#include "server/store/sqlite_db.h"

namespace sae::server {

inline constexpr int kSchemaVersion = 3;

/// Makes the tables of a new file; brings an older one to kSchemaVersion, one transaction a step.
[[nodiscard]] absl::Status PrepareSchema(SqliteDb& db);

}  // namespace sae::server
