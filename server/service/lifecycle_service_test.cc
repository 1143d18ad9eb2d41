// The lifecycle RPCs over real gRPC.
#include <set>

#include "server/testing/rpc_fixture.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using config::EventKind;
using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(RpcTest, ATrialPausesSavesAndResumes) {
  Create(MakeSpec("s", 1));
  RpcWorker worker(channel_, "w", 1);
  const v1::StartAttempt start = worker.WaitForCommand().commands(0).start();
  ASSERT_EQ(worker.Report("s", "0000", 1, 1,
                          {Line(1, EventKind::kStarted), Line(2, EventKind::kCheckpoint, 4)}),
            2);
  v1::Trial trial = Good(&Trials::PauseTrial, Named<v1::PauseTrialRequest>("s/0000", "id"));
  EXPECT_EQ(trial.state(), v1::Trial::STATE_CHECKPOINTING);
  EXPECT_EQ(trial.stopping(), "pause");
  const v1::StopAttempt stop = worker.WaitForCommand().commands(0).stop();
  EXPECT_EQ(stop.mode(), v1::StopAttempt::MODE_CHECKPOINT);
  EXPECT_EQ(stop.grace_seconds(), 120);
  worker.End(start, 75, "yielded");
  trial = Good(&Trials::PauseTrial, Named<v1::PauseTrialRequest>("s/0000", "id"));
  EXPECT_EQ(trial.state(), v1::Trial::STATE_PAUSED) << "answered, not done again";
  EXPECT_EQ(trial.stopping(), "");
  EXPECT_EQ(Bad(&Trials::StopTrial, Named<v1::StopTrialRequest>("s/0000", "id")).error_code(),
            StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Bad(&Trials::PromoteTrial, Named<v1::PromoteTrialRequest>("s/0000")).error_code(),
            StatusCode::FAILED_PRECONDITION);
  Good(&Trials::ResumeTrial, Named<v1::ResumeTrialRequest>("s/0000"));
  EXPECT_TRUE(worker.WaitForCommand().commands(0).has_start());
  v1::ListAttemptsRequest list;
  list.set_parent("s/0000");
  const auto attempts = Good(&Trials::ListAttempts, list);
  ASSERT_EQ(attempts.attempts_size(), 2);
  EXPECT_EQ(attempts.attempts(0).outcome(), "paused");
}

TEST_F(RpcTest, ASweepPausesIsChangedCancelledAndDeleted) {
  const v1::Sweep created = Create(MakeSpec("s", 2));
  v1::Sweep sweep = Good(&Sweeps::PauseSweep, Named<v1::PauseSweepRequest>("s"));
  EXPECT_EQ(sweep.state(), v1::Sweep::STATE_PAUSED);
  EXPECT_EQ(GetTrial("s/0000").reason(), "its sweep is paused");

  v1::UpdateSweepRequest update;
  update.mutable_sweep()->set_name("projects/default/sweeps/s");
  update.mutable_sweep()->set_etag(created.etag());
  update.mutable_sweep()->mutable_spec()->set_priority(70);
  (*update.mutable_sweep()->mutable_spec()->mutable_labels())["model"] = "gpt2";
  update.mutable_update_mask()->add_paths("spec.priority");
  sweep = Good(&Sweeps::UpdateSweep, update);
  EXPECT_EQ(sweep.spec().priority(), 70);
  EXPECT_TRUE(sweep.spec().labels().empty()) << "not in the mask";
  EXPECT_NE(sweep.etag(), created.etag());
  EXPECT_EQ(Bad(&Sweeps::UpdateSweep, update).error_code(), StatusCode::ABORTED);

  EXPECT_EQ(Bad(&Sweeps::DeleteSweep, Named<v1::DeleteSweepRequest>("s")).error_code(),
            StatusCode::FAILED_PRECONDITION);
  auto cancel = Named<v1::CancelSweepRequest>("s");
  cancel.set_mode(v1::CancelSweepRequest::MODE_GRACEFUL);
  EXPECT_EQ(Good(&Sweeps::CancelSweep, cancel).state(), v1::Sweep::STATE_CANCELLED);
  Good(&Sweeps::DeleteSweep, Named<v1::DeleteSweepRequest>("s", "id"));
  Good(&Sweeps::DeleteSweep, Named<v1::DeleteSweepRequest>("s", "id"));
  EXPECT_EQ(Bad(&Sweeps::DeleteSweep, Named<v1::DeleteSweepRequest>("s")).error_code(),
            StatusCode::NOT_FOUND);
}

