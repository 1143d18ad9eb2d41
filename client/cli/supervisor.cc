#include "client/cli/supervisor.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

#include "client/cli/table.h"
#include "sae/base/procfs.h"

namespace sae::cli {
namespace {

constexpr absl::Duration kPollChildren = absl::Milliseconds(50);
constexpr absl::Duration kLongestBackoff = absl::Seconds(30);
constexpr absl::Duration kGoodRun =
    absl::Seconds(60);  // after that, a death starts again from the first back-off
constexpr int kLogLines = 8;

/// Whether a server could listen there now.
bool PortIsFree(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool free = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return free;
}

std::string Tail(Env& env, const std::string& path) {
  const auto text = env.Read(path);
  if (!text.ok()) return "";
  const std::vector<std::string> lines = absl::StrSplit(*text, '\n', absl::SkipEmpty());
  std::string out;
  for (std::size_t i = lines.size() > kLogLines ? lines.size() - kLogLines : 0; i < lines.size();
       ++i) {
    absl::StrAppend(&out, "\n  | ", lines[i]);
  }
  return out;
}

std::string EndText(const ExitStatus& exit) {
  return exit.signal != 0 ? absl::StrCat("signal ", exit.signal)
                          : absl::StrCat("exit code ", exit.code);
}

}  // namespace

Supervisor::Supervisor(UpOptions options, World& world, SignalWatcher& signals)
    : options_(std::move(options)),
      world_(world),
      signals_(signals),
      mark_("SAELOOM_UP=" + options_.dir) {}

Supervisor::~Supervisor() {
  if (lock_fd_ < 0) return;
  KillAll();
  ::close(lock_fd_);
}

void Supervisor::Say(const std::string& text) { world_.err << text << std::endl; }

absl::Status Supervisor::Lock() {
  SAE_RETURN_IF_ERROR(world_.env.MakeDirectories(options_.dir + "/logs"));
  const std::string path = options_.dir + "/lock";
  lock_fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_fd_ < 0) return ErrnoToStatus(errno, path);
  if (::flock(lock_fd_, LOCK_EX | LOCK_NB) != 0) {
    const std::string holder = world_.env.Read(path).value_or("");
    const std::string address = world_.env.Read(options_.dir + "/address").value_or("");
    ::close(lock_fd_);
    lock_fd_ = -1;
    return absl::FailedPreconditionError(absl::StrCat(
        options_.dir, " is in use by another `saeloom up`",
        holder.empty() ? "" : absl::StrCat(" (process ", absl::StripAsciiWhitespace(holder), ")"),
        address.empty() ? "" : absl::StrCat(" at ", absl::StripAsciiWhitespace(address)),
        ": use that one, or another --dir"));
  }
  const std::string pid = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(lock_fd_, 0) != 0 || ::pwrite(lock_fd_, pid.data(), pid.size(), 0) < 0)
    return ErrnoToStatus(errno, path);
  // What a killed predecessor left behind carries our mark; nothing else can, now that the lock is
  // ours.
  for (int tries = 0, left = 0; (left = SignalProcesses({0, {mark_}}, SIGKILL)) > 0 && tries < 100;
       ++tries) {
    if (tries == 0)
      Say(absl::StrCat("ending ", left, " processes that an earlier run left behind"));
    (void)signals_.Wait(kPollChildren);
  }
  return world_.env.RemoveAll(options_.dir + "/address");
}

absl::Status Supervisor::LoadPorts() {
  const std::string path = options_.dir + "/ports.json";
  if (world_.env.Exists(path)) {
    SAE_ASSIGN_OR_RETURN(const std::string text, world_.env.Read(path));
    const nlohmann::json j = nlohmann::json::parse(text, nullptr, false);
    if (!j.is_object())
      return absl::DataLossError(
          absl::StrCat(path, " is damaged: delete it, and ports are chosen anew"));
    for (const auto& [name, port] : j.items()) {
      if (port.is_number_integer()) ports_[name] = port.get<int>();
    }
  }
  if (options_.port != 0) ports_["coordinator"] = options_.port;
  for (auto& [name, port] : ports_) {
    if (port == 0 || PortIsFree(port)) continue;
    if (name != "coordinator") {  // nobody has to know a metrics port beforehand
      port = 0;
      continue;
    }
    return absl::FailedPreconditionError(absl::StrCat(
        "the coordinator's port ", port, " is in use: ",
        options_.port != 0
            ? std::string("choose another with --port, or leave it out")
            : absl::StrCat("end what uses it, or delete ", path, " to choose another")));
  }
  return absl::OkStatus();
}

absl::Status Supervisor::SavePorts() {
  return WriteFileAtomically(world_.env, options_.dir + "/ports.json",
                             nlohmann::json(ports_).dump(2) + "\n");
}

