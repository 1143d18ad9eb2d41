#pragma once
// What workers and the core say to each other, as plain structs: the transport (gRPC, or a
// simulator) converts. Numbers and meaning as in proto saeloom.v1 worker_service.proto.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"

#include "sae/config/run_config.h"
#include "server/core/states.h"

namespace sae::server {

struct AttemptKey {
  std::string sweep;
  std::string trial;
  int attempt = 0;
  auto operator<=>(const AttemptKey&) const = default;
};
inline std::string ToString(const AttemptKey& key) {
  return key.sweep + "/" + key.trial + " attempt " + std::to_string(key.attempt);
}

/// Who sends: every message of a worker.
struct Sender {
  std::string worker_id;
  std::string incarnation;
  std::int64_t epoch = 0;
};

struct KnownAttempt {
  AttemptKey key;
  bool running = false;
};
struct RegisterRequest {
  std::string worker_id;
  std::string boot_id;
  std::string incarnation;
  int slots = 0;
  int gpus = 0;
  std::string runs_directory;
  std::string runs_id;
  std::string version;
  std::string address;
  std::vector<KnownAttempt> attempts;
  std::int64_t memory_bytes = 0;  ///< for its gangs together; 0 = unknown
  std::string rack;               ///< "" = unknown
  std::string peer_address;       ///< of its PeerService; "" = in no gang over several workers
  std::string mpi_host;
  /// When it was sent, by the worker's CLOCK_BOOTTIME: tells one that came late. Zero = not said.
  absl::Duration sent;
};
struct AcknowledgedAttempt {
  AttemptKey key;
  std::int64_t seq = 0;
  bool wanted = false;
};
struct RegisterReply {
  std::int64_t epoch = 0;
  absl::Duration heartbeat_interval;
  absl::Duration lease;
  std::vector<AcknowledgedAttempt> attempts;
};

struct AttemptStatus {
  enum class State { kUnspecified = 0, kStarting = 1, kEnded = 2, kRefused = 3, kPrepared = 4 };
  AttemptKey key;
  State state = State::kUnspecified;
  int exit_code = 0;
  std::string verdict;
  std::string reason;
  FailureClass failure_class = FailureClass::kUnspecified;
  std::vector<std::string> log_tail;
  std::int64_t status_id = 0;
};
/// What became of a KeepCheckpointCommand or a DeleteCheckpointsCommand.
struct CheckpointStatus {
  enum class State { kUnspecified = 0, kKept = 1, kDeleted = 2, kMissing = 3, kFailed = 4 };
  std::string sweep;
  std::string trial;
  std::string name;
  int attempt = 0;
  State state = State::kUnspecified;
  std::string reason;
  std::int64_t bytes = 0;
  std::int64_t status_id = 0;
};
struct HeartbeatRequest {
  Sender sender;
  std::int64_t heartbeat = 0;
  int free_slots = 0;
  std::vector<AttemptStatus> statuses;
  std::vector<CheckpointStatus> checkpoints = {};
};
struct HeartbeatReply {
  std::int64_t heartbeat = 0;
  std::vector<std::int64_t> status_acks;
};

struct StartCommand {
  AttemptKey key;
  config::TrialConfig config;
  std::string store;
  std::string store_hash;
  int slots = 0;                   ///< of the whole gang
  std::vector<StartCommand> with;  ///< other trials' attempts in the same gang
  struct Host {
    std::string worker;
    int slots = 0;
    std::string mpi_host;
    std::string peer_address;
  };
  std::vector<Host> hosts;      ///< of a gang over several workers, this one first; else empty
  std::string token;            ///< with hosts
  std::string from_checkpoint;  ///< absolute folder to begin from when it has none of its own
  absl::Duration progress_timeout;
  int keep_checkpoints = 2;  ///< the newest, which the trainer keeps; -1 = all
};
struct StopCommand {
  AttemptKey key;
  bool checkpoint = false;  ///< save first, then end; else end now
  std::string reason;
  absl::Duration grace;  ///< to save; then it is killed. Zero = the worker's own
};
/// First phase of a gang over several workers.
struct PrepareCommand {
  AttemptKey key;
  int slots = 0;  ///< here
  std::string token;
  std::string store;
  std::string store_hash;
};
struct ReleaseCommand {
  AttemptKey key;
};
struct KeepCheckpointCommand {
  std::string sweep;
  std::string trial;
  std::string name;
  int attempt = 0;  ///< that saved it
};
struct DeleteCheckpointsCommand {
  std::string sweep;
  std::string trial;
  std::vector<std::string> names;
  int attempt = 0;         ///< that saved them
  bool kept_only = false;  ///< a later attempt may have saved others under these names
};
using Command = std::variant<StartCommand, StopCommand, PrepareCommand, ReleaseCommand,
                             KeepCheckpointCommand, DeleteCheckpointsCommand>;

struct ReportRequest {
  Sender sender;
  AttemptKey key;
  std::int64_t first_seq = 0;
  std::vector<std::string> lines;
};

}  // namespace sae::server
