#include "server/auth/bootstrap.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/auth/access.h"

namespace sae::server {
namespace {

constexpr absl::Duration kLife = absl::Hours(24 * 365);
constexpr mode_t kOwnerOnly = 0600;

absl::Status WriteSecret(const std::string& path, const std::string& text, bool replace) {
  if (replace) ::unlink(path.c_str());
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly);
  if (fd < 0 && errno == EEXIST) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists; remove it, or name another file for the token"));
  }
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  const std::string line = text + "\n";
  const bool written = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()) &&
                       ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (written) return absl::OkStatus();
  ::unlink(path.c_str());
  return ErrnoToStatus(error, absl::StrCat("cannot write ", path));
}

}  // namespace

absl::StatusOr<TokenRecord> CreateAdminToken(EventStore& store, const std::string& path,
                                             bool replace, absl::Time now, const Entropy& entropy) {
  SAE_ASSIGN_OR_RETURN(const NewToken made, MakeToken(entropy));
  TokenRecord record;
  record.id = made.id;
  record.secret_hash = made.hash;
  record.principal = "admin";
  record.role = ToString(Role::kAdmin);
  record.note = "made by --create-admin-token, or at the first start with TLS";
  record.created = now;
  record.expires = now + kLife;
  AuditRecord audit;
  audit.time = now;
  audit.principal = "(local)";
  audit.method = "CreateToken";
  audit.resource = absl::StrCat("token ", made.id, " of admin: admin");
  audit.code = "OK";
  SAE_RETURN_IF_ERROR(WriteSecret(path, made.text, replace));
  Transaction transaction;
  transaction.tokens.push_back(record);
  transaction.audit.push_back(std::move(audit));
  if (absl::Status stored = store.Commit(transaction); !stored.ok()) {
    ::unlink(path.c_str());
    return stored;
  }
  return record;
}

absl::Status MakePrivateFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kOwnerOnly);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  const int rc = ::fchmod(fd, kOwnerOnly);
  const int error = errno;
  ::close(fd);
  // Another's file, which this process may write all the same, stays as it is.
  if (rc != 0 && error != EPERM) return ErrnoToStatus(error, absl::StrCat("cannot protect ", path));
  return absl::OkStatus();
}

}  // namespace sae::server
