#pragma once
// What the verbs of `saeloom` share: the session that flags fill, and how a verb is added to the
// tree of commands. Each noun has a file with one Add function; a verb that also stands without its
// noun (`best` for `sweep best`) is added twice by the same function. Parsing only notes what is to
// run; RunCli then runs it. One thread.

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "client/cli/api.h"
#include "client/cli/connection.h"
#include "client/cli/world.h"
#include "sae/base/status.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace sae::cli {

struct Session {
  explicit Session(World& w) : world(w) {}
  World& world;
  ConnectionFlags connection;    ///< --server --context --ca --cert --key --token-file
  std::string output = "table";  ///< -o table | wide | json | yaml | jsonl | name
  double timeout_seconds = 10;   ///< of each unary call
  bool quiet = false;
  bool no_color = false;
  std::string offline;                   ///< --offline: path of saeloom-offline
  bool watch = false;                    ///< --watch: of lists and gets
  bool wait = false;                     ///< --wait: of what changes something
  int limit = 0;                         ///< --limit: of lists; 0 = all
  std::string filter;                    ///< --filter
  std::string request_id;                ///< --request-id
  std::function<absl::Status()> run;     ///< what the chosen verb does
  int exit_code = 0;                     ///< when the status is OK
  std::set<const CLI::App*> name_verbs;  ///< have -o name

  bool json() const { return output == "json" || output == "yaml" || output == "jsonl"; }
  bool wide() const { return output == "wide"; }
  bool names() const { return output == "name"; }
  std::unique_ptr<SignalWatcher> signals;

  [[nodiscard]] absl::StatusOr<std::unique_ptr<Api>> Connect();
  /// For verbs that must notice Ctrl-C: call before Connect, so that gRPC's threads inherit the
  /// mask.
  void CatchSignals() {
    if (world.watch_signals && !signals) signals = world.watch_signals();
  }
  /// True after Ctrl-C; waits at most so long.
  bool Interrupted(absl::Duration within);
  /// Progress and notes, to the error stream; nothing with --quiet.
  void Note(const std::string& text);
};

/// What a verb takes beside its own flags.
struct Takes {
  bool list = false;    ///< --limit --filter
  bool watch = false;   ///< --watch
  bool wait = false;    ///< --wait
  bool change = false;  ///< --request-id
  bool names = false;   ///< -o name
};

/// A verb with its help. In an example "%" stands for the verb's own words, "saeloom sweep get".
CLI::App* AddVerb(CLI::App& parent, Session& session, const std::string& name,
                  const std::string& description, const std::vector<std::string>& examples,
                  Takes takes = {}, const std::string& note = "");
/// A flag that may be given several times, with one value each time.
CLI::Option* AddRepeated(CLI::App* verb, const std::string& flag, std::vector<std::string>& values,
                         const std::string& description);
/// A noun that holds verbs.
CLI::App* AddNoun(CLI::App& app, const std::string& name, const std::string& description);
void OnRun(CLI::App* verb, Session& session, std::function<absl::Status()> run);

// Nouns.
void AddSweep(CLI::App& app, Session& session);
void AddTrial(CLI::App& app, Session& session);
void AddCheckpoint(CLI::App& app, Session& session);
void AddWorker(CLI::App& app, Session& session);
void AddQueue(CLI::App& app, Session& session);
void AddToken(CLI::App& app, Session& session);  // and whoami
void AddAudit(CLI::App& app, Session& session);
void AddContext(CLI::App& app, Session& session);
void AddDebug(CLI::App& app, Session& session);  // and health

// Parts of nouns that have files of their own.
void AddSweepChange(CLI::App& noun, Session& session);  // pause resume cancel delete retry set
void AddSweepGrow(CLI::App& noun, Session& session);    // fork add pareto
void AddTrialChange(CLI::App& noun, Session& session);  // stop pause resume promote
void AddTrialMetrics(CLI::App& noun, Session& session);

// Verbs that stand alone; some stand in a noun as well.
void AddBest(CLI::App& app, Session& session);
void AddCancel(CLI::App& app, Session& session);
void AddCompletion(CLI::App& app, Session& session);  // and the hidden __complete
void AddEvents(CLI::App& app, Session& session);
void AddExport(CLI::App& app, Session& session);
void AddGet(CLI::App& app, Session& session, const std::string& name);
void AddList(CLI::App& app, Session& session);
void AddLogs(CLI::App& app, Session& session);
void AddPlan(CLI::App& app, Session& session);
void AddRetry(CLI::App& app, Session& session);
void AddSchema(CLI::App& app, Session& session);
void AddSubmit(CLI::App& app, Session& session);
void AddTop(CLI::App& app, Session& session);
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
