// Operations that are enqueued only, captured in a graph, or on several communicators at once.
#include <thread>

#include "tests/contract/operation_chain.h"
#include "tests/fake_nccl/scenarios.h"

namespace fake_nccl {
namespace {

using absl::StatusCode;
using sae::comm::Communicator;
using sae::comm::CreateNccl;
using sae::comm::contract::Chain;

absl::Status EnqueuedOnly(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  c->SetEnqueueOnly(true);
  Chain chain(*c, *context.runtime, context.options.stream);
  SAE_RETURN_IF_ERROR(chain.Prepare());
  for (int round = 0; round < 20; ++round) {
    SAE_RETURN_IF_ERROR(chain.SetInput(round));
    SAE_RETURN_IF_ERROR(chain.Enqueue());
    SAE_RETURN_IF_ERROR(c->Synchronize());
    SAE_RETURN_IF_ERROR(chain.Expect(round));
  }
  return absl::OkStatus();
}

absl::Status CapturedInAGraph(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  c->SetEnqueueOnly(true);
  Chain chain(*c, *context.runtime, context.options.stream);
  SAE_RETURN_IF_ERROR(chain.Prepare());
  const sae::comm::Traffic::Snapshot before = c->traffic().Now();
  SAE_RETURN_IF_ERROR(chain.ReplayGraph(10));
  // One capture of six calls counts them once; the other nine replays are the caller's to add.
  const sae::comm::Traffic::Snapshot captured = c->traffic().Now().Since(before);
  for (int replay = 1; replay < 10; ++replay) c->traffic().Add(captured);
  const std::int64_t calls = c->traffic().Total().calls;
  return calls == 60 ? absl::OkStatus() : absl::InternalError(absl::StrCat(calls, " calls"));
}

/// The graph's operations of an aborted communicator end without doing anything.
absl::Status GraphAfterAnAbort(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  sae::DeviceRuntime& runtime = *context.runtime;
  c->SetEnqueueOnly(true);
  Chain chain(*c, *context.runtime, context.options.stream);
  SAE_RETURN_IF_ERROR(chain.Prepare());
  SAE_RETURN_IF_ERROR(runtime.BeginCapture(context.options.stream));
  SAE_RETURN_IF_ERROR(chain.Enqueue());
  SAE_ASSIGN_OR_RETURN(void* const graph, runtime.EndCapture(context.options.stream));
  SAE_RETURN_IF_ERROR(context.options.rendezvous->RollCall("captured", absl::Seconds(30)));
  absl::Status status;
  if (c->rank() == 0) {
    std::thread other([&c] { c->Abort("no more steps"); });
    other.join();
    status = c->Synchronize();
  } else {
    SAE_RETURN_IF_ERROR(runtime.LaunchGraph(graph, context.options.stream));
    status = c->Synchronize();
  }
  SAE_RETURN_IF_ERROR(runtime.LaunchGraph(graph, context.options.stream));
  SAE_RETURN_IF_ERROR(runtime.Synchronize(context.options.stream));
  runtime.DestroyGraph(graph);
  return Expect(status, StatusCode::kAborted, "rank 0: no more steps");
}

absl::Status EnqueuedHang(RankContext& context) {
  SAE_ASSIGN_OR_RETURN(const auto c, CreateNccl(context.options));
  c->SetEnqueueOnly(true);
  Chain chain(*c, *context.runtime, context.options.stream);
  SAE_RETURN_IF_ERROR(chain.Prepare());
  SAE_RETURN_IF_ERROR(chain.SetInput(0));
  // A rank may be told to go before it has enqueued all.
  if (absl::Status enqueued = chain.Enqueue(); !enqueued.ok()) return enqueued;
  SAE_RETURN_IF_ERROR(
      Expect(c->Synchronize(), StatusCode::kDeadlineExceeded, "Synchronize: not done after"));
  SAE_RETURN_IF_ERROR(context.runtime->Synchronize(context.options.stream));
  return Expect(c->Check(), StatusCode::kDeadlineExceeded, "not done after");
}

/// Selection, reconstruction and prefetch: each a communicator with a stream of its own, all at
/// work.
absl::Status SeveralCommunicators(RankContext& context) {
  sae::DeviceRuntime& runtime = *context.runtime;
  SAE_ASSIGN_OR_RETURN(auto select, CreateNccl(context.options));
  SAE_ASSIGN_OR_RETURN(auto reconstruct, select->Split(0, select->rank()));
  sae::comm::NcclOptions another = context.options;  // by an id of its own
  another.name = "prefetch";
  SAE_ASSIGN_OR_RETURN(another.stream, runtime.CreateStream());
  SAE_ASSIGN_OR_RETURN(auto prefetch, CreateNccl(another));
  SAE_ASSIGN_OR_RETURN(void* const second, runtime.CreateStream());
  reconstruct->SetStream(second);
  {
    Chain first(*select, runtime, context.options.stream);
    Chain middle(*reconstruct, runtime, second);
    Chain last(*prefetch, runtime, another.stream);
    const std::vector<Chain*> chains{&first, &middle, &last};
    const std::vector<Communicator*> groups{select.get(), reconstruct.get(), prefetch.get()};
    for (Chain* chain : chains) SAE_RETURN_IF_ERROR(chain->Prepare());
    for (Communicator* group : groups) group->SetEnqueueOnly(true);
    for (int round = 0; round < 5; ++round) {
      for (Chain* chain : chains) SAE_RETURN_IF_ERROR(chain->SetInput(round));
      for (Chain* chain : chains) SAE_RETURN_IF_ERROR(chain->Enqueue());
      for (Communicator* group : groups) SAE_RETURN_IF_ERROR(group->Synchronize());
      for (Chain* chain : chains) SAE_RETURN_IF_ERROR(chain->Expect(round));
    }
  }
  prefetch.reset();
  reconstruct.reset();
  runtime.DestroyStream(second);
  runtime.DestroyStream(another.stream);
  return select->Barrier();
}

}  // namespace

std::vector<Scenario> StreamScenarios() {
  const auto hang = [](int rank) {
    return rank == 1 ? std::vector<Fault>{{Kind::kHang, 2}} : std::vector<Fault>{};
  };
  return {{"EnqueuedOnly", nullptr, EnqueuedOnly},
          {"CapturedInAGraph", nullptr, CapturedInAGraph},
          {"GraphAfterAnAbort", nullptr, GraphAfterAnAbort},
          {"EnqueuedHang", hang, EnqueuedHang, absl::Milliseconds(300)},
          {"SeveralCommunicators", nullptr, SeveralCommunicators}};
}

}  // namespace fake_nccl