std::vector<std::string> Supervisor::Argv(const Child& child) const {
  const auto port = [&](const std::string& name) {
    const auto it = ports_.find(name);
    return absl::StrCat("127.0.0.1:", it == ports_.end() ? 0 : it->second);
  };
  std::vector<std::string> argv;
  if (!options_.self.empty()) argv = {options_.self, "supervised", absl::StrCat(::getpid())};
  argv.insert(argv.end(), child.argv.begin(), child.argv.end());
  if (child.name == "coordinator") {
    argv.insert(argv.end(), {"--listen", port("coordinator")});
  } else {
    argv.insert(argv.end(), {"--coordinator", address_});
  }
  argv.insert(argv.end(),
              {"--metrics-listen", port(child.name + ".metrics"), "--port-file", child.port_file});
  return argv;
}

absl::Status Supervisor::Start(Child& child) {
  SAE_RETURN_IF_ERROR(world_.env.RemoveAll(child.port_file));
  ProcessSpec spec;
  spec.argv = Argv(child);
  spec.environment["SAELOOM_UP"] = options_.dir;
  spec.output = child.log;
  spec.errors = child.log;
  SAE_ASSIGN_OR_RETURN(child.process, Process::Spawn(spec));
  child.started = world_.clock.SinceBoot();
  return absl::OkStatus();
}

/// Until its port file is there.
absl::Status Supervisor::AwaitCoordinator(Child& child) {
  const absl::Duration deadline = world_.clock.SinceBoot() + options_.ready_within;
  for (;;) {
    SAE_ASSIGN_OR_RETURN(const auto ended, child.process->Wait(absl::ZeroDuration()));
    if (ended) {
      return absl::InternalError(absl::StrCat("the coordinator ended before it was ready (",
                                              EndText(*ended), "); the end of ", child.log, ":",
                                              Tail(world_.env, child.log)));
    }
    if (ParsePortFile(world_.env.Read(child.port_file).value_or("")).listen != 0)
      return absl::OkStatus();
    if (signals_.Wait(kPollChildren))
      return absl::CancelledError("interrupted before the coordinator was ready");
    if (world_.clock.SinceBoot() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat("the coordinator was not ready within ",
                                                      Span(options_.ready_within), "; see ",
                                                      child.log));
    }
  }
}

void Supervisor::LearnPorts(Child& child) {
  const auto text = world_.env.Read(child.port_file);
  if (!text.ok()) return;
  const PortFile file = ParsePortFile(*text);
  if (child.name == "coordinator") {
    if (file.listen != 0) ports_["coordinator"] = file.listen;
    if (file.metrics != 0) ports_["coordinator.metrics"] = file.metrics;
  } else if (const int port = file.metrics != 0 ? file.metrics : file.listen; port != 0) {
    if (ports_[child.name + ".metrics"] == port) return;
    ports_[child.name + ".metrics"] = port;
    if (const absl::Status s = SavePorts(); !s.ok()) Say(Message(s));
  }
}

absl::Status Supervisor::StartCoordinator() {
  auto child = std::make_unique<Child>();
  child->name = "coordinator";
  child->argv = {options_.coordinator, "--data", options_.dir + "/coordinator"};
  child->log = options_.dir + "/logs/coordinator.log";
  child->port_file = options_.dir + "/coordinator.ports";
  child->backoff = options_.first_backoff;
  children_.push_back(std::move(child));
  SAE_RETURN_IF_ERROR(Start(*children_[0]));
  SAE_RETURN_IF_ERROR(AwaitCoordinator(*children_[0]));
  LearnPorts(*children_[0]);
  address_ = absl::StrCat("127.0.0.1:", ports_["coordinator"]);
  SAE_RETURN_IF_ERROR(SavePorts());
  SAE_RETURN_IF_ERROR(WriteFileAtomically(world_.env, options_.dir + "/address", address_ + "\n"));
  if (options_.json) {
    world_.out << nlohmann::json{{"address", address_},
                                 {"directory", options_.dir},
                                 {"workers", options_.workers}}
                      .dump()
               << std::endl;
  } else {
    world_.out << "SAELOOM_ADDR=" << address_ << std::endl;
  }
  return absl::OkStatus();
}

