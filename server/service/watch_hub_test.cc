// What readers of a sweep's events get: filters, conflation, slow readers, history, ends.
#include "server/service/watch_hub.h"

#include "sae/base/random.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using config::EventKind;
using Seqs = std::vector<std::int64_t>;
using ::testing::HasSubstr;

class FakeSink final : public Sink<SharedBytes> {
 public:
  void Give(std::vector<SharedBytes> batch) override {
    EXPECT_FALSE(batch.empty());
    EXPECT_FALSE(given) << "one batch at a time";
    given = true;
    std::size_t bytes = 0;
    for (const SharedBytes& b : batch) {
      v1::SweepEvent event;
      EXPECT_TRUE(event.ParseFromString(*b));
      bytes += b->size();
      events.push_back(std::move(event));
    }
    largest = std::max(largest, bytes);
    ++batches;
  }
  void End(const absl::Status& status) override {
    if (!end) end = status;
  }
  Seqs SeqsOf(v1::SweepEvent::KindCase kind) const {
    Seqs out;
    for (const auto& e : events) {
      if (e.kind_case() == kind) out.push_back(e.seq());
    }
    return out;
  }
  /// Steps of points, in the order in which they came.
  Seqs Steps() const {
    Seqs out;
    for (const auto& e : events) {
      if (e.has_point()) out.push_back(e.point().step());
    }
    return out;
  }

  bool given = false;
  std::vector<v1::SweepEvent> events;
  std::size_t largest = 0;
  int batches = 0;
  std::optional<absl::Status> end;
};

class WatchHubTest : public CoreTest {
 protected:
  /// Two trials that run, each on a slot of its own.
  void SetUp() override {
    Create(MakeSpec("s", 2));
    Observe();
    Register(Registration("w", 2));
    for (const char* trial : {"0000", "0001"}) Say(trial, EventKind::kStarted);
  }
  void Observe() {
    hub_ = std::make_unique<WatchHub>(WatchHub::Options{absl::Seconds(5), 100});
    core_->AddObserver(hub_.get());
    hub_->Poll(*core_, clock_.SinceBoot());
  }
  std::shared_ptr<FakeSink> Watch(std::int64_t id, const v1::WatchSweepRequest& request) {
    const auto sink = std::make_shared<FakeSink>();
    v1::WatchSweepRequest named = request;
    if (named.name().empty()) named.set_name("s");
    auto filter = ParseWatch(named);
    if (filter.ok()) {
      hub_->Add(*core_, id, *filter, sink);
    } else {
      sink->End(filter.status());
    }
    sinks_[id] = sink;
    return sink;
  }
  std::shared_ptr<FakeSink> WatchFrom(std::int64_t id, std::int64_t after) {
    v1::WatchSweepRequest request;
    request.set_after_seq(after);
    return Watch(id, request);
  }
  void Take(std::int64_t id) {
    if (!std::exchange(sinks_.at(id)->given, false)) return;
    hub_->Hungry(id);
  }
  /// Time passes and everybody but `stuck` reads.
  void Run(absl::Duration time, std::int64_t stuck = 0) {
    for (absl::Duration t; t < time; t += absl::Milliseconds(10)) {
      clock_.Advance(absl::Milliseconds(10));
      core_->Tick();
      hub_->Poll(*core_, clock_.SinceBoot());
      for (auto& [id, sink] : sinks_) {
        if (id != stuck) Take(id);
      }
    }
  }
  void Say(const std::string& trial, EventKind kind, std::int64_t step = 0) {
    const AttemptKey key{"s", trial, 1};
    core_->Report({SenderOf("w"), key, ++lines_[trial], {Line(lines_[trial], kind, step)}},
                  [](const absl::StatusOr<std::int64_t>& a) { EXPECT_TRUE(a.ok()) << a.status(); });
  }
  void Points(const std::string& trial, int n) {
    for (int i = 0; i < n; ++i) Say(trial, EventKind::kMetrics, ++step_);
    ASSERT_TRUE(core_->Flush().ok());
  }

  std::unique_ptr<WatchHub> hub_;
  std::map<std::int64_t, std::shared_ptr<FakeSink>> sinks_;
  std::map<std::string, std::int64_t> lines_;
  std::int64_t step_ = 0;
};

TEST_F(WatchHubTest, AReaderGetsHistoryAndNewsWithoutGaps) {
  Points("0000", 3);
  const auto sink = WatchFrom(1, 0);
  Run(absl::Seconds(1));
  Points("0001", 5);
  Run(absl::Seconds(1));
  ASSERT_EQ(static_cast<std::int64_t>(sink->events.size()), core_->head("s"));
  for (std::size_t i = 0; i < sink->events.size(); ++i)
    EXPECT_EQ(sink->events[i].seq(), static_cast<std::int64_t>(i) + 1);
}