TEST_F(RpcTest, ErrorsNameEveryFieldInTheirDetails) {
  Create(MakeSpec("s", 1));
  v1::UpdateSweepRequest update;
  update.mutable_sweep()->set_name("s");
  update.mutable_sweep()->mutable_spec()->set_priority(101);
  update.mutable_sweep()->mutable_spec()->set_max_concurrent(-1);
  for (const char* path : {"spec.priority", "spec.max_concurrent", "spec.store"})
    update.mutable_update_mask()->add_paths(path);
  const grpc::Status status = Bad(&Sweeps::UpdateSweep, update);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  const ErrorDetails details = ParseErrorDetails(status.error_details());
  EXPECT_EQ(details.reason, "INVALID_ARGUMENT");
  ASSERT_EQ(details.violations.size(), 3u) << status.error_message();
  std::set<std::string> fields;
  for (const FieldViolation& v : details.violations) fields.insert(v.field);
  EXPECT_THAT(fields, ElementsAre("spec.maxConcurrent", "spec.priority", "update_mask"));
  const auto reason = [](const grpc::Status& bad) {
    return ParseErrorDetails(bad.error_details()).reason;
  };
  update.mutable_sweep()->mutable_spec()->set_priority(1);
  update.mutable_update_mask()->clear_paths();
  update.mutable_update_mask()->add_paths("spec.priority");
  update.mutable_sweep()->set_etag("old");
  EXPECT_EQ(reason(Bad(&Sweeps::UpdateSweep, update)), "ETAG_IS_OLD");
  EXPECT_EQ(reason(Bad(&Sweeps::DeleteSweep, Named<v1::DeleteSweepRequest>("s"))),
            "SWEEP_HAS_NOT_ENDED");
  EXPECT_EQ(reason(Bad(&Trials::PromoteTrial, Named<v1::PromoteTrialRequest>("s/0000"))),
            "TRIAL_STATE");
  Good(&Sweeps::CancelSweep, Named<v1::CancelSweepRequest>("s", "id"));
  EXPECT_EQ(reason(Bad(&Sweeps::PauseSweep, Named<v1::PauseSweepRequest>("s"))), "SWEEP_HAS_ENDED");
  EXPECT_EQ(reason(Bad(&Sweeps::PauseSweep, Named<v1::PauseSweepRequest>("s", "id"))),
            "REQUEST_ID_WAS_USED");
  const grpc::Status missing = Bad(&Sweeps::PauseSweep, Named<v1::PauseSweepRequest>("none"));
  EXPECT_EQ(ParseErrorDetails(missing.error_details()).reason, "NOT_FOUND");
}

TEST_F(RpcTest, RetryTakesAFilterOrWhatIsMissing) {
  Create(MakeSpec("s", 3));
  RpcWorker worker(channel_, "w", 1);
  worker.End(worker.WaitForCommand().commands(0).start(), 78, "");
  worker.End(worker.WaitForCommand().commands(0).start(), 0, "finished");
  const v1::StartAttempt third = worker.WaitForCommand().commands(0).start();
  Good(&Sweeps::CancelSweep, Named<v1::CancelSweepRequest>("s"));
  worker.End(third, 137, "");
  v1::RetryTrialsRequest retry;
  retry.set_parent("s");
  retry.set_filter("failure_class=OOM_GPU");
  EXPECT_EQ(Good(&Sweeps::RetryTrials, retry).trials_size(), 0) << "nothing matches: nothing is";
  retry.set_filter("failure_class=OOM");
  EXPECT_EQ(Bad(&Sweeps::RetryTrials, retry).error_code(), StatusCode::INVALID_ARGUMENT);
  retry.set_filter("state=CANCELLED");
  retry.set_request_id("id");
  EXPECT_THAT(Good(&Sweeps::RetryTrials, retry).trials(), ElementsAre("0002"));
  EXPECT_THAT(Good(&Sweeps::RetryTrials, retry).trials(), ElementsAre("0002")) << "as it was";
  retry.clear_filter();
  retry.set_missing(true);
  EXPECT_EQ(Bad(&Sweeps::RetryTrials, retry).error_code(), StatusCode::INVALID_ARGUMENT)
      << "another body";
  retry.set_request_id("id2");
  EXPECT_THAT(Good(&Sweeps::RetryTrials, retry).trials(), ElementsAre("0000"));
}

