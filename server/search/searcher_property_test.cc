// Random histories, with values that are no numbers, times that go back, repeats, failures and
// retries: searchers decide as slow, plain references do, never about a trial that is over, and
// as a searcher that is told the same again.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "server/search/asha.h"
#include "server/search/median_stop.h"

namespace sae::server::search {
namespace {
using Kind = Input::Kind;

constexpr int kTrials = 12;

double AnyLoss() {
  const int kind = *rc::gen::inRange(0, 12);
  if (kind == 0) return std::numeric_limits<double>::quiet_NaN();
  if (kind == 1) return kWorst;
  if (kind == 2) return -kWorst;
  if (kind == 3) return 1.7e308;
  return *rc::gen::inRange(-4, 5);  // few values: many ties
}

std::vector<Input> AnyHistory() {
  std::vector<Input> out;
  const int n = *rc::gen::inRange(1, 120);
  for (int i = 0; i < n; ++i) {
    Input input;
    const int kind = *rc::gen::inRange(0, 20);
    input.kind = kind < 7 ? static_cast<Kind>(kind) : Kind::kReport;
    input.trial = *rc::gen::inRange(0, kTrials);
    if (input.kind == Kind::kReport) {
      input.tokens = *rc::gen::inRange(-1, 20);
      input.loss = AnyLoss();
    }
    out.push_back(input);
  }
  return out;
}

/// Successive halving as a list of what happened, sorted anew for each decision.
struct PlainAsha {
  std::vector<double> tokens;
  int eta = 2;
  bool promote = false;
  std::map<int, std::map<int, double>> rungs;  ///< rung, trial, loss
  std::map<int, int> next;                     ///< of a trial
  std::set<int> waiting, over, failed;

  std::vector<int> Sorted(int rung) const {
    std::vector<std::pair<double, int>> entries;
    for (const auto& [trial, loss] : rungs.count(rung) ? rungs.at(rung) : std::map<int, double>())
      entries.emplace_back(loss, trial);
    std::sort(entries.begin(), entries.end());
    std::vector<int> trials;
    for (const auto& [loss, trial] : entries) trials.push_back(trial);
    return trials;
  }
  std::vector<Decision> Report(const Input& in) {
    std::vector<Decision> out;
    const int last = static_cast<int>(tokens.size()) - 1;
    while (!over.count(in.trial) && !waiting.count(in.trial) && next[in.trial] <= last) {
      const int rung = next[in.trial];
      if (!(in.tokens >= tokens[static_cast<std::size_t>(rung)])) break;
      rungs[rung][in.trial] = std::isfinite(in.loss) ? in.loss : kWorst;
      ++next[in.trial];
      const auto sorted = Sorted(rung);
      const auto place = std::find(sorted.begin(), sorted.end(), in.trial) - sorted.begin();
      const int n = static_cast<int>(sorted.size());
      Action action = Action::kContinue;
      if (rung == last) {
        action = Action::kStop;
      } else if (promote) {
        action = Action::kPause;
        waiting.insert(in.trial);
      } else if (place >= std::max(n / eta, 1)) {
        action = Action::kStop;
      }
      if (action == Action::kStop) over.insert(in.trial);
      out.push_back({in.trial, rung + 1, action});
    }
    return out;
  }
  std::vector<Decision> Tell(const Input& in) {
    const int t = in.trial;
    if (in.kind == Kind::kReport) return Report(in);
    if (in.kind == Kind::kFailed && !over.count(t) && !waiting.count(t) &&
        next[t] < static_cast<int>(tokens.size())) {
      rungs[next[t]++][t] = kWorst;
      failed.insert(t);
    }
    if (in.kind == Kind::kInvalid) {
      for (auto& [rung, trials] : rungs) trials.erase(t);
      next[t] = 0;
      failed.erase(t);
    }
    if (in.kind == Kind::kRetried && failed.erase(t) > 0) rungs[--next[t]].erase(t);
    waiting.erase(t);
    if (in.kind == Kind::kRetried) over.erase(t);
    if (in.kind != Kind::kRetried && in.kind != Kind::kResumed) over.insert(t);
    return {};
  }
  std::optional<Decision> NextPromotion() const {
    for (int rung = static_cast<int>(tokens.size()) - 2; rung >= 0; --rung) {
      std::vector<int> sorted = Sorted(rung);
      sorted.resize(sorted.size() / static_cast<std::size_t>(eta));
      for (const int trial : sorted) {
        if (waiting.count(trial) && next.at(trial) == rung + 1)
          return Decision{trial, rung + 2, Action::kPromote};
      }
    }
    return std::nullopt;
  }
};

void CompareAsha(bool promote) {
  PlainAsha plain;
  plain.tokens = {1, 3, 9};
  plain.eta = *rc::gen::inRange(2, 5);
  plain.promote = promote;
  const AshaShape shape{plain.tokens, static_cast<double>(plain.eta), 1};
  std::unique_ptr<Searcher> searcher;
  if (promote) {
    searcher = std::make_unique<AshaPromote>(shape);
  } else {
    searcher = std::make_unique<AshaStop>(shape);
  }
  for (const Input& input : AnyHistory()) {
    RC_ASSERT(searcher->Tell(input) == plain.Tell(input));
    const auto next = searcher->NextPromotion([](int) { return true; });
    if (!promote) continue;
    RC_ASSERT(next == plain.NextPromotion());
    if (next && *rc::gen::inRange(0, 2) == 0) {
      searcher->Tell({Kind::kResumed, next->trial});
      plain.Tell({Kind::kResumed, next->trial});
    }
  }
}

RC_GTEST_PROP(SearcherProperty, StopDecidesAsAPlainReference, ()) { CompareAsha(false); }
RC_GTEST_PROP(SearcherProperty, PromoteDecidesAsAPlainReference, ()) { CompareAsha(true); }

/// The median rule over all looks at all trials, in intervals of 4 tokens.
struct PlainMedian {
  double grace = 0;
  std::size_t min_trials = 1;
  struct Seen {
    int interval;
    double loss;
  };
  std::map<int, std::vector<Seen>> looks;
  std::set<int> over;

