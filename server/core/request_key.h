#pragma once
// Ids by which a caller may repeat a mutating request: the first use is kept with its answer in the
// event store, in the transaction of what it did. Errors: INVALID_ARGUMENT, naming the first use,
// for an id that was used for another method or with another body; those of the store.

#include <optional>
#include <string>
#include <utility>

#include "server/store/event_store.h"

namespace sae::server {

struct RequestKey {
  RequestKey() = default;
  RequestKey(std::string id_in, std::string body_in = "")  // NOLINT: an id alone is one
      : id(std::move(id_in)), body(std::move(body_in)) {}
  RequestKey(const char* id_in) : id(id_in) {}  // NOLINT

  std::string id;    ///< "" = the request is not to be remembered
  std::string body;  ///< fingerprint of what else it says; "" = not compared
};

/// What the request was answered; nullopt when its id is new or empty. `sweep` "" = of any.
[[nodiscard]] absl::StatusOr<std::optional<std::string>> FirstAnswer(EventStore& store,
                                                                     const RequestKey& request,
                                                                     const std::string& method,
                                                                     const std::string& sweep);
/// As FirstAnswer, with the sweep it was about.
[[nodiscard]] absl::StatusOr<std::optional<UsedRequest>> FirstUse(EventStore& store,
                                                                  const RequestKey& request,
                                                                  const std::string& method,
                                                                  const std::string& sweep);
/// Adds it to the transaction of what it does; nothing when its id is empty.
void Remember(const RequestKey& request, const std::string& method, const std::string& sweep,
              const std::string& answer, Transaction& transaction);

}  // namespace sae::server
