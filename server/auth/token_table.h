#pragma once
// The tokens that are known, in memory, as the store has them: who a token belongs to is asked at
// every call. Thread-safe. Errors: UNAUTHENTICATED, saying what to do.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "server/auth/principal.h"
#include "server/store/event_store.h"

namespace sae::server {

class TokenTable {
 public:
  /// In place of all that was known.
  void Load(std::vector<TokenRecord> records);
  /// After it was stored: a new one, or one that was changed.
  void Put(TokenRecord record);

  /// Whose token this is; notes that it was used.
  [[nodiscard]] absl::StatusOr<Principal> Authenticate(const std::string& token, absl::Time now);
  /// Whether a token that was good still is.
  [[nodiscard]] absl::Status Check(const std::string& id, absl::Time now) const;

  std::vector<TokenRecord> All() const;
  /// Those used since the last call, to be stored.
  std::vector<TokenRecord> TakeUsed();
  bool HasAdmin(absl::Time now) const;

 private:
  static absl::Status StillGood(const TokenRecord& record, absl::Time now);

  mutable Mutex mu_;
  std::map<std::string, TokenRecord> records_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> used_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sae::server
