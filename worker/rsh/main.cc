// saeloom-rsh: stands in for ssh where mpirun starts its daemon on another host of a gang.

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/prctl.h>
#include <unistd.h>

#include "worker/rsh/exec.h"
#include "worker/rsh/guard.h"

namespace {

constexpr int kUsage = 2;
constexpr int kFailed = 255;  // ssh's own code for "not the command's fault"

constexpr char kHelp[] = R"(Usage: saeloom-rsh HOST COMMAND...
Runs COMMAND on a peer of this gang through the peer's worker, as ssh would; mpirun calls it (plm_rsh_agent).
SAELOOM_PEERS names the file that the gang's worker wrote. Exit code: the command's, or 255.
)";

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "saeloom-rsh: %s\n", sae::Message(status).c_str());
  return kFailed;
}

void WriteTo(int fd, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(fd, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    at += static_cast<std::size_t>(n);
  }
}

int RunOnPeer(int argc, char** argv) {
  // Without mpirun nobody wants the daemon: this process ends, the stream breaks, the peer ends it.
  const pid_t parent = ::getppid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) return kFailed;
  const char* path = std::getenv(saeloom::rsh::kPeersVariable);
  if (path == nullptr)
    return Fail(
        absl::FailedPreconditionError("SAELOOM_PEERS is not set: it is mpirun's, below a worker"));
  const auto peers = saeloom::rsh::ReadPeersFile(sae::RealEnv(), path);
  if (!peers.ok()) return Fail(peers.status());
  // The words hold quotes and semicolons for the shell over there.
  std::string command;
  for (int i = 2; i < argc; ++i) command += (i > 2 ? " " : "") + std::string(argv[i]);
  saeloom::rsh::ExecOptions options;
  options.clock = &sae::RealClock();
  options.err = [](const std::string& text) { WriteTo(STDERR_FILENO, text); };
  const auto code = saeloom::rsh::Exec(options, *peers, argv[1], command);
  return code.ok() ? *code : Fail(code.status());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string first = argc > 1 ? argv[1] : "";
  if (first == "--help" || first == "-h") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  if (first == "--guard" && argc == 4) {
    const auto code = saeloom::rsh::RunGuarded(argv[2], argv[3]);
    return code.ok() ? *code : Fail(code.status());
  }
  if (argc < 3 || first.rfind("--", 0) == 0) {
    std::fputs(kHelp, stderr);
    return kUsage;
  }
  return RunOnPeer(argc, argv);
}
