#include "server/store/event_store.h"

#include <algorithm>
#include <iterator>

namespace sae::server {
namespace {

template <typename T>
void MoveTo(std::vector<T>& from, std::vector<T>& to) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

}  // namespace

void Transaction::Append(Transaction next) {
  MoveTo(next.events, events);
  MoveTo(next.acknowledged, acknowledged);
  MoveTo(next.requests, requests);
  MoveTo(next.tokens, tokens);
  MoveTo(next.audit, audit);
}

absl::Status TakenOver(const std::string& log, std::int64_t found, std::int64_t own) {
  return absl::AbortedError(absl::StrCat(log, ": another coordinator took over (epoch ", found,
                                         ", this one's is ", own,
                                         "); this one ends, the other serves"));
}

}  // namespace sae::server
