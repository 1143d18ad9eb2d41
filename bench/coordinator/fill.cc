#include "bench/coordinator/fill.h"

#include <algorithm>

#include "absl/strings/str_join.h"

#include "sae/base/clock.h"
#include "server/core/core.h"
#include "server/store/sqlite_store.h"

namespace sae::bench {
namespace {
using namespace server;

constexpr std::size_t kBatch = 2000;

class Filler {
 public:
  explicit Filler(EventStore& store) : store_(store) {}
  absl::Status Add(const std::string& trial, Body body) {
    batch_.events.push_back({"history", ++seq_, RealClock().Now(), trial, std::move(body)});
    return batch_.events.size() < kBatch ? absl::OkStatus() : Flush();
  }
  absl::Status Flush() { return store_.Commit(std::exchange(batch_, {})); }
  std::int64_t seq() const { return seq_; }

 private:
  EventStore& store_;
  Transaction batch_;
  std::int64_t seq_ = 0;
};

}  // namespace

std::string SweepJson(const std::string& name, int trials) {
  const int seeds = std::min(trials, 1000);
  std::vector<std::string> seed, rate;
  for (int i = 0; i < seeds; ++i) seed.push_back(std::to_string(i + 1));
  for (int i = 0; i < (trials + seeds - 1) / seeds; ++i)
    rate.push_back(absl::StrCat(0.0001 * (i + 1)));
  return absl::StrCat(
      R"({"apiVersion":"saeloom/v1","name":")", name,
      R"(","store":"/data/store","pack":"off","trial":{"sae":{"architecture":"topk","latents":1024,"k":8},)",
      R"("train":{"tokens":100000,"batch":1000}},"parameters":{"train.seed":{"values":[)",
      absl::StrJoin(seed, ","), R"(]},"train.lr":{"values":[)", absl::StrJoin(rate, ","), "]}}}");
}

absl::Status FillDatabase(const std::string& path, int trials, std::int64_t events) {
  SAE_ASSIGN_OR_RETURN(config::SweepSpec spec,
                       config::ParseSweepSpec(SweepJson("history", trials)));
  SAE_ASSIGN_OR_RETURN(PreparedSweep prepared, PrepareSweep(spec, 1'000'000));
  SAE_ASSIGN_OR_RETURN(const auto store, SqliteStore::Open(path));
  SAE_RETURN_IF_ERROR(store->BeginEpoch().status());
  Filler filler(*store);
  const auto made = static_cast<int>(prepared.event.points.size());
  SAE_RETURN_IF_ERROR(filler.Add("", std::move(prepared.event)));
  const std::int64_t lifecycle = 2 + 5 * std::int64_t{made};
  const std::int64_t points = std::max<std::int64_t>(0, events - lifecycle);
  std::int64_t written = 0;
  for (int i = 0; i < made; ++i) {
    const std::string trial = TrialNameOf(i);
    AttemptAllocated allocated{1, absl::StrCat("worker-", i % 200), "runs", "/runs", 1};
    AttemptEnded ended{
        1, "succeeded", "", FailureClass::kUnspecified, Charge::kNone, TrialState::kSucceeded};
    SAE_RETURN_IF_ERROR(filler.Add(trial, std::move(allocated)));
    SAE_RETURN_IF_ERROR(filler.Add(trial, AttemptStarting{1}));
    SAE_RETURN_IF_ERROR(filler.Add(trial, AttemptRunning{1, 0}));
    for (; written < points * (i + 1) / made; ++written) {
      SAE_RETURN_IF_ERROR(
          filler.Add(trial, Point{1,
                                  written,
                                  written * 4096,
                                  false,
                                  {{"train.loss", 1.0 / static_cast<double>(written + 1)},
                                   {"train.l0", 32.5},
                                   {"train.tokens_per_second", 123456.7}}}));
    }
    SAE_RETURN_IF_ERROR(filler.Add(trial, AttemptVerdict{1, "finished", "", written}));
    SAE_RETURN_IF_ERROR(filler.Add(trial, std::move(ended)));
  }
  SAE_RETURN_IF_ERROR(filler.Add("", SweepChanged{SweepState::kSucceeded}));
  return filler.Flush();
}

}  // namespace sae::bench
