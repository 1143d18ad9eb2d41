#include "worker/agent/control_group.h"

#include <cerrno>
#include <fcntl.h>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "sae/base/hash.h"

namespace saeloom::agent {
namespace {
constexpr char kGroupPrefix[] = "saeloom-";
}

std::string ControlGroupFolder(const std::string& mounts, const std::string& groups) {
  std::string root, device, point, type, rest;
  std::istringstream in(mounts);
  while (root.empty() && in >> device >> point >> type && std::getline(in, rest)) {
    if (type == "cgroup2") root = point;
  }
  std::istringstream lines(groups);
  for (std::string line; !root.empty() && std::getline(lines, line);) {
    // Version 2 is the hierarchy without a number. What lies above a namespace's root cannot be
    // reached.
    if (line.rfind("0::/", 0) != 0 || line.rfind("0::/..", 0) == 0) continue;
    const std::string path = line.substr(3);
    return path == "/" ? root : root + path;
  }
  return "";
}

std::string OwnControlGroup(sae::Env& env) {
  const std::string folder = ControlGroupFolder(env.Read("/proc/self/mounts").value_or(""),
                                                env.Read("/proc/self/cgroup").value_or(""));
  if (folder.empty()) return "";
  const auto names = env.List(folder);
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    if (name.rfind(kGroupPrefix, 0) == 0) ::rmdir((folder + "/" + name).c_str());  // fails in use
  }
  const std::string probe = absl::StrCat(folder, "/", kGroupPrefix, "probe-", ::getpid());
  if (!MakeControlGroup(probe)) return "";
  const bool can_kill = ::access((probe + "/cgroup.kill").c_str(), W_OK) == 0;
  RemoveControlGroup(probe);
  return can_kill ? folder : "";
}

std::string ControlGroupOf(const std::string& root, const std::string& gang,
                           const std::string& runs_id) {
  if (root.empty()) return "";
  const std::string hash = sae::HashToText(sae::Xxh3(gang + "@" + runs_id));
  return absl::StrCat(root, "/", kGroupPrefix, hash.substr(hash.find(':') + 1));
}

bool MakeControlGroup(const std::string& path) {
  return ::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST;
}

void BeginIn(const std::string& path, sae::ProcessSpec& command) {
  // The shell moves itself and becomes the program: not even a child that is born at once is
  // missed.
  std::vector<std::string> argv = {
      "/bin/sh", "-c", R"({ echo 0 > "$0/cgroup.procs"; } 2>/dev/null; exec "$@")", path};
  argv.insert(argv.end(), command.argv.begin(), command.argv.end());
  command.argv = std::move(argv);
}

void KillControlGroup(const std::string& path) {
  const int fd = ::open((path + "/cgroup.kill").c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  [[maybe_unused]] const ssize_t n = ::write(fd, "1", 1);
  ::close(fd);
}

bool RemoveControlGroup(const std::string& path) {
  return ::rmdir(path.c_str()) == 0 || errno != EBUSY;
}

std::optional<std::int64_t> MemoryKills(sae::Env& env, const std::string& path) {
  std::istringstream in(env.Read(path + "/memory.events").value_or(""));
  std::string name;
  for (std::int64_t value = 0; in >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return std::nullopt;
}

}  // namespace saeloom::agent
