#pragma once
// Hosts on this machine: each has its own network, host name, processes and shared memory (Linux
// namespaces), one address 10.77.0.N on a bridge, and this machine's files. The test's process is
// on the bridge, too, with kOwnAddress, after EnterOwnNetwork. Everything vanishes with the
// processes. Needs root. Main thread only.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "sae/base/status.h"

namespace saeloom::multihost {

inline constexpr char kOwnAddress[] = "10.77.0.254";
inline constexpr char kNetwork[] = "10.77.0.0/24";

/// Moves this process into a network of its own with a bridge in it. First thing in main(), before
/// any thread. The error says why it cannot be done here.
[[nodiscard]] absl::Status EnterOwnNetwork();

class NetHosts {
 public:
  /// Names h1, h2, ...; everything that is started on a host carries SAELOOM_HOST=hN and `marks`.
  NetHosts(int count, std::map<std::string, std::string> marks);
  ~NetHosts();
  NetHosts(const NetHosts&) = delete;
  NetHosts& operator=(const NetHosts&) = delete;

  static std::string Name(int host) { return absl::StrCat("h", host); }
  static std::string Address(int host) { return absl::StrCat("10.77.0.", host); }

  /// Runs to its end.
  absl::Status Run(int host, const std::vector<std::string>& argv);
  /// Starts a program there; its output goes to `log`.
  void Start(int host, const std::vector<std::string>& argv, const std::string& log);

  /// Nothing goes between the host and anybody.
  void CutLink(int host);
  void MendLink(int host);
  /// `host` sends nothing to `address` any more: a partition of these two alone.
  void Block(int host, const std::string& address);
  void Unblock(int host, const std::string& address);
  /// Processes of that name (at most 15 characters) on a host, as this process numbers them.
  std::vector<pid_t> Find(int host, const std::string& name) const;
  /// SIGKILL to those; fails the test when there is none.
  void Kill(int host, const std::string& name);
  /// All its processes die at once.
  void PowerOff(int host);

 private:
  sae::ProcessQuery On(int host) const;
  std::vector<std::string> Enter(int host, const std::vector<std::string>& argv) const;

  std::map<std::string, std::string> marks_;
  std::map<int, std::unique_ptr<sae::Process>> holders_;
  std::map<int, pid_t> inits_;  ///< first process of each host
  std::vector<std::unique_ptr<sae::Process>> started_;
};

}  // namespace saeloom::multihost
