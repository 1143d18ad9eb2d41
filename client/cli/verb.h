#pragma once
// The verbs of `saeloom`. Each is one file with one Add function, which gives its subcommand flags,
// examples in the footer and a callback that leaves a status (or an exit code) in the session.

#include <memory>
#include <string>
#include <vector>

#include "client/cli/api.h"
#include "client/cli/world.h"
#include "sae/base/status.h"

namespace CLI {
class App;
}

namespace sae::cli {

struct Session {
  explicit Session(World& w) : world(w) {}
  World& world;
  std::string server;            ///< --server
  std::string output = "table";  ///< -o table | json
  double timeout_seconds = 10;   ///< of each unary call
  std::string offline;           ///< --offline: path of saeloom-offline
  absl::Status status;           ///< of the verb
  int exit_code = 0;             ///< when the status is OK

  bool json() const { return output == "json"; }
  std::unique_ptr<SignalWatcher> signals;

  [[nodiscard]] absl::StatusOr<std::unique_ptr<Api>> Connect() const;
  /// For verbs that must notice Ctrl-C: call before Connect, so that gRPC's threads inherit the
  /// mask.
  void CatchSignals() {
    if (world.watch_signals) signals = world.watch_signals();
  }
};

void AddBest(CLI::App& app, Session& session);
void AddCancel(CLI::App& app, Session& session);
void AddCompletion(CLI::App& app, Session& session);
void AddExport(CLI::App& app, Session& session);
void AddGet(CLI::App& app, Session& session);
void AddList(CLI::App& app, Session& session);
void AddLogs(CLI::App& app, Session& session);
void AddPlan(CLI::App& app, Session& session);
void AddRetry(CLI::App& app, Session& session);
void AddSubmit(CLI::App& app, Session& session);
void AddUp(CLI::App& app, Session& session);
void AddValidate(CLI::App& app, Session& session);
void AddVersion(CLI::App& app, Session& session);
void AddWatch(CLI::App& app, Session& session);
void AddWorkers(CLI::App& app, Session& session);

/// Verbs that saeloom-offline has: (name, one line).
const std::vector<std::pair<std::string, std::string>>& OfflineVerbs();
/// Whether `args` (without argv[0]) are for saeloom-offline.
bool IsOffline(const std::vector<std::string>& args);
/// Becomes saeloom-offline with `args`; returns only on failure.
absl::Status RunOffline(const std::vector<std::string>& args, const std::string& flag,
                        const World& world);

}  // namespace sae::cli
