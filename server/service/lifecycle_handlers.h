#pragma once
// Verbs of SweepService and TrialService over what exists, as functions of the core: convert, ask,
// convert. Handle and HandleX on the core's thread, PrepareX on any. A request with an id that was
// used answers as then, even where its subject is gone.

#include "saeloom/v1/sweep_service.pb.h"
#include "server/core/core.h"

namespace sae::server {

[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::UpdateSweepRequest& request,
                                  saeloom::v1::Sweep& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::DeleteSweepRequest& request,
                                  google::protobuf::Empty& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::PauseSweepRequest& request,
                                  saeloom::v1::Sweep& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ResumeSweepRequest& request,
                                  saeloom::v1::Sweep& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::CancelSweepRequest& request,
                                  saeloom::v1::Sweep& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::RetryTrialsRequest& request,
                                  saeloom::v1::RetryTrialsResponse& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::PauseTrialRequest& request,
                                  saeloom::v1::Trial& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::ResumeTrialRequest& request,
                                  saeloom::v1::Trial& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::StopTrialRequest& request,
                                  saeloom::v1::Trial& response);
[[nodiscard]] absl::Status Handle(Core& core, const saeloom::v1::PromoteTrialRequest& request,
                                  saeloom::v1::Trial& response);

/// What AddPoints starts from.
struct Addition {
  config::SweepSpec spec;
  std::size_t trials = 0;
  bool answered = false;  ///< the request was used: there is nothing to prepare
  std::vector<TrialAssignments> points;
  std::size_t most = 0;  ///< of them
};
[[nodiscard]] absl::StatusOr<Addition> LookUpAddition(Core& core,
                                                      const saeloom::v1::AddPointsRequest& request);
[[nodiscard]] absl::Status PreparePoints(const saeloom::v1::AddPointsRequest& request,
                                         std::size_t max_trials, Addition& addition);
[[nodiscard]] absl::Status HandleAddPoints(Core& core, const saeloom::v1::AddPointsRequest& request,
                                           const Addition& addition,
                                           saeloom::v1::AddPointsResponse& response);

/// The sweep that this request made before; "" = none.
[[nodiscard]] absl::StatusOr<std::string> MadeByFork(Core& core,
                                                     const saeloom::v1::ForkSweepRequest& request);
/// `prepared` is not looked at when the request was used.
[[nodiscard]] absl::Status HandleFork(Core& core, const saeloom::v1::ForkSweepRequest& request,
                                      const PreparedSweep& prepared, saeloom::v1::Sweep& response);

/// The part of PreviewSweep that needs no core.
[[nodiscard]] absl::StatusOr<PreparedSweep> PreparePreview(
    const saeloom::v1::PreviewSweepRequest& request, std::size_t max_trials,
    saeloom::v1::SweepPlan& response);
/// Duplicates, and why nothing would start.
[[nodiscard]] absl::Status HandlePreview(Core& core, const PreparedSweep& prepared,
                                         saeloom::v1::SweepPlan& response);

}  // namespace sae::server