TEST_F(WatchHubTest, FiltersOfTrialsAndKinds) {
  v1::WatchSweepRequest request;
  request.add_trials("0001");
  request.add_kinds(v1::WatchSweepRequest::KIND_POINT);
  const auto points = Watch(1, request);
  request.clear_kinds();
  request.add_kinds(v1::WatchSweepRequest::KIND_LIFECYCLE);
  const auto lifecycle = Watch(2, request);
  request.clear_kinds();
  request.clear_trials();
  request.add_kinds(v1::WatchSweepRequest::KIND_COUNTS);
  const auto counts = Watch(3, request);
  Points("0000", 2);
  Points("0001", 2);
  Run(absl::Seconds(1));
  EXPECT_EQ(points->Steps(), (Seqs{3, 4}));
  EXPECT_EQ(points->events.size(), 2u);
  EXPECT_TRUE(lifecycle->Steps().empty());
  for (const auto& e : lifecycle->events)
    EXPECT_TRUE(e.trial() == "0001" || e.trial().empty()) << e.DebugString();
  EXPECT_GE(lifecycle->SeqsOf(v1::SweepEvent::kTrialChange).size(), 2u) << "allocated, running";
  ASSERT_EQ(counts->events.size(), 1u);
  EXPECT_EQ(counts->events[0].counts().trials().at("RUNNING"), 2);
  Say("0000", EventKind::kFinished);
  ASSERT_TRUE(Beat("w", {Ended("0000", 1, 0, "finished")}).ok());
  Run(absl::Seconds(1));
  ASSERT_EQ(counts->events.size(), 2u);
  EXPECT_EQ(counts->events[1].counts().trials().at("SUCCEEDED"), 1);
  EXPECT_EQ(counts->events[1].seq(), core_->head("s"));
}

TEST_F(WatchHubTest, HistoryOfSomeTrialsIsReadFromTheStore) {
  Points("0000", 700);
  Points("0001", 3);
  Restart();  // nobody has watched yet
  Observe();
  v1::WatchSweepRequest request;
  request.add_trials("0001");
  const auto sink = Watch(1, request);
  Run(absl::Seconds(1));
  EXPECT_EQ(sink->Steps(), (Seqs{701, 702, 703}));
  EXPECT_EQ(sink->events[0].sweep_change().state(), v1::Sweep::STATE_RUNNING) << "its creation";
  request.clear_trials();
  const auto all = Watch(2, request);
  Run(absl::Seconds(1));
  EXPECT_EQ(static_cast<std::int64_t>(all->events.size()), core_->head("s"));
  EXPECT_LE(all->largest, WatchHub::kBatchBytes + 100);
}

TEST_F(WatchHubTest, ConflatedReadersGetTheNewestOfASeriesInTheirTime) {
  v1::WatchSweepRequest request;
  request.set_conflate_ms(500);
  request.set_after_seq(core_->head("s"));
  const auto sink = Watch(1, request);
  Run(absl::Milliseconds(600));
  for (int i = 0; i < 100; ++i) {
    Points("0000", 1);
    Run(absl::Milliseconds(10));
  }
  Say("0000", EventKind::kCheckpoint, step_);
  Run(absl::Seconds(1));
  const Seqs steps = sink->Steps();
  EXPECT_GE(steps.size(), 2u);
  EXPECT_LE(steps.size(), 4u) << "one in 500 ms";
  EXPECT_EQ(steps.back(), 100);
  EXPECT_EQ(sink->SeqsOf(v1::SweepEvent::kNotice).size(), 1u) << "the checkpoint is told";
  EXPECT_EQ(hub_->stats().resyncs, 0);
}

TEST_F(WatchHubTest, ASlowReaderIsToldAndGetsTheNewest) {
  const auto sink = WatchFrom(1, core_->head("s"));
  Points("0000", 1);
  Run(absl::Milliseconds(200), 1);
  ASSERT_EQ(sink->Steps(), Seqs{1});
  Points("0000", 300);  // not taken: 100 are too many
  Say("0001", EventKind::kCheckpoint, 7);
  Points("0001", 200);
  Run(absl::Seconds(1), 1);
  EXPECT_EQ(sink->batches, 1);
  sink->events.clear();
  Run(absl::Seconds(1));
  ASSERT_TRUE(sink->events[0].has_resync());
  EXPECT_EQ(sink->events[0].resync().latest_seq(), core_->head("s"));
  EXPECT_EQ(sink->events[0].resync().dropped(), 498);
  EXPECT_EQ(sink->Steps(), (Seqs{301, 501}));
  EXPECT_EQ(sink->SeqsOf(v1::SweepEvent::kNotice).size(), 1u);
  EXPECT_EQ(hub_->stats().resyncs, 1);
  Points("0000", 3);
  Run(absl::Seconds(1));
  EXPECT_EQ(sink->Steps(), (Seqs{301, 501, 502, 503, 504})) << "and every one from then on";
}