/// Starts a dead child again when its time has come; notices one that has died.
void Supervisor::Tend(Child& child) {
  const absl::Duration now = world_.clock.SinceBoot();
  if (child.process == nullptr) {
    if (now < child.start_at) return;
    if (const absl::Status s = Start(child); !s.ok()) {
      Say(absl::StrCat(child.name, " cannot be started: ", Message(s)));
      child.start_at = now + child.backoff;
      child.backoff = std::min(child.backoff * 2, kLongestBackoff);
    }
    return;
  }
  const auto ended = child.process->Wait(absl::ZeroDuration());
  if (!ended.ok() || !*ended) {
    LearnPorts(child);
    return;
  }
  if (now - child.started > kGoodRun) child.backoff = options_.first_backoff;
  Say(absl::StrCat(child.name, " ended (", EndText(**ended), "): starting it again in ",
                   absl::FormatDuration(child.backoff), "; log: ", child.log));
  child.process.reset();
  child.start_at = now + child.backoff;
  child.backoff = std::min(child.backoff * 2, kLongestBackoff);
}

bool Supervisor::AwaitEnd(const std::vector<Child*>& children, absl::Duration timeout) {
  const absl::Duration deadline = world_.clock.SinceBoot() + timeout;
  for (;;) {
    bool running = false;
    for (Child* c : children) {
      if (c->process == nullptr) continue;
      const auto ended = c->process->Wait(absl::ZeroDuration());
      if (ended.ok() && *ended)
        c->process.reset();
      else
        running = true;
    }
    if (!running) return true;
    if (impatient_ || world_.clock.SinceBoot() > deadline) return false;
    if (signals_.Wait(kPollChildren)) impatient_ = true;
  }
}

void Supervisor::Stop() {
  std::vector<Child*> workers;
  for (std::size_t i = 1; i < children_.size(); ++i) workers.push_back(children_[i].get());
  Say("stopping: running trials save a checkpoint first (again Ctrl-C: at once)");
  for (Child* c : workers) {
    if (c->process) (void)c->process->Signal(SIGTERM);
  }
  if (!AwaitEnd(workers, options_.grace))
    Say(impatient_ ? "stopping at once" : "some workers did not end in time: killing them");
  Child* coordinator = children_[0].get();
  if (coordinator->process && !impatient_) (void)coordinator->process->Signal(SIGTERM);
  AwaitEnd({coordinator}, impatient_ ? absl::ZeroDuration() : absl::Seconds(10));
  KillAll();
  Say("stopped");
}

/// Children, and whatever they started, in sessions of their own or not.
void Supervisor::KillAll() {
  for (const auto& c : children_) {
    if (c->process) (void)c->process->SignalGroup(SIGKILL);
  }
  const absl::Duration deadline = world_.clock.SinceBoot() + absl::Seconds(10);
  while (SignalProcesses({0, {mark_}}, SIGKILL) > 0 && world_.clock.SinceBoot() < deadline)
    (void)signals_.Wait(kPollChildren);
  children_.clear();
  (void)world_.env.RemoveAll(options_.dir + "/address");
}

absl::Status Supervisor::Run() {
  SAE_RETURN_IF_ERROR(Lock());
  SAE_RETURN_IF_ERROR(LoadPorts());
  SAE_RETURN_IF_ERROR(world_.env.MakeDirectories(options_.dir + "/runs"));
  if (const absl::Status s = StartCoordinator(); absl::IsCancelled(s))
    return absl::OkStatus();
  else if (!s.ok())
    return s;
  for (int i = 0; i < options_.workers; ++i) {
    auto child = std::make_unique<Child>();
    child->name = absl::StrCat("worker-", i);
    child->argv = {options_.worker, "--runs", options_.dir + "/runs", "--name", child->name};
    if (options_.slots > 0)
      child->argv.insert(child->argv.end(), {"--slots", absl::StrCat(options_.slots)});
    child->log = absl::StrCat(options_.dir, "/logs/", child->name, ".log");
    child->port_file = absl::StrCat(options_.dir, "/", child->name, ".ports");
    child->backoff = options_.first_backoff;
    children_.push_back(std::move(child));
  }
  Say(absl::StrCat("coordinator and ", options_.workers,
                   options_.workers == 1 ? " worker" : " workers", "; logs in ", options_.dir,
                   "/logs; Ctrl-C stops them, sweeps go on at the next `saeloom up`"));
  for (;;) {
    for (const auto& child : children_) Tend(*child);
    if (signals_.Wait(2 * kPollChildren)) break;
  }
  Stop();
  return absl::OkStatus();
}

absl::Status RunSupervised(const std::vector<std::string>& args, const World& world) {
  pid_t parent = 0;
  if (args.size() < 3 || !absl::SimpleAtoi(args[1], &parent))
    return absl::InvalidArgumentError("supervised: for `saeloom up` only");
  if (::prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) return ErrnoToStatus(errno, "prctl");
  if (::getppid() != parent)
    return absl::FailedPreconditionError("supervised: the parent has died");
  return world.exec({args.begin() + 2, args.end()});
}

}  // namespace sae::cli
