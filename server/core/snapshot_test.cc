// A state restored from a snapshot and the events after it equals one replayed from the first
// event: at every cut of random histories, and with events coming between the slices.
#include "server/core/snapshot.h"

#include "sae/base/random.h"
#include "server/core/snapshotter.h"
#include "server/store/sqlite_store.h"
#include "server/testing/core_fixture.h"
#include "server/testing/sim_worker.h"

namespace sae::server::testing {
namespace {

/// Lifecycle events of a sweep or two that run with crashes, cancelled in the end or not.
std::vector<LogEvent> History(std::uint64_t seed) {
  FakeClock clock;
  Random random(seed);
  const auto disk = std::make_shared<MemoryStore::Disk>();
  MemoryStore store(disk);
  CoreOptions options;
  options.snapshot_events = 0;
  const auto core = Core::Start(options, clock, store).value();
  SimWorld world{clock, random, options.lease};
  world.core = core.get();
  const auto shared = std::make_shared<SimDisk>();
  shared->runs_id = "shared";
  std::vector<SimWorker> workers;
  workers.emplace_back(world, "a", 2, shared);
  workers.emplace_back(world, "b", 2, shared);
  for (const char* name : {"s", "t"})
    EXPECT_TRUE(core->CreateSweep(PrepareSweep(MakeSpec(name, 4), 100).value(), "").ok());
  for (int step = 0; step < 240; ++step) {
    clock.Advance(absl::Milliseconds(500));
    world.loss = step % 50 < 10 ? 0.3 : 0;
    for (SimWorker& worker : workers) {
      if (worker.up() && world.Chance(0.02)) worker.Crash();
      if (!worker.up() && world.Chance(0.1)) worker.Restart();
      worker.Tick();
      core->Tick();
    }
    if (step == 150 && seed % 2 == 0) core->CancelSweep("t").IgnoreError();
  }
  std::vector<LogEvent> events;
  for (const LogEvent& event : disk->log) {
    if (!event.telemetry()) events.push_back(event);
  }
  return events;
}

State Restored(const State& state) {
  StateSnapshot::Index index, read;
  for (const std::string& name : state.sweep_order())
    index[name] = {7, static_cast<std::int64_t>(state.sweep(name)->trials.size())};
  State out;
  EXPECT_TRUE(StateSnapshot::DecodeState(StateSnapshot::EncodeState(state, index), out, read).ok());
  for (const auto& [name, parts] : read) {
    for (int part = 0; part < StateSnapshot::PartsOf(parts.trials); ++part) {
      const std::string bytes = StateSnapshot::EncodePart(*state.sweep(name), part);
      const absl::Status status = StateSnapshot::DecodePart(bytes, name, parts, part, out);
      EXPECT_TRUE(status.ok()) << status;
    }
  }
  return out;
}

class SnapshotTest : public ::testing::TestWithParam<int> {};

TEST_P(SnapshotTest, SnapshotAndTailEqualTheWholeReplayAtEveryCut) {
  const std::vector<LogEvent> events = History(static_cast<std::uint64_t>(GetParam()));
  ASSERT_GT(events.size(), 60u);
  State whole;
  for (const LogEvent& event : events) ASSERT_TRUE(whole.Apply(event).ok());
  State prefix;
  for (std::size_t cut = 0; cut < events.size(); ++cut) {
    ASSERT_TRUE(prefix.Apply(events[cut]).ok());
    State state = Restored(prefix);
    ASSERT_EQ(state.DebugString(), prefix.DebugString()) << "cut " << cut;
    if (cut % 7 != 0) continue;
    for (std::size_t i = cut + 1; i < events.size(); ++i) ASSERT_TRUE(state.Apply(events[i]).ok());
    ASSERT_EQ(state.DebugString(), whole.DebugString()) << "cut " << cut;
  }
}

TEST_P(SnapshotTest, EventsMayComeBetweenTheSlices) {
  const std::vector<LogEvent> events = History(static_cast<std::uint64_t>(GetParam()));
  const auto disk = std::make_shared<MemoryStore::Disk>();
  MemoryStore store(disk);
  State state;
  Snapshotter snapshotter(store, state, 5);
  std::int64_t complete = 0, last = 0;
  for (const LogEvent& event : events) {
    ASSERT_TRUE(store.Commit({{event}, {}, {}}).ok());
    snapshotter.Before(event);
    ASSERT_TRUE(state.Apply(event).ok());
    if (snapshotter.due() || snapshotter.under_way()) snapshotter.Step();
    const auto head = store.NewestSnapshot().value();
    if (!head || head->cut == last) continue;
    last = head->cut;
    ++complete;
    State restored;
    StateSnapshot::Index index;
    ASSERT_EQ(Snapshotter::Restore(store, restored, index), last);
    ASSERT_TRUE(store.ReplayAfter(last, [&](const LogEvent& e) { return restored.Apply(e); }).ok());
    ASSERT_EQ(restored.DebugString(), state.DebugString());
  }
  EXPECT_GT(complete, 5);
}

INSTANTIATE_TEST_SUITE_P(Seeds, SnapshotTest, ::testing::Range(1, 5));

/// 2,500 trials: three parts. An event for a part that is not written yet must not get into it.
TEST(SnapshotterTest, APartIsEncodedBeforeItChanges) {
  const auto disk = std::make_shared<MemoryStore::Disk>();
  MemoryStore store(disk);
  State state;
  Snapshotter snapshotter(store, state, 1'000'000);
  std::int64_t seq = 0;
  const auto apply = [&](const std::string& trial, Body body) {
    const LogEvent event{"s", ++seq, absl::FromUnixSeconds(seq), trial, std::move(body)};
    ASSERT_TRUE(store.Commit({{event}, {}, {}}).ok());
    snapshotter.Before(event);
    ASSERT_TRUE(state.Apply(event).ok());
  };
  const auto allocate = [&](int trial) {
    apply(TrialNameOf(trial), AttemptAllocated{1, "w", "runs", "/runs", 1});
  };
  config::SweepSpec spec = MakeSpec("s", 2500);
  for (int i = 0; i < 2500; ++i)  // of one architecture, whatever k is
    spec.parameters[0][0].values[static_cast<std::size_t>(i)] = std::to_string(1 + i % 1000);
  SweepCreated created{config::ToJson(spec), {}};
  for (int i = 0; i < 2500; ++i)
    created.points.push_back({{"sae.k", std::to_string(1 + i % 1000)}});
  apply("", created);
  allocate(3);
  const std::string at_cut = state.DebugString();
  snapshotter.Step();  // all parts, or the first four
  for (int again = 0; snapshotter.under_way() && again < 20; ++again) {
    allocate(100 * (again + 1));
    allocate(2499 - again);
    snapshotter.Step();
  }
  ASSERT_FALSE(snapshotter.under_way());
  State restored;
  StateSnapshot::Index index;
  ASSERT_EQ(Snapshotter::Restore(store, restored, index), 2);
  EXPECT_EQ(restored.DebugString(), at_cut);
  ASSERT_TRUE(store.ReplayAfter(2, [&](const LogEvent& e) { return restored.Apply(e); }).ok());
  EXPECT_EQ(restored.DebugString(), state.DebugString());
}

TEST(SnapshotterTest, OnlySweepsThatChangedAreWrittenAgain) {
  const auto disk = std::make_shared<MemoryStore::Disk>();
  MemoryStore store(disk);
  FakeClock clock;
  CoreOptions options;
  const auto core = Core::Start(options, clock, store).value();
  for (const char* name : {"s", "t"})
    ASSERT_TRUE(core->CreateSweep(PrepareSweep(MakeSpec(name, 2), 100).value(), "").ok());
  ASSERT_TRUE(core->Close().ok());
  ASSERT_TRUE(core->CancelSweep("t").ok());
  ASSERT_TRUE(core->Close().ok());
  std::map<std::string, std::set<std::int64_t>> cuts;
  for (const auto& [key, body] : disk->snapshot_parts)
    cuts[std::get<0>(key)].insert(std::get<1>(key));
  EXPECT_EQ(cuts["s"], std::set<std::int64_t>{2});
  EXPECT_EQ(cuts["t"], std::set<std::int64_t>{static_cast<std::int64_t>(disk->log.size())});
}

TEST(SnapshotterTest, ADamagedOrForeignSnapshotIsNotUsed) {
  const auto disk = std::make_shared<MemoryStore::Disk>();
  MemoryStore store(disk);
  FakeClock clock;
  {
    const auto core = Core::Start({}, clock, store).value();
    ASSERT_TRUE(core->CreateSweep(PrepareSweep(MakeSpec("s", 2), 100).value(), "").ok());
    ASSERT_TRUE(core->Close().ok());
  }
  const std::string good = Core::Start({}, clock, store).value()->state().DebugString();
  State state;
  StateSnapshot::Index index;
  ASSERT_EQ(Snapshotter::Restore(store, state, index), 1);
  const auto parts = disk->snapshot_parts;
  for (auto& [key, body] : disk->snapshot_parts) body.resize(body.size() - 1);
  EXPECT_EQ(Core::Start({}, clock, store).value()->state().DebugString(), good);
  disk->snapshot_parts = parts;
  disk->snapshot_parts.erase(disk->snapshot_parts.begin());
  EXPECT_EQ(Core::Start({}, clock, store).value()->state().DebugString(), good);
  disk->snapshot_parts = parts;
  disk->snapshot->layout = "of another version";
  state = State();
  EXPECT_EQ(Snapshotter::Restore(store, state, index), 0);
  EXPECT_EQ(Core::Start({}, clock, store).value()->state().DebugString(), good);
}

TEST(StateSnapshotTest, DamagedBytesAreErrorsAndNothingWorse) {
  State state;
  ASSERT_TRUE(state
                  .Apply({"s", 1, absl::UnixEpoch(), "",
                          SweepCreated{config::ToJson(MakeSpec("s", 3)),
                                       {{{"sae.k", "4"}}, {{"sae.k", "5"}}, {{"sae.k", "6"}}}}})
                  .ok());
  const StateSnapshot::SweepParts parts{1, 3};
  const std::string head = StateSnapshot::EncodePart(*state.sweep("s"), 0);
  const std::string trials = StateSnapshot::EncodePart(*state.sweep("s"), 1);
  Random random(1);
  for (int i = 0; i < 3000; ++i) {
    std::string bytes = i % 2 == 0 ? head : trials;
    if (random.Below(3) == 0) bytes.resize(random.Below(bytes.size()));
    for (std::uint64_t n = random.Below(4); n > 0 && !bytes.empty(); --n)
      bytes[random.Below(bytes.size())] = static_cast<char>(random.Below(256));
    State out;
    if (i % 2 == 1) {
      ASSERT_TRUE(StateSnapshot::DecodePart(head, "s", parts, 0, out).ok());
    }
    StateSnapshot::DecodePart(bytes, "s", parts, i % 2, out).IgnoreError();  // ends, at least
  }
}

}  // namespace
}  // namespace sae::server::testing
