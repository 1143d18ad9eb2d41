#include "server/service/stream_registry.h"

#include <utility>
#include <vector>

namespace sae::server {

StreamRegistry::StreamRegistry(int limit)
    : limit_(limit), shared_(std::make_shared<Ticket::Shared>()) {}

StreamRegistry::Ticket::~Ticket() {
  if (shared_ == nullptr) return;
  std::function<void(const absl::Status&)> end;  // freed without the lock
  MutexLock lock(shared_->mu);
  if (const auto it = shared_->streams.find(id_); it != shared_->streams.end()) {
    end = std::move(it->second.end);
    shared_->streams.erase(it);
  }
  if (const auto it = shared_->of_principal.find(principal_);
      it != shared_->of_principal.end() && --it->second == 0)
    shared_->of_principal.erase(it);
}

absl::StatusOr<std::shared_ptr<StreamRegistry::Ticket>> StreamRegistry::Open(
    const Principal& caller, std::function<void(const absl::Status&)> end) {
  auto ticket = std::make_shared<Ticket>();
  MutexLock lock(shared_->mu);
  int& count = shared_->of_principal[caller.name];
  if (count >= limit_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(caller.name, " has ", count, " streams open, and may have ", limit_,
                     " (--max-streams-per-principal); close some, or watch several trials in one"));
  }
  ++count;
  ticket->shared_ = shared_;
  ticket->principal_ = caller.name;
  ticket->id_ = shared_->next++;
  shared_->streams[ticket->id_] = {caller.token_id, std::move(end)};
  return ticket;
}

void StreamRegistry::EndUnlessGood(
    const std::function<absl::Status(const std::string& token)>& good) {
  std::vector<std::pair<std::function<void(const absl::Status&)>, absl::Status>> ending;
  {
    MutexLock lock(shared_->mu);
    std::map<std::string, absl::Status> of_token;
    for (auto& [id, stream] : shared_->streams) {
      if (stream.token.empty() || stream.end == nullptr) continue;
      const auto [it, added] = of_token.emplace(stream.token, absl::OkStatus());
      if (added) it->second = good(stream.token);
      if (!it->second.ok()) ending.emplace_back(std::exchange(stream.end, nullptr), it->second);
    }
  }
  for (const auto& [end, status] : ending) end(status);
}

std::int64_t StreamRegistry::size() const {
  MutexLock lock(shared_->mu);
  return static_cast<std::int64_t>(shared_->streams.size());
}

}  // namespace sae::server
