#pragma once
// `saeloom up`: a coordinator and workers as child processes on loopback, until Ctrl-C. A child
// that dies is started again with back-off, on the same port (DIR/ports.json). A lock keeps a
// second one off the same DIR. First SIGINT or SIGTERM: workers are asked to checkpoint and stop
// their trials (20 s), then the coordinator ends; second: all is killed. Children carry a mark in
// their environment, by which every process that they started is found and ended too, also after
// this program was killed. Errors: FAILED_PRECONDITION when DIR is in use, or a kept port is;
// NOT_FOUND for a missing sibling; INTERNAL when the coordinator cannot start, with the end of its
// log. Owns its children. One thread.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/world.h"
#include "sae/base/process.h"

namespace sae::cli {

struct UpOptions {
  std::string dir;  ///< absolute
  int slots = 0;    ///< of each worker; 0 = the worker's default
  int workers = 1;
  int port = 0;      ///< of the coordinator; 0 = the kept one, or any free one
  std::string self;  ///< this program: starts children so that they end with it; "" = directly
  std::string coordinator;  ///< paths of the siblings
  std::string worker;
  absl::Duration grace = absl::Seconds(25);  ///< workers give their gangs 20 s
  absl::Duration first_backoff = absl::Milliseconds(500);
  absl::Duration ready_within = absl::Seconds(60);
  bool json = false;
};

class Supervisor {
 public:
  Supervisor(UpOptions options, World& world, SignalWatcher& signals);
  ~Supervisor();
  /// Until a signal. OK when all children ended in good order.
  [[nodiscard]] absl::Status Run();

 private:
  struct Child {
    std::string name;
    std::vector<std::string> argv;  ///< without what depends on ports
    std::string log;
    std::string port_file;
    std::unique_ptr<Process> process;
    absl::Duration backoff;
    absl::Duration started;   ///< since boot
    absl::Duration start_at;  ///< when a dead one is started again
  };

  absl::Status Lock();
  absl::Status LoadPorts();
  absl::Status SavePorts();
  absl::Status Start(Child& child);
  absl::Status StartCoordinator();
  absl::Status AwaitCoordinator(Child& child);
  void LearnPorts(Child& child);
  std::vector<std::string> Argv(const Child& child) const;
  void Tend(Child& child);
  void Stop();
  /// Waits until none of `children` runs; false after `timeout` or when a second signal came.
  bool AwaitEnd(const std::vector<Child*>& children, absl::Duration timeout);
  void KillAll();
  void Say(const std::string& text);

  UpOptions options_;
  World& world_;
  SignalWatcher& signals_;
  std::string mark_;  ///< "SAELOOM_UP=DIR"
  int lock_fd_ = -1;
  bool impatient_ = false;  ///< a second signal came
  std::string address_;
  std::map<std::string, int>
      ports_;  ///< "coordinator", "coordinator.metrics", "worker-0.metrics", ...
  std::vector<std::unique_ptr<Child>> children_;  ///< the coordinator first
};

/// The ports of a --port-file: {"listen": "127.0.0.1:5", "metrics": "127.0.0.1:6"}, or plain words
/// in that order; 0 = not there.
struct PortFile {
  int listen = 0;
  int metrics = 0;
};
PortFile ParsePortFile(const std::string& text);

/// The hidden verb `supervised PARENT PROGRAM ARGS..`: asks the kernel for SIGTERM when PARENT
/// dies, then becomes PROGRAM. Returns only on failure.
absl::Status RunSupervised(const std::vector<std::string>& args, const World& world);

}  // namespace sae::cli
