#include "tests/multihost/net_hosts.h"

#include <cerrno>
#include <csignal>
#include <sched.h>

#include <gtest/gtest.h>

#include "sae/base/clock.h"

namespace saeloom::multihost {
namespace {

constexpr char kBridge[] = "hosts";
constexpr absl::Duration kLongest = absl::Seconds(30);

absl::Status Shell(const std::string& command) {
  SAE_ASSIGN_OR_RETURN(
      const auto run,
      sae::RunProcess({.argv = {"/bin/sh", "-c", "exec 2>&1; " + command}}, kLongest));
  if (run.exit.ShellCode() == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(command, ": ", run.output));
}

void MustShell(const std::string& command) {
  const absl::Status status = Shell(command);
  ASSERT_TRUE(status.ok()) << status;
}

/// Waits for `found` to be true of something.
template <class F>
bool WaitFor(F found) {
  const absl::Duration end = sae::RealClock().SinceBoot() + kLongest;
  while (!found()) {
    if (sae::RealClock().SinceBoot() > end) return false;
    sae::RealClock().SleepFor(absl::Milliseconds(10));
  }
  return true;
}

}  // namespace

absl::Status EnterOwnNetwork() {
  if (::unshare(CLONE_NEWNET) != 0)
    return sae::ErrnoToStatus(errno, "cannot make a network namespace (needs root)");
  SAE_RETURN_IF_ERROR(Shell("ip link set lo up"));
  SAE_RETURN_IF_ERROR(Shell(absl::StrCat("ip link add ", kBridge, " type bridge")));
  SAE_RETURN_IF_ERROR(Shell(absl::StrCat("ip addr add ", kOwnAddress, "/24 dev ", kBridge)));
  SAE_RETURN_IF_ERROR(Shell(absl::StrCat("ip link set ", kBridge, " up")));
  return Shell("unshare --net --uts --pid --mount --fork --mount-proc hostname try");
}

NetHosts::NetHosts(int count, std::map<std::string, std::string> marks) : marks_(std::move(marks)) {
  for (int host = 1; host <= count; ++host) {
    sae::ProcessSpec spec;
    spec.argv = {"/usr/bin/setpriv",
                 "--pdeathsig",
                 "KILL",
                 "/usr/bin/unshare",
                 "--net",
                 "--uts",
                 "--pid",
                 "--mount",
                 "--fork",
                 "--mount-proc",
                 "--kill-child",
                 "/bin/sh",
                 "-c",
                 absl::StrCat("hostname ", Name(host),
                              " && mount -t tmpfs tmpfs /dev/shm && exec sleep infinity")};
    spec.environment = marks_;
    auto holder = sae::Process::Spawn(spec);
    EXPECT_TRUE(holder.ok()) << holder.status();
    const pid_t outer = (*holder)->pid();
    EXPECT_TRUE(WaitFor([&] {
      for (const auto& p : sae::ListProcesses()) {
        if (p.parent == outer && p.name == "sleep") inits_[host] = p.pid;
      }
      return inits_.count(host) > 0;
    }));
    holders_[host] = *std::move(holder);
    const std::string link = absl::StrCat("to-", Name(host));
    MustShell(absl::StrCat("ip link add ", link, " type veth peer name eth0 netns ", inits_[host]));
    MustShell(absl::StrCat("ip link set ", link, " master ", kBridge, " up"));
    EXPECT_TRUE(Run(host, {"ip", "addr", "add", Address(host) + "/24", "dev", "eth0"}).ok());
    EXPECT_TRUE(Run(host, {"ip", "link", "set", "lo", "up"}).ok());
    EXPECT_TRUE(Run(host, {"ip", "link", "set", "eth0", "up"}).ok());
  }
}

NetHosts::~NetHosts() {
  for (const auto& [host, pid] : inits_) ::kill(pid, SIGKILL);
  for (auto& [host, holder] : holders_) holder->Wait(kLongest).IgnoreError();
  for (auto& process : started_) process->Wait(kLongest).IgnoreError();
  for (const auto& [host, pid] : inits_)
    Shell(absl::StrCat("ip link del to-", Name(host))).IgnoreError();  // it goes with the other end
}

std::vector<std::string> NetHosts::Enter(int host, const std::vector<std::string>& argv) const {
  std::vector<std::string> out = {
      "/usr/bin/nsenter", "--target", absl::StrCat(inits_.at(host)), "--net", "--uts", "--pid",
      "--mount",          "--"};
  out.insert(out.end(), argv.begin(), argv.end());
  return out;
}

absl::Status NetHosts::Run(int host, const std::vector<std::string>& argv) {
  SAE_ASSIGN_OR_RETURN(const auto run, sae::RunProcess({.argv = Enter(host, argv)}, kLongest));
  return run.exit.ShellCode() == 0 ? absl::OkStatus()
                                   : absl::InternalError(absl::StrCat(argv[0], ": ", run.output));
}

void NetHosts::Start(int host, const std::vector<std::string>& argv, const std::string& log) {
  sae::ProcessSpec spec;
  spec.argv = Enter(host, argv);
  spec.output = log;
  spec.errors = log;
  spec.environment = marks_;
  spec.environment["SAELOOM_HOST"] = Name(host);
  auto process = sae::Process::Spawn(spec);
  ASSERT_TRUE(process.ok()) << process.status();
  started_.push_back(*std::move(process));
}

void NetHosts::CutLink(int host) {
  MustShell(absl::StrCat("ip link set to-", Name(host), " down"));
}
void NetHosts::MendLink(int host) { MustShell(absl::StrCat("ip link set to-", Name(host), " up")); }
void NetHosts::Block(int host, const std::string& address) {
  const absl::Status status = Run(host, {"ip", "route", "add", "blackhole", address});
  ASSERT_TRUE(status.ok()) << status;
}
void NetHosts::Unblock(int host, const std::string& address) {
  const absl::Status status = Run(host, {"ip", "route", "del", "blackhole", address});
  ASSERT_TRUE(status.ok()) << status;
}

sae::ProcessQuery NetHosts::On(int host) const {
  sae::ProcessQuery query{.marks = {"SAELOOM_HOST=" + Name(host)}};
  for (const auto& [key, value] : marks_) query.marks.push_back(key + "=" + value);
  return query;
}

std::vector<pid_t> NetHosts::Find(int host, const std::string& name) const {
  std::vector<pid_t> out;
  for (const auto& p : sae::FindProcesses(On(host))) {
    if (p.name == name) out.push_back(p.pid);
  }
  return out;
}

void NetHosts::Kill(int host, const std::string& name) {
  const std::vector<pid_t> found = Find(host, name);
  ASSERT_FALSE(found.empty()) << "no " << name << " on " << Name(host);
  for (const pid_t pid : found) ::kill(pid, SIGKILL);
  ASSERT_TRUE(WaitFor([&] {
    for (const pid_t pid : found) {
      const auto info = sae::ReadProcess(pid);
      if (info.ok() && info->alive()) return false;
    }
    return true;
  }));
}

void NetHosts::PowerOff(int host) {
  ::kill(inits_.at(host), SIGKILL);
  ASSERT_TRUE(WaitFor([&] { return sae::FindProcesses(On(host)).empty(); }));
}

}  // namespace saeloom::multihost
