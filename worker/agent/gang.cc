#include "worker/agent/gang.h"

#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "sae/base/hash.h"
#include "sae/base/procfs.h"
#include "worker/rsh/peers_file.h"

extern char** environ;

namespace saeloom::agent {
namespace {

constexpr char kOwner[] = "/owner";

std::string ScratchPrefix() { return absl::StrCat("saeloom.", ::getuid(), "."); }

std::string HostList(const std::vector<GangHost>& hosts) {
  return absl::StrJoin(hosts, ",", [](std::string* out, const GangHost& host) {
    absl::StrAppend(out, host.mpi_host, ":", host.slots);
  });
}

/// How mpirun reaches its daemons on other hosts, and notices that one is gone.
std::map<std::string, std::string> RemoteSettings(const GangOptions& options,
                                                  const GangSpec& spec) {
  std::map<std::string, std::string> out = {
      {"OMPI_MCA_plm", "rsh"},
      {"OMPI_MCA_plm_rsh_agent", options.rsh},
      {"OMPI_MCA_plm_rsh_no_tree_spawn", "1"},
      {"OMPI_MCA_orte_leave_session_attached", "1"},
      {"OMPI_MCA_orte_keep_fqdn_hostnames", "1"},
      {"OMPI_MCA_oob_tcp_keepalive_time", "2"},
      {"OMPI_MCA_oob_tcp_keepalive_intvl", "1"},
      {"OMPI_MCA_oob_tcp_keepalive_probes", "3"},
      {"OMPI_MCA_rtc", "^hwloc"},  // two daemons that share a machine's topology crash now and then
      {rsh::kPeersVariable, PeersPath(options, spec)}};
  if (!options.mpi_interface.empty()) {
    out["OMPI_MCA_btl_tcp_if_include"] = options.mpi_interface;
    out["OMPI_MCA_oob_tcp_if_include"] = options.mpi_interface;
  }
  return out;
}

}  // namespace

std::vector<std::string> LauncherVariables() {
  std::vector<std::string> out;
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) {
    const std::string entry = *e;
    for (const char* prefix :
         {"OMPI_COMM_WORLD", "OMPI_MCA_ess", "OMPI_MCA_orte_", "PMIX_", "PMI_"}) {
      if (entry.rfind(prefix, 0) == 0) {
        out.push_back(entry.substr(0, entry.find('=')));
        break;
      }
    }
  }
  return out;
}

std::string PeersPath(const GangOptions& options, const GangSpec& spec) {
  return ScratchDirectory(options, spec.key, spec.runs_id) + "/peers.json";
}

sae::ProcessSpec GangCommand(const GangOptions& options, const GangSpec& spec, bool root) {
  sae::ProcessSpec command;
  command.argv = {options.mpirun, "-np",  absl::StrCat(spec.ranks),
                  "--bind-to",    "none", "--oversubscribe"};
  if (!spec.hosts.empty()) {
    for (const std::string& word : {std::string("--host"), HostList(spec.hosts),
                                    std::string("--map-by"), std::string("slot")})
      command.argv.push_back(word);
  }
  for (const std::string& word :
       {options.trainer, std::string("--config"), spec.directory + "/run.json"})
    command.argv.push_back(word);
  for (const std::string& other : spec.others) {
    command.argv.emplace_back("--config");
    command.argv.push_back(other + "/run.json");
  }
  command.directory = spec.directory;
  command.output = spec.directory + "/launcher.log";
  command.errors = command.output;
  command.unset = LauncherVariables();
  const std::string scratch = ScratchDirectory(options, spec.key, spec.runs_id);
  command.environment = {{"OMP_NUM_THREADS", absl::StrCat(spec.threads)},
                         {"OMPI_MCA_plm", "isolated"},
                         {"OMPI_MCA_orte_tmpdir_base", scratch},
                         {"OMPI_MCA_btl_vader_backing_directory", scratch},
                         {"SAELOOM_ATTEMPT", spec.key.Text()},
                         {"SAELOOM_RUNS_ID", spec.runs_id}};
  if (!spec.hosts.empty()) {
    for (const auto& [name, value] : RemoteSettings(options, spec))
      command.environment[name] = value;
  }
  if (!spec.gpus.empty())
    command.environment["CUDA_VISIBLE_DEVICES"] = absl::StrJoin(spec.gpus, ",");
  if (root) {
    command.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    command.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  for (const auto& [name, value] : options.environment) command.environment[name] = value;
  return command;
}

std::vector<std::string> GangMarks(const AttemptKey& key, const std::string& runs_id) {
  return GangMarks(key.Text(), runs_id);
}

std::vector<std::string> GangMarks(const std::string& gang, const std::string& runs_id) {
  return {"SAELOOM_ATTEMPT=" + gang, "SAELOOM_RUNS_ID=" + runs_id};
}

std::string ScratchDirectory(const GangOptions& options, const AttemptKey& key,
                             const std::string& runs_id) {
  return ScratchDirectory(options, key.Text(), runs_id);
}

std::string ScratchDirectory(const GangOptions& options, const std::string& gang,
                             const std::string& runs_id) {
  // Short: OpenMPI puts Unix sockets below it, whose paths end at 107 bytes.
  const std::string hash = sae::HashToText(sae::Xxh3(gang + "@" + runs_id));
  return absl::StrCat(options.scratch_root, "/", ScratchPrefix(), hash.substr(hash.find(':') + 1));
}

absl::Status MakeScratch(sae::Env& env, const GangOptions& options, const AttemptKey& key,
                         const std::string& runs_id) {
  const std::string directory = ScratchDirectory(options, key, runs_id);
  SAE_RETURN_IF_ERROR(env.MakeDirectories(directory));
  std::string owner;
  for (const std::string& mark : GangMarks(key, runs_id)) owner += mark + "\n";
  return sae::WriteFileAtomically(env, directory + kOwner, owner);
}

int RemoveAbandonedScratch(sae::Env& env, sae::Clock& clock, const GangOptions& options) {
  const auto names = env.List(options.scratch_root);
  if (!names.ok()) return 0;
  const std::string prefix = ScratchPrefix();
  int removed = 0;
  for (const std::string& name : *names) {
    const std::string directory = options.scratch_root + "/" + name;
    struct stat info {};
    if (name.rfind(prefix, 0) != 0 || ::stat(directory.c_str(), &info) != 0) continue;
    const std::vector<std::string> marks =
        absl::StrSplit(env.Read(directory + kOwner).value_or(""), '\n', absl::SkipEmpty());
    const bool old = clock.Now() - absl::FromTimeT(info.st_mtime) > absl::Minutes(1);
    if (!old || !sae::FindProcesses({.marks = marks}).empty()) continue;
    if (env.RemoveAll(directory).ok()) ++removed;
  }
  return removed;
}

}  // namespace saeloom::agent