  static int IntervalOf(double tokens) { return static_cast<int>(std::floor(tokens / 4)); }
  double Mean(int trial, int interval) const {
    double sum = 0;
    int n = 0;
    for (const Seen& s : looks.at(trial)) {
      if (s.interval > interval || !std::isfinite(s.loss)) continue;
      sum += s.loss;
      ++n;
    }
    return n > 0 && std::isfinite(sum / n) ? sum / n : kWorst;
  }
  std::vector<Decision> Tell(const Input& in) {
    if (in.kind == Kind::kRetried) over.erase(in.trial);
    if (in.kind == Kind::kInvalid) looks[in.trial].clear();
    if (in.kind != Kind::kReport) {
      if (in.kind != Kind::kRetried && in.kind != Kind::kResumed) over.insert(in.trial);
      return {};
    }
    std::vector<Seen>& mine = looks[in.trial];
    const int interval = IntervalOf(in.tokens);
    const bool due =
        mine.empty() ? in.tokens >= std::max(grace, 4.0) : interval > mine.back().interval;
    if (over.count(in.trial) || !due) return {};
    mine.push_back({interval, in.loss});
    double best = kWorst;
    for (const Seen& s : mine) best = std::isfinite(s.loss) ? std::min(best, s.loss) : best;
    std::vector<double> means;
    for (const auto& [trial, seen] : looks) {
      if (trial == in.trial || seen.empty() || seen.back().interval < interval ||
          seen.front().interval > interval)
        continue;
      means.push_back(Mean(trial, interval));
    }
    if (means.empty() || means.size() < min_trials) return {};
    std::sort(means.begin(), means.end());
    const std::size_t n = means.size();
    const double median = n % 2 ? means[n / 2] : means[n / 2 - 1] / 2 + means[n / 2] / 2;
    if (!(best > median)) return {};
    over.insert(in.trial);
    return {{in.trial, 0, Action::kStop}};
  }
};

class Silent final : public Searcher {
 public:
  double NextLook(int) override { return kNever; }
  std::vector<Decision> Tell(const Input&) override { return {}; }
  std::string DebugString() const override { return ""; }
};

RC_GTEST_PROP(SearcherProperty, MedianDecidesAsAPlainReference, ()) {
  PlainMedian plain;
  plain.grace = *rc::gen::inRange(0, 9);
  plain.min_trials = *rc::gen::inRange<std::size_t>(1, 5);
  MedianStop searcher({plain.grace, static_cast<std::int64_t>(plain.min_trials), 4},
                      std::make_unique<Silent>());
  for (const Input& input : AnyHistory()) RC_ASSERT(searcher.Tell(input) == plain.Tell(input));
}

std::unique_ptr<Searcher> AnySearcher(int kind) {
  const AshaShape shape{{1, 3, 9}, 3, 1 + kind % 3};
  std::unique_ptr<Searcher> inner = std::make_unique<AshaStop>(shape);
  if (kind % 2 == 1) inner = std::make_unique<AshaPromote>(shape);
  if (kind % 4 < 2) return inner;
  return std::make_unique<MedianStop>(MedianShape{2, 2, 3}, std::move(inner));
}

RC_GTEST_PROP(SearcherProperty, ToldAgainItDecidesTheSameFromAnyPointOn, ()) {
  const int kind = *rc::gen::inRange(0, 12);
  const std::vector<Input> history = AnyHistory();
  const auto cut = *rc::gen::inRange<std::size_t>(0, history.size() + 1);
  auto live = AnySearcher(kind);
  auto restored = AnySearcher(kind);
  for (std::size_t i = 0; i < cut; ++i) {
    live->NextLook(history[i].trial);  // asking changes nothing
    live->Tell(history[i]);
  }
  for (std::size_t i = 0; i < cut; ++i) restored->Tell(history[i]);
  for (std::size_t i = cut; i < history.size(); ++i) {
    RC_ASSERT(live->Tell(history[i]) == restored->Tell(history[i]));
    RC_ASSERT(live->NextPromotion([](int) { return true; }) ==
              restored->NextPromotion([](int) { return true; }));
  }
}

RC_GTEST_PROP(SearcherProperty, EachRungOnceAndNothingAfterAnEnd, ()) {
  auto searcher = AnySearcher(*rc::gen::inRange(0, 12));
  std::map<int, int> highest;
  std::set<int> over;
  for (const Input& input : AnyHistory()) {
    if (input.kind == Kind::kRetried || input.kind == Kind::kInvalid) continue;
    const double look = searcher->NextLook(input.trial);
    const auto out = searcher->Tell(input);
    RC_ASSERT(out.empty() || (input.kind == Kind::kReport && input.tokens >= look));
    for (const Decision& d : out) {
      RC_ASSERT(d.trial == input.trial);
      RC_ASSERT(over.count(d.trial) == 0U);
      if (d.rung > 0) RC_ASSERT(d.rung > highest[d.trial]);
      highest[d.trial] = std::max(highest[d.trial], d.rung);
      if (d.action == Action::kStop) over.insert(d.trial);
    }
    if (input.kind != Kind::kReport && input.kind != Kind::kResumed) over.insert(input.trial);
  }
}

}  // namespace
}  // namespace sae::server::search
