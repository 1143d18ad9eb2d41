#include <spdlog/spdlog.h>
#include <vector>

#include "absl/strings/str_split.h"

#include "worker/agent/attempt.h"

namespace saeloom::agent {
namespace {

/// The folder of the attempt that a gang is named after: launcher.log is there.
std::string GangDirectory(const RunsFolder& runs, const std::string& gang) {
  const std::vector<std::string> parts = absl::StrSplit(gang, '/');
  if (parts.size() != 3) return "";
  return runs.AttemptDirectory({parts[0], parts[1], std::atoi(parts[2].c_str())});
}

}  // namespace

std::unique_ptr<Attempt> Attempt::Adopt(const Context& context, const AttemptKey& key,
                                        AdoptedGangs& gangs) {
  auto attempt = std::unique_ptr<Attempt>(new Attempt(context, key));
  AttemptRecord& record = attempt->record_;
  if (auto read = ReadRecord(*context.env, attempt->directory()); read.ok()) record = *read;
  record.sweep = key.sweep;
  record.trial = key.trial;
  record.attempt = key.attempt;
  const std::string name = record.gang.empty() ? key.Text() : record.gang;
  attempt->gang_directory_ = GangDirectory(*context.runs, name);
  if (record.ended) {  // only the report of its end was not acknowledged
    attempt->ending_ = Ending{record.verdict, record.exit_code, record.reason,
                              static_cast<saeloom::v1::FailureClass>(record.failure_class)};
    attempt->log_tail_ = attempt->ReadLogTail();
    return attempt;
  }
  // Another boot is another machine: a process with that number is a stranger.
  const bool same_boot = record.boot_id == context.boot_id;
  std::shared_ptr<GangProcess>& gang = gangs[name];
  if (gang == nullptr) {
    gang = GangProcess::Adopt(
        name, context.runs->runs_id(),
        same_boot ? GangProcess::Launcher{record.pid, record.start_ticks} : GangProcess::Launcher{},
        context.gang.cgroup_root);
  } else {
    gang->AddTrial();
  }
  attempt->gang_ = gang;
  if (!gang->killing()) {
    spdlog::info("attempt {}: taken back, mpirun is process {}", key.Text(), record.pid);
    return attempt;
  }
  attempt->stop_cause_ = StopCause::kWorkerRestart;
  attempt->stop_reason_ =
      same_boot ? "it ended while its worker was away" : "its machine was restarted while it ran";
  return attempt;
}

}  // namespace saeloom::agent