TEST_F(RpcTest, PointsAreAdded) {
  Create(MakeSpec("s", 2));
  v1::AddPointsRequest add;
  add.set_parent("s");
  auto* k = add.add_parameters()->add_parameters();
  k->set_path("sae.k");
  for (const int value : {4, 20, 21}) k->mutable_values()->add_values()->set_number_value(value);
  v1::AddPointsResponse added = Good(&Sweeps::AddPoints, add);
  EXPECT_THAT(added.trials(), ElementsAre("0002", "0003"));
  EXPECT_EQ(added.skipped(), 1);
  EXPECT_EQ(GetTrial("s/0003").config().sae().k(), 21);
  k->set_path("sae.kk");
  const grpc::Status bad = Bad(&Sweeps::AddPoints, add);
  EXPECT_EQ(bad.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(bad.error_message(), HasSubstr("parameters.sae.kk"));
  add.clear_parameters();
  add.set_draws(2);
  EXPECT_THAT(Bad(&Sweeps::AddPoints, add).error_message(), HasSubstr("draws nothing"));

  auto spec = MakeSpec("r", 1);
  spec.search = "random";
  spec.max_trials = 2;
  spec.parameters[0][0] = {"train.lr", config::Parameter::Kind::kLogUniform, {}, 1e-5, 1e-2, 0};
  Create(spec);
  add.set_parent("r");
  EXPECT_THAT(Good(&Sweeps::AddPoints, add).trials(), ElementsAre("0002", "0003"));
  spec.max_trials = 4;
  spec.name = "r4";
  Create(spec);
  EXPECT_EQ(GetTrial("r/0003").config().train().lr(), GetTrial("r4/0003").config().train().lr())
      << "the draws that a larger sweep would have had";
}

TEST_F(RpcTest, DrawsThatTheSweepHasAreMadeUpFor) {
  auto spec = MakeSpec("r", 5);  // five values of k
  spec.search = "random";
  spec.max_trials = 3;
  Create(spec);
  v1::AddPointsRequest add;
  add.set_parent("r");
  add.set_draws(2);
  add.set_request_id("id");
  const v1::AddPointsResponse added = Good(&Sweeps::AddPoints, add);
  ASSERT_GE(added.trials_size(), 1);
  std::set<double> ks, fresh;
  for (int i = 0; i < 3; ++i)
    ks.insert(GetTrial("r/" + TrialNameOf(i)).parameters().at("sae.k").number_value());
  for (const std::string& name : added.trials()) {
    const double k = GetTrial("r/" + name).parameters().at("sae.k").number_value();
    EXPECT_FALSE(ks.contains(k)) << k;
    EXPECT_TRUE(fresh.insert(k).second);
  }
  // 64 draws and more leave out none of five values.
  EXPECT_EQ(added.trials_size(), std::min(2, 5 - static_cast<int>(ks.size())));
  EXPECT_EQ(Good(&Sweeps::AddPoints, add).skipped(), added.skipped());
}

TEST_F(RpcTest, ListsFilterOrderAndPage) {
  for (const char* name : {"alpha", "beta", "gamma"}) {
    auto spec = MakeSpec(name, 1);
    Create(spec);
  }
  v1::UpdateSweepRequest update;
  update.mutable_sweep()->set_name("beta");
  update.mutable_sweep()->mutable_spec()->set_priority(9);
  (*update.mutable_sweep()->mutable_spec()->mutable_labels())["team"] = "x";
  update.mutable_update_mask()->add_paths("spec.priority");
  update.mutable_update_mask()->add_paths("spec.labels");
  Good(&Sweeps::UpdateSweep, update);
  const auto names = [&](const v1::ListSweepsRequest& request) {
    std::vector<std::string> out;
    const v1::ListSweepsResponse response = Good(&Sweeps::ListSweeps, request);
    for (const auto& s : response.sweeps()) out.push_back(BareName(s.name()));
    return out;
  };
  v1::ListSweepsRequest list;
  EXPECT_THAT(names(list), ElementsAre("gamma", "beta", "alpha")) << "newest first";
  list.set_order_by("name");
  EXPECT_THAT(names(list), ElementsAre("alpha", "beta", "gamma"));
  list.set_order_by("priority desc");
  EXPECT_EQ(names(list)[0], "beta");
  list.set_filter("labels.team=x AND state=RUNNING");
  EXPECT_THAT(names(list), ElementsAre("beta"));
  list.set_filter("name:a");
  list.set_order_by("name desc");
  list.set_page_size(2);
  const v1::ListSweepsResponse first = Good(&Sweeps::ListSweeps, list);
  ASSERT_EQ(first.sweeps_size(), 2);
  list.set_page_token(first.next_page_token());
  EXPECT_THAT(names(list), ElementsAre("alpha"));
  list.set_order_by("name");
  EXPECT_EQ(Bad(&Sweeps::ListSweeps, list).error_code(), StatusCode::INVALID_ARGUMENT)
      << "the token is of another order";
  list.clear_page_token();
  list.set_filter("state=WALKING");
  EXPECT_EQ(Bad(&Sweeps::ListSweeps, list).error_code(), StatusCode::INVALID_ARGUMENT);
}

TEST_F(RpcTest, TrialsAreListedByMetricAndTheFrontIsFound) {
  Create(MakeSpec("s", 4));
  RpcWorker worker(channel_, "w", 1);
  const double fvu[] = {0.5, 0.2, std::nan(""), 0.9}, l0[] = {3, 8, 1, 9};
  for (int i = 0; i < 4; ++i) {
    const v1::StartAttempt start = worker.WaitForCommand().commands(0).start();
    config::Event event;
    event.seq = 2;
    event.time = 1.7e9;
    event.kind = EventKind::kEvaluation;
    event.step = 1;
    event.tokens = 1000;
    event.values = {{"heldout.fvu", fvu[i]}, {"heldout.l0", l0[i]}};
    ASSERT_EQ(worker.Report("s", start.trial(), 1, 1,
                            {Line(1, EventKind::kStarted), config::ToJsonLine(event)}),
              2);
    worker.End(start, 0, "finished");
  }
  v1::ListTrialsRequest list;
  list.set_parent("s");
  list.set_order_by("objective");
  list.set_page_size(3);
  std::vector<std::string> names;
  do {
    const v1::ListTrialsResponse page = Good(&Trials::ListTrials, list);
    for (const auto& t : page.trials()) names.push_back(BareName(t.name()));
    list.set_page_token(page.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_THAT(names, ElementsAre("0001", "0000", "0003", "0002")) << "non-finite last";
  list.clear_order_by();
  list.set_filter("parameters.sae.k=6");
  const v1::ListTrialsResponse one = Good(&Trials::ListTrials, list);
  ASSERT_EQ(one.trials_size(), 1);
  EXPECT_EQ(BareName(one.trials(0).name()), "0002");
  EXPECT_EQ(one.next_page_token(), "");

  v1::GetParetoRequest pareto;
  pareto.set_parent("s");
  pareto.add_metrics("heldout.fvu");
  pareto.add_metrics("heldout.l0");
  const auto front = [&] {
    const v1::GetParetoResponse response = Good(&Trials::GetPareto, pareto);
    std::vector<std::string> out;
    for (const auto& t : response.trials()) out.push_back(BareName(t.name()));
    return out;
  };
  names = front();
  EXPECT_THAT(names, ElementsAre("0001", "0000"));
  pareto.set_metrics(1, "-heldout.l0");
  names = front();
  EXPECT_THAT(names, ElementsAre("0001", "0003")) << "more is better";
  pareto.set_metrics(1, "heldout.l1");
  EXPECT_THAT(Bad(&Trials::GetPareto, pareto).error_message(), HasSubstr("did you mean"));
}

TEST_F(RpcTest, AForkGoesOnFromACheckpoint) {
  Create(MakeSpec("s", 1));
  v1::ForkSweepRequest fork;
  fork.set_source("s/0000");
  fork.set_name("f");
  EXPECT_EQ(Bad(&Sweeps::ForkSweep, fork).error_code(), StatusCode::FAILED_PRECONDITION)
      << "no checkpoint yet";
  RpcWorker worker(channel_, "w", 1);
  const v1::StartAttempt start = worker.WaitForCommand().commands(0).start();
  ASSERT_EQ(worker.Report("s", "0000", 1, 1,
                          {Line(1, EventKind::kStarted), Line(2, EventKind::kCheckpoint, 100)}),
            2);
  worker.End(start, 0, "finished");
  const grpc::Status ended = Bad(&Sweeps::ForkSweep, fork);
  EXPECT_THAT(ended.error_message(), HasSubstr("trial.train.tokens: ")) << "100 steps are all";
  fork.set_tokens(2e5);
  fork.set_source("projects/default/sweeps/s/trials/0000/checkpoints/step-7");
  EXPECT_EQ(Bad(&Sweeps::ForkSweep, fork).error_code(), StatusCode::NOT_FOUND);
  fork.set_source("projects/default/sweeps/s/trials/0000/checkpoints/step-100");
  fork.set_request_id("id");
  const v1::Sweep forked = Good(&Sweeps::ForkSweep, fork);
  EXPECT_EQ(forked.forked_from(), fork.source());
  EXPECT_EQ(forked.spec().trial().train().tokens(), 2e5);
  EXPECT_EQ(Good(&Sweeps::ForkSweep, fork).name(), forked.name()) << "the same request";
  const v1::StartAttempt begun = worker.WaitForCommand().commands(0).start();
  EXPECT_EQ(begun.sweep(), "f");
  EXPECT_EQ(begun.from_checkpoint(), "/runs/s/0000/checkpoints/step-100");
  EXPECT_EQ(begun.config().sae().k(), 4) << "of the source's trial";

  auto spec = MakeSpec("g", 1);
  spec.trial.sae.latents = 2048;
  spec.trial.train.moments = "bf16";
  spec.trial.train.tokens = 3e5;
  spec.store_hash = "xxh3:fedcba9876543210";
  v1::ForkSweepRequest other;
  other.set_source("s/0000");
  *other.mutable_spec() = sae::ToProto(spec);
  const grpc::Status refused = Bad(&Sweeps::ForkSweep, other);
  EXPECT_EQ(refused.error_code(), StatusCode::INVALID_ARGUMENT);
  std::vector<std::string> fields;
  for (const FieldViolation& v : ParseErrorDetails(refused.error_details()).violations)
    fields.push_back(v.field);
  EXPECT_THAT(fields, ElementsAre("store", "trial.sae.latents", "trial.train.moments"));
}

TEST_F(RpcTest, APreviewSaysWhatWouldBe) {
  Create(MakeSpec("s", 2));
  v1::PreviewSweepRequest preview;
  *preview.mutable_spec() = sae::ToProto(MakeSpec("t", 3, 2));
  preview.set_points(2);
  v1::SweepPlan plan = Good(&Sweeps::PreviewSweep, preview);
  EXPECT_EQ(plan.trials(), 3);
  EXPECT_THAT(plan.points(), ElementsAre("sae.k=4", "sae.k=5"));
  EXPECT_EQ(plan.slots(), 2);
  EXPECT_EQ(plan.tokens(), 3e5);
  EXPECT_EQ(plan.wait(), "no worker is registered");
  EXPECT_EQ(plan.duplicates_size(), 0) << "of other ranks";
  RpcWorker worker(channel_, "w", 1);
  EXPECT_THAT(Good(&Sweeps::PreviewSweep, preview).wait(), HasSubstr("the largest worker has 1"));
  *preview.mutable_spec() = sae::ToProto(MakeSpec("t", 1));
  v1::CordonWorkerRequest cordon;
  cordon.set_id("w");
  cordon.set_reason("a fan is loud");
  Good(&saeloom::v1::FleetService::Stub::CordonWorker, cordon);
  EXPECT_EQ(Good(&Sweeps::PreviewSweep, preview).wait(),
            "all workers are cordoned: w (a fan is loud)");
  plan = Good(&Sweeps::PreviewSweep, preview);
  EXPECT_THAT(plan.duplicates(), ElementsAre("projects/default/sweeps/s/trials/0000"));
  v1::GetSweepRequest get;
  get.set_name("t");
  EXPECT_EQ(Bad(&Sweeps::GetSweep, get).error_code(), StatusCode::NOT_FOUND) << "nothing was made";
}

}  // namespace
}  // namespace sae::server::testing