TEST_F(WatchHubTest, HistoryIsNotCutHoweverLong) {
  Points("0000", 500);
  const auto sink = WatchFrom(1, 0);
  Run(absl::Seconds(1));
  EXPECT_EQ(sink->Steps().size(), 500u);
  EXPECT_EQ(hub_->stats().resyncs, 0);
}

TEST_F(WatchHubTest, TokensResumeWhereABatchEnded) {
  v1::WatchSweepRequest request;
  request.add_trials("0000");
  const auto first = Watch(1, request);
  Points("0000", 2);
  Points("0001", 2);
  Run(absl::Seconds(1));
  const std::string token = first->events.back().resume_token();
  EXPECT_EQ(ParseResumeToken(token, "s").value(), core_->head("s")) << "past what was filtered out";
  hub_->Remove(1);
  sinks_.clear();
  Points("0000", 1);
  request.set_resume_token(token);
  const auto second = Watch(2, request);
  Run(absl::Seconds(1));
  EXPECT_EQ(second->Steps(), Seqs{5});
  request.set_resume_token(ResumeToken("other", 3));
  EXPECT_TRUE(absl::IsInvalidArgument(*Watch(3, request)->end));
  request.set_resume_token("nonsense");
  EXPECT_THAT(Message(*Watch(4, request)->end), HasSubstr("resume_token"));
}

TEST_F(WatchHubTest, IdleStreamsCostHeartbeatsOnly) {
  const auto sink = WatchFrom(1, core_->head("s"));
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(Beat("w").ok());
    Run(absl::Seconds(3));
  }
  EXPECT_EQ(sink->SeqsOf(v1::SweepEvent::kHeartbeat).size(), 4u);
  EXPECT_EQ(sink->events.size(), 4u);
  EXPECT_EQ(sink->events[0].seq(), core_->head("s"));
  EXPECT_FALSE(sink->events[0].resume_token().empty());
  const absl::Duration next = hub_->Poll(*core_, clock_.SinceBoot());
  EXPECT_GT(next - clock_.SinceBoot(), absl::Seconds(3)) << "nothing to do until the next one";
}

TEST_F(WatchHubTest, WhatCannotBeReadIsRefused) {
  v1::WatchSweepRequest request;
  const auto refused = [&](const char* field, absl::StatusCode code) {
    const auto sink = Watch(9, request);
    request = {};
    ASSERT_TRUE(sink->end.has_value());
    EXPECT_EQ(sink->end->code(), code) << *sink->end;
    EXPECT_THAT(Message(*sink->end), HasSubstr(field));
  };
  request.set_after_seq(-1);
  refused("after_seq", absl::StatusCode::kInvalidArgument);
  request.set_after_seq(99999);
  refused("beyond the newest event", absl::StatusCode::kOutOfRange);
  request.add_trials("x");
  refused("trials", absl::StatusCode::kInvalidArgument);
  request.add_trials("0007");
  refused("no trial 0007", absl::StatusCode::kNotFound);
  request.set_conflate_ms(-1);
  refused("conflate_ms", absl::StatusCode::kInvalidArgument);
  request.set_name("none");
  refused("no sweep", absl::StatusCode::kNotFound);
}

TEST_F(WatchHubTest, TrimmedHistoryIsOutOfRangeButItsLifecycleIsNot) {
  options_.keep_telemetry = absl::Minutes(1);
  Points("0000", 5);
  ASSERT_TRUE(core_->CancelSweep("s").ok());
  for (const char* trial : {"0000", "0001"}) ASSERT_TRUE(Beat("w", {Ended(trial, 1, 1, "")}).ok());
  Restart();
  Observe();
  clock_.Advance(absl::Minutes(2));
  for (int i = 0; i < 3; ++i) core_->Tick();
  ASSERT_EQ(core_->oldest_kept("s"), core_->head("s") + 1);
  const auto sink = WatchFrom(1, 3);
  ASSERT_TRUE(sink->end.has_value());
  EXPECT_TRUE(absl::IsOutOfRange(*sink->end));
  EXPECT_THAT(Message(*sink->end), HasSubstr(absl::StrCat("begin at ", core_->head("s"))));
  v1::WatchSweepRequest request;
  request.add_kinds(v1::WatchSweepRequest::KIND_LIFECYCLE);
  const auto lifecycle = Watch(2, request);
  Run(absl::Seconds(1));
  EXPECT_EQ(lifecycle->events.front().seq(), 1);
  EXPECT_TRUE(lifecycle->end.has_value() && lifecycle->end->ok()) << "the sweep has ended";
}

