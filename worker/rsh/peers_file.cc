#include "worker/rsh/peers_file.h"

#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace saeloom::rsh {

using nlohmann::json;

absl::Status WritePeersFile(const std::string& path, const PeersFile& p) {
  const std::string text = json{
      {"sweep", p.sweep},
      {"trial", p.trial},
      {"attempt", p.attempt},
      {"token", p.token},
      {"addresses", p.addresses},
      {"connect_seconds", p.connect_seconds},
      {"cert", p.cert},
      {"key", p.key},
      {"ca", p.ca}}.dump();
  ::unlink(
      path.c_str());  // of an earlier try; never write into a file that somebody else has opened
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return sae::ErrnoToStatus(errno, sae::ToAbsl("cannot create " + path));
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  ::close(fd);
  return written ? absl::OkStatus()
                 : sae::ErrnoToStatus(error, sae::ToAbsl("cannot write " + path));
}

absl::StatusOr<PeersFile> ReadPeersFile(sae::Env& env, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(path));
  PeersFile p;
  try {
    const json j = json::parse(text);
    j.at("sweep").get_to(p.sweep);
    j.at("trial").get_to(p.trial);
    j.at("attempt").get_to(p.attempt);
    j.at("token").get_to(p.token);
    j.at("addresses").get_to(p.addresses);
    p.connect_seconds = j.value("connect_seconds", p.connect_seconds);
    j.at("cert").get_to(p.cert);
    j.at("key").get_to(p.key);
    j.at("ca").get_to(p.ca);
  } catch (const json::exception& e) {
    return absl::DataLossError(absl::StrCat(path, " is not what a worker writes: ", e.what()));
  }
  return p;
}

}  // namespace saeloom::rsh
