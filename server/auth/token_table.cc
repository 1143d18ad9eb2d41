#include "server/auth/token_table.h"

#include "server/auth/access.h"
#include "server/auth/token.h"

namespace sae::server {
namespace {

absl::Status NotKnown() {
  return absl::UnauthenticatedError(
      "the token is not one of this coordinator; ask an admin for one (saeloom token create) and "
      "name its file with --token-file");
}

}  // namespace

void TokenTable::Load(std::vector<TokenRecord> records) {
  MutexLock lock(mu_);
  records_.clear();
  used_.clear();
  for (TokenRecord& record : records) {
    std::string id = record.id;
    records_[std::move(id)] = std::move(record);
  }
}

void TokenTable::Put(TokenRecord record) {
  MutexLock lock(mu_);
  std::string id = record.id;
  records_[std::move(id)] = std::move(record);
}

absl::Status TokenTable::StillGood(const TokenRecord& record, absl::Time now) {
  if (record.revoked) {
    return absl::UnauthenticatedError(absl::StrCat("token ", record.id, " of ", record.principal,
                                                   " was revoked; ask an admin for a new one"));
  }
  if (record.expires <= now) {
    return absl::UnauthenticatedError(
        absl::StrCat("token ", record.id, " of ", record.principal, " has expired at ",
                     absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", record.expires, absl::UTCTimeZone()),
                     "; ask an admin for a new one"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Principal> TokenTable::Authenticate(const std::string& token, absl::Time now) {
  const auto parts = ParseToken(token);
  if (!parts) return NotKnown();
  const std::string hash = HashSecret(*parts);
  MutexLock lock(mu_);
  const auto it = records_.find(parts->id);
  if (it == records_.end() || !SameHash(it->second.secret_hash, hash)) return NotKnown();
  TokenRecord& record = it->second;
  SAE_RETURN_IF_ERROR(StillGood(record, now));
  Principal principal{record.principal, Role::kNone, "token", record.id, ""};
  SAE_RETURN_IF_ERROR(ParseTokenRole(record.role, "role", principal.role));
  record.last_used = now;
  used_.insert(record.id);
  return principal;
}

absl::Status TokenTable::Check(const std::string& id, absl::Time now) const {
  MutexLock lock(mu_);
  const auto it = records_.find(id);
  if (it == records_.end()) return NotKnown();
  return StillGood(it->second, now);
}

std::vector<TokenRecord> TokenTable::All() const {
  MutexLock lock(mu_);
  std::vector<TokenRecord> out;
  for (const auto& [id, record] : records_) out.push_back(record);
  return out;
}

std::vector<TokenRecord> TokenTable::TakeUsed() {
  MutexLock lock(mu_);
  std::vector<TokenRecord> out;
  for (const std::string& id : used_) {
    if (const auto it = records_.find(id); it != records_.end()) out.push_back(it->second);
  }
  used_.clear();
  return out;
}

bool TokenTable::HasAdmin(absl::Time now) const {
  MutexLock lock(mu_);
  for (const auto& [id, record] : records_) {
    if (record.role == ToString(Role::kAdmin) && StillGood(record, now).ok()) return true;
  }
  return false;
}

}  // namespace sae::server
