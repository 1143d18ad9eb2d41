#pragma once
// How a gang is launched: mpirun over the trainer's ranks, on this machine or several. Pure.
// Settings and what was measured: OpenMPI 4.1 binds ranks to cores in ways that starve neighbours
// (--bind-to none), counts cores as slots (--oversubscribe), needs an ssh even for local ranks
// unless plm=isolated, and leaves shared-memory files behind when it is killed (they go to a
// scratch folder). Over several hosts saeloom-rsh starts OpenMPI's daemons, all from here and
// attached, so that each ends with its agent; a host that is cut off is given up after about seven
// seconds (by default only after minutes).

#include <map>
#include <string>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/process.h"
#include "worker/agent/attempt_key.h"

namespace saeloom::agent {

struct GangOptions {
  std::string mpirun;         ///< path
  std::string trainer;        ///< path of saeloom-trainer
  std::string rsh;            ///< path of saeloom-rsh
  std::string cert, key, ca;  ///< PEM files by which workers know each other; empty = without TLS
  absl::Duration rendezvous_timeout = absl::Minutes(2);  ///< for ranks on several hosts to meet
  std::string mpi_interface;  ///< for MPI between hosts: names or CIDR, with commas; "" = all
  std::string cgroup_root;  ///< where gangs get control groups; "" = nowhere
  std::string scratch_root = "/dev/shm";           ///< for the scratch folders of gangs
  std::map<std::string, std::string> environment;  ///< added to every gang's
};

/// One of a gang over several.
struct GangHost {
  std::string mpi_host;      ///< name or address by which the others reach it
  std::string peer_address;  ///< HOST:PORT of its PeerService
  int slots = 1;
};

struct GangSpec {
  AttemptKey key;  ///< of the attempt; of several trials, the first one's
  std::string runs_id;
  std::string directory;            ///< of the attempt; run.json is there, launcher.log will be
  std::vector<std::string> others;  ///< folders of the other trials' attempts
  int ranks = 1;
  int threads = 1;                ///< of each rank
  std::vector<std::string> gpus;  ///< all that its ranks here see, one a rank; none: on CPUs
  std::vector<GangHost> hosts;    ///< this one first; empty: all ranks are here
};

/// What an outer mpirun or srun tells its own ranks: an inner one must not see it.
std::vector<std::string> LauncherVariables();

/// For saeloom-rsh: in the scratch directory of the gang.
std::string PeersPath(const GangOptions& options, const GangSpec& spec);

/// `root`: mpirun refuses to run as root unless told twice.
sae::ProcessSpec GangCommand(const GangOptions& options, const GangSpec& spec, bool root);

/// Entries in the environment of every process of the gang, and of no other.
std::vector<std::string> GangMarks(const AttemptKey& key, const std::string& runs_id);
/// `gang`: the key as text.
std::vector<std::string> GangMarks(const std::string& gang, const std::string& runs_id);

/// Where the gang's OpenMPI keeps sockets and shared memory: a function of the arguments, so that
/// another worker can clean up after it.
std::string ScratchDirectory(const GangOptions& options, const AttemptKey& key,
                             const std::string& runs_id);
std::string ScratchDirectory(const GangOptions& options, const std::string& gang,
                             const std::string& runs_id);

/// Makes it, with a note of whose it is.
[[nodiscard]] absl::Status MakeScratch(sae::Env& env, const GangOptions& options,
                                       const AttemptKey& key, const std::string& runs_id);

/// Removes scratch folders of this user whose gangs are gone and whose workers never came back to
/// do it: they hold memory. One younger than a minute may belong to a gang that is being started.
/// Returns how many.
int RemoveAbandonedScratch(sae::Env& env, sae::Clock& clock, const GangOptions& options);

}  // namespace saeloom::agent
