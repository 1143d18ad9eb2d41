#include "worker/agent/runs_folder.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <unistd.h>

#include "sae/base/ids.h"

namespace saeloom::agent {
namespace {
namespace fs = std::filesystem;

constexpr int kMostIdentities = 1000;  // on one machine, in one folder

std::string Trimmed(std::string s) {
  while (!s.empty() && std::isspace(static_cast<unsigned char>(s.back())) != 0) s.pop_back();
  return s;
}

std::string Lower(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return s;
}

/// The content of `path`, after making it with `content` unless it is there: of many processes that
/// do this at once one wins, and all read the same. `content` is unique: it names the temporary,
/// for process numbers are not where machines or containers share the folder.
absl::StatusOr<std::string> ReadOrCreate(sae::Env& env, const std::string& path,
                                         const std::string& content) {
  if (!env.Exists(path)) {
    const std::string temporary = path + ".new." + content;
    SAE_RETURN_IF_ERROR(sae::WriteFileAtomically(env, temporary, content + "\n"));
    const int rc = ::link(temporary.c_str(), path.c_str());
    const int error = errno;
    env.RemoveAll(temporary).IgnoreError();
    if (rc != 0 && error != EEXIST)
      return sae::ErrnoToStatus(error, absl::StrCat("cannot create ", path));
  }
  SAE_ASSIGN_OR_RETURN(std::string text, env.Read(path));
  text = Trimmed(text);
  if (text.empty())
    return absl::DataLossError(absl::StrCat(path, " is empty: remove it and start again"));
  return text;
}

/// A name that ValidateName takes, from any host name.
std::string NameFromHost(const std::string& host) {
  std::string name;
  for (const char c : Lower(host.substr(0, host.find('.')))) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  }
  name = name.substr(0, 50);
  return name.empty() || name[0] == '-' ? "worker" + name : name;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunsFolder>> RunsFolder::Open(Options options) {
  std::error_code ec;
  const std::string directory = fs::absolute(options.directory, ec).lexically_normal().string();
  SAE_RETURN_IF_ERROR(options.env->MakeDirectories(directory));
  // Canonical, so that workers that come by different links see the same paths.
  auto folder = std::unique_ptr<RunsFolder>(
      new RunsFolder(*options.env, fs::canonical(directory, ec).string()));
  if (ec) return sae::ErrnoToStatus(ec.value(), absl::StrCat("cannot resolve ", directory));
  SAE_RETURN_IF_ERROR(folder->LoadRunsId(options));
  SAE_RETURN_IF_ERROR(folder->TakeIdentity(options));
  return folder;
}

RunsFolder::~RunsFolder() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

absl::Status RunsFolder::LoadRunsId(const Options& options) {
  sae::Random random = options.random;
  SAE_ASSIGN_OR_RETURN(runs_id_, ReadOrCreate(env_, directory_ + "/.saeloom-runs-id",
                                              sae::MakeUlid(options.now, random)));
  return absl::OkStatus();
}

absl::Status RunsFolder::TakeIdentity(Options& options) {
  if (!options.name.empty()) {
    SAE_RETURN_IF_ERROR(sae::ValidateName(options.name, "--name"));
    return TryIdentity(options.name, options);
  }
  const std::string base = NameFromHost(options.host);
  absl::Status last;
  for (int i = 1; i <= kMostIdentities; ++i) {
    last = TryIdentity(i == 1 ? base : absl::StrCat(base, "-", i), options);
    if (!absl::IsAlreadyExists(last)) return last;
  }
  return last;
}

absl::Status RunsFolder::TryIdentity(const std::string& name, Options& options) {
  const std::string directory = absl::StrCat(directory_, "/.saeloom-workers/", name);
  SAE_RETURN_IF_ERROR(env_.MakeDirectories(directory + "/open"));
  const std::string lock = directory + "/lock";
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return sae::ErrnoToStatus(errno, absl::StrCat("cannot open ", lock));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(fd);
    if (error != EWOULDBLOCK) return sae::ErrnoToStatus(error, absl::StrCat("cannot lock ", lock));
    return absl::AlreadyExistsError(absl::StrCat("a worker named ", name, " already runs in ",
                                                 directory_,
                                                 ": choose another --name, or stop it"));
  }
  if (lock_fd_ >= 0) ::close(lock_fd_);
  lock_fd_ = fd;
  identity_directory_ = directory;
  // The end of a ULID is its random part.
  const std::string suffix = Lower(sae::MakeUlid(options.now, options.random).substr(20));
  SAE_ASSIGN_OR_RETURN(worker_id_,
                       ReadOrCreate(env_, directory + "/id", absl::StrCat(name, "-", suffix)));
  return absl::OkStatus();
}

std::string RunsFolder::TrialDirectory(const AttemptKey& key) const {
  return absl::StrCat(directory_, "/", key.sweep, "/", key.trial);
}
std::string RunsFolder::AttemptDirectory(const AttemptKey& key) const {
  return absl::StrCat(TrialDirectory(key), "/attempts/", key.attempt);
}
std::string RunsFolder::Checkpoints(const AttemptKey& key) const {
  return TrialDirectory(key) + "/checkpoints";
}

std::vector<int> RunsFolder::Attempts(const AttemptKey& key) const {
  std::vector<int> out;
  const auto names = env_.List(TrialDirectory(key) + "/attempts");
  if (!names.ok()) return out;
  for (const std::string& name : *names) {
    if (const int n = std::atoi(name.c_str()); n > 0) out.push_back(n);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string RunsFolder::Marker(const AttemptKey& key) const {
  return absl::StrCat(identity_directory_, "/open/", key.sweep, "@", key.trial, "@", key.attempt);
}

absl::Status RunsFolder::MarkOpen(const AttemptKey& key) const {
  SAE_ASSIGN_OR_RETURN(auto file, env_.Create(Marker(key)));
  SAE_RETURN_IF_ERROR(file->Close());
  return env_.SyncDirectory(identity_directory_ + "/open");
}

absl::Status RunsFolder::MarkClosed(const AttemptKey& key) const {
  return env_.RemoveAll(Marker(key));
}

absl::StatusOr<std::vector<AttemptKey>> RunsFolder::OpenAttempts() const {
  SAE_ASSIGN_OR_RETURN(const auto names, env_.List(identity_directory_ + "/open"));
  std::vector<AttemptKey> out;
  for (const std::string& name : names) {
    const std::size_t first = name.find('@');
    const std::size_t last = name.rfind('@');
    if (first == std::string::npos || first == last) continue;
    out.push_back({name.substr(0, first), name.substr(first + 1, last - first - 1),
                   std::atoi(name.c_str() + last + 1)});
  }
  return out;
}

}  // namespace saeloom::agent
