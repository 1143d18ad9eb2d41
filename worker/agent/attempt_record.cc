#include "worker/agent/attempt_record.h"

#include <nlohmann/json.hpp>

namespace saeloom::agent {
namespace {
using nlohmann::json;
std::string PathIn(const std::string& directory) { return directory + "/attempt.json"; }
}  // namespace

absl::Status WriteRecord(sae::Env& env, const std::string& directory, const AttemptRecord& r) {
  const json j = {{"sweep", r.sweep},
                  {"trial", r.trial},
                  {"attempt", r.attempt},
                  {"gang", r.gang},
                  {"gpus", r.gpus},
                  {"worker_id", r.worker_id},
                  {"incarnation", r.incarnation},
                  {"boot_id", r.boot_id},
                  {"slots", r.slots},
                  {"ranks", r.ranks},
                  {"hosts", r.hosts},
                  {"progress_timeout_seconds", r.progress_timeout_seconds},
                  {"pid", r.pid},
                  {"start_ticks", r.start_ticks},
                  {"oom_kills", r.oom_kills},
                  {"ended", r.ended},
                  {"exit_code", r.exit_code},
                  {"verdict", r.verdict},
                  {"reason", r.reason},
                  {"failure_class", r.failure_class}};
  return sae::WriteFileAtomically(env, PathIn(directory),
                                  j.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

absl::StatusOr<AttemptRecord> ReadRecord(sae::Env& env, const std::string& directory) {
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(PathIn(directory)));
  AttemptRecord r;
  try {
    const json j = json::parse(text);
    j.at("sweep").get_to(r.sweep);
    j.at("trial").get_to(r.trial);
    j.at("attempt").get_to(r.attempt);
    r.gang = j.value("gang", "");
    r.gpus = j.value("gpus", r.gpus);
    r.slots = j.value("slots", 1);
    r.ranks = j.value("ranks", 1);
    r.hosts = j.value("hosts", 1);
    r.progress_timeout_seconds = j.value("progress_timeout_seconds", 0.0);
    j.at("worker_id").get_to(r.worker_id);
    j.at("incarnation").get_to(r.incarnation);
    j.at("boot_id").get_to(r.boot_id);
    j.at("pid").get_to(r.pid);
    j.at("start_ticks").get_to(r.start_ticks);
    j.at("oom_kills").get_to(r.oom_kills);
    j.at("ended").get_to(r.ended);
    j.at("exit_code").get_to(r.exit_code);
    j.at("verdict").get_to(r.verdict);
    j.at("reason").get_to(r.reason);
    j.at("failure_class").get_to(r.failure_class);
  } catch (const json::exception& e) {
    return absl::DataLossError(
        absl::StrCat(PathIn(directory), " is not an attempt's record: ", e.what()));
  }
  return r;
}

}  // namespace saeloom::agent
