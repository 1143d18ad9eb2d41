#include "server/sim/client.h"

#include "absl/strings/str_cat.h"

namespace sae::server::sim {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(4);
constexpr int kTries = 8;
constexpr int kPage = 40;

/// An error that says that nothing was done, and that a repetition would not help.
bool Final(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ||
         absl::IsAlreadyExists(status) || absl::IsFailedPrecondition(status);
}

}  // namespace

struct Clients::Pending {
  std::size_t op = 0;  ///< in the history
  ClientOp asked;
  std::function<absl::Status(Core&, ClientOp&)> run;
  int tries = 0;
  bool done = false;
};

void Clients::Call(ClientOp op, std::function<absl::Status(Core&, ClientOp&)> run) {
  op.start = world_.queue.Now();
  const auto call = std::make_shared<Pending>();
  call->op = world_.history.operations.size();
  call->asked = op;
  call->run = std::move(run);
  world_.history.operations.push_back(std::move(op));
  Send(call);
}

void Clients::Send(const std::shared_ptr<Pending>& call) {
  if (call->done || call->tries++ >= kTries) return;
  world_.network.Up(link_, nullptr, [this, call](const auto& coordinator) {
    coordinator->Do([this, call](Core& core) {
      ClientOp answer = call->asked;
      const absl::Status status = call->run(core, answer);
      world_.network.Down(link_, nullptr, [this, call, answer = std::move(answer), status] {
        Finish(call, answer, status);
      });
    });
  });
  world_.queue.After(kPatience, [this, call] { Send(call); });
}

void Clients::Finish(const std::shared_ptr<Pending>& call, const ClientOp& answered,
                     const absl::Status& status) {
  if (call->done || !(status.ok() || Final(status))) return;  // the time-out repeats it
  call->done = true;
  ClientOp& op = world_.history.operations[call->op];
  op.trials = answered.trials;
  op.end = world_.queue.Now();
  op.outcome = status.ok() ? ClientOp::Outcome::kOk : ClientOp::Outcome::kRefused;
  op.code = status.code();
  if (world_.trace)
    world_.trace(absl::StrCat("client: ", op.request_id, " ", op.sweep, ": ", status.ToString()));
}

void Clients::WatchSweep(const std::string& sweep) {
  world_.history.watches.push_back({sweep, {}});
  Poll(world_.history.watches.size() - 1);
}

void Clients::Poll(std::size_t watch) {
  const std::int64_t cursor = static_cast<std::int64_t>(world_.history.watches[watch].seen.size());
  world_.network.Up(link_, nullptr, [this, watch, cursor](const auto& coordinator) {
    coordinator->Do([this, watch, cursor](Core& core) {
      const auto events = core.Read(world_.history.watches[watch].sweep, cursor, kPage);
      if (!events.ok()) return;
      std::vector<SeenEvent> seen;
      for (const LogEvent& event : *events)
        seen.push_back({event.seq, KindOf(event.body), event.trial});
      world_.network.Down(link_, nullptr, [this, watch, cursor, seen = std::move(seen)] {
        std::vector<SeenEvent>& all = world_.history.watches[watch].seen;
        // An answer to an earlier connection; that one is gone.
        if (static_cast<std::int64_t>(all.size()) != cursor) return;
        all.insert(all.end(), seen.begin(), seen.end());
      });
    });
  });
  world_.queue.After(absl::Seconds(1) + world_.Upto(absl::Seconds(6)),
                     [this, watch] { Poll(watch); });
}

}  // namespace sae::server::sim
