#pragma once
// The open streams of people: how many each has, and which must end because their token is not good
// any more. Thread-safe.

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "sae/base/mutex.h"
#include "sae/base/status.h"
#include "server/auth/principal.h"

namespace sae::server {

class StreamRegistry {
 public:
  /// One stream; counts for as long as it lives.
  class Ticket {
   public:
    ~Ticket();

   private:
    friend class StreamRegistry;
    struct Shared;
    std::shared_ptr<Shared> shared_;
    std::string principal_;
    std::int64_t id_ = 0;
  };

  explicit StreamRegistry(int limit);
  /// RESOURCE_EXHAUSTED when the principal has as many as it may. `end` is called at most once,
  /// from EndUnlessGood, while the ticket lives or just after; it must not block.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<Ticket>> Open(
      const Principal& caller, std::function<void(const absl::Status&)> end);
  /// Ends streams of tokens for which `good` has an error.
  void EndUnlessGood(const std::function<absl::Status(const std::string& token)>& good);
  std::int64_t size() const;

 private:
  const int limit_;
  std::shared_ptr<Ticket::Shared> shared_;  // tickets may outlive the registry
};

struct StreamRegistry::Ticket::Shared {
  struct Stream {
    std::string token;
    std::function<void(const absl::Status&)> end;
  };
  Mutex mu;
  std::map<std::int64_t, Stream> streams ABSL_GUARDED_BY(mu);
  std::map<std::string, int> of_principal ABSL_GUARDED_BY(mu);
  std::int64_t next ABSL_GUARDED_BY(mu) = 1;
};

}  // namespace sae::server