TEST_F(WatchHubTest, AfterAReloadNothingIsMissing) {
  const auto sink = WatchFrom(1, 0);
  Run(absl::Seconds(1));
  disk_->failures = {absl::UnavailableError("disk i/o error")};
  disk_->fail_after = true;
  EXPECT_FALSE(core_->CancelSweep("s").ok());
  Run(absl::Seconds(1));
  ASSERT_EQ(static_cast<std::int64_t>(sink->events.size()), core_->head("s"));
  for (std::size_t i = 0; i < sink->events.size(); ++i)
    EXPECT_EQ(sink->events[i].seq(), static_cast<std::int64_t>(i) + 1);
}

/// Readers with random filters that read at random: none misses a lifecycle event that it wants or
/// gets one twice, and each has the newest point of every series in the end.
TEST_F(WatchHubTest, RandomReaders) {
  Random random(3);
  std::map<std::int64_t, v1::WatchSweepRequest> requests;
  for (std::int64_t id = 1; id <= 40; ++id) {
    v1::WatchSweepRequest request;
    if (random.Below(2) == 0) request.add_trials(random.Below(2) == 0 ? "0000" : "0001");
    if (random.Below(2) == 0) request.set_conflate_ms(static_cast<int>(100 * random.Below(5)));
    if (random.Below(4) == 0) request.set_after_seq(core_->head("s"));
    requests[id] = request;
    Watch(id, request);
  }
  for (int i = 0; i < 150; ++i) {
    for (const char* trial : {"0000", "0001"}) {
      if (random.Below(3) == 0) Points(trial, static_cast<int>(random.Below(40)));
      if (random.Below(10) == 0) Say(trial, EventKind::kCheckpoint, step_);
      if (random.Below(6) == 0) Say(trial, EventKind::kEvaluation, ++step_);
    }
    clock_.Advance(absl::Milliseconds(20));
    core_->Tick();
    hub_->Poll(*core_, clock_.SinceBoot());
    for (std::int64_t id = 1; id <= 40; ++id) {
      if (random.Below(static_cast<std::uint64_t>(id)) < 3) Take(id);
    }
  }
  Run(absl::Seconds(3));
  EXPECT_GT(hub_->stats().resyncs, 3);
  EXPECT_LT(hub_->stats().bytes / hub_->stats().streams, 2048);
  const auto log = core_->Read("s", 0, 1'000'000).value();
  for (const auto& [id, request] : requests) {
    SCOPED_TRACE(::testing::Message() << id << ": " << request.ShortDebugString());
    const auto wants = [&, &request = request](const LogEvent& e) {
      return e.seq > request.after_seq() &&
             (request.trials().empty() || e.trial.empty() || e.trial == request.trials(0));
    };
    Seqs expected, got;
    std::map<std::string, std::int64_t> newest, seen;
    for (const LogEvent& e : log) {
      if (!wants(e)) continue;
      if (const auto* p = std::get_if<Point>(&e.body)) {
        newest[absl::StrCat(e.trial, p->evaluation)] = p->step;
      } else {
        expected.push_back(e.seq);
      }
    }
    std::int64_t last = 0;
    for (const auto& e : sinks_[id]->events) {
      if (e.has_heartbeat() || e.has_resync()) continue;
      EXPECT_GT(e.seq(), last) << "in order, none twice";
      last = e.seq();
      if (e.has_point()) {
        seen[absl::StrCat(e.trial(), e.point().evaluation())] = e.point().step();
      } else {
        got.push_back(e.seq());
      }
    }
    EXPECT_EQ(got, expected);
    EXPECT_EQ(seen, newest);
  }
}

TEST_F(WatchHubTest, EventsThatWereLostAreForgotten) {
  const auto sink = WatchFrom(1, 0);
  Run(absl::Seconds(1));
  const std::int64_t head = core_->head("s");
  LogEvent lost{"s", head + 1, clock_.Now(), "0000", Point{1, 777, 777, false, {}}};
  hub_->OnEvent(lost);
  hub_->OnHead("s", head);  // the log was read again, without it
  Points("0000", 2);
  Run(absl::Seconds(1));
  EXPECT_EQ(sink->Steps(), (Seqs{1, 2}));
  ASSERT_EQ(static_cast<std::int64_t>(sink->events.size()), core_->head("s"));
  EXPECT_EQ(sink->events.back().seq(), head + 2);
}

}  // namespace
}  // namespace sae::server::testing
