#include "server/search/asha.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace sae::server::search {
namespace {

std::vector<double> Weights(const AshaShape& shape) {
  std::vector<double> weights;
  for (int b = 0; b < shape.brackets; ++b) {
    const double rungs = static_cast<double>(shape.tokens.size()) - b;
    weights.push_back(std::pow(shape.eta, rungs - 1) / rungs);
  }
  return weights;
}

/// floor(n / eta): how many of n may go on.
std::int64_t Quota(std::int64_t n, double eta) {
  return static_cast<std::int64_t>(static_cast<double>(n) / eta);
}

}  // namespace

BracketDealer::BracketDealer(std::vector<double> weights)
    : share_(std::move(weights)), dealt_(share_.size(), 0) {
  double sum = 0;
  for (const double w : share_) sum += w;
  for (double& w : share_) w /= sum;
}

int BracketDealer::BracketOf(int trial) {
  while (brackets_.size() <= static_cast<std::size_t>(trial)) {
    const auto dealt = static_cast<double>(brackets_.size() + 1);
    std::size_t best = 0;
    for (std::size_t b = 1; b < share_.size(); ++b) {
      if (share_[b] * dealt - dealt_[b] > share_[best] * dealt - dealt_[best]) best = b;
    }
    ++dealt_[best];
    brackets_.push_back(static_cast<std::uint8_t>(best));
  }
  return brackets_[static_cast<std::size_t>(trial)];
}

Asha::Asha(AshaShape shape) : eta_(shape.eta), dealer_(Weights(shape)) {
  for (int b = 0; b < shape.brackets; ++b) {
    std::vector<Rung>& rungs = brackets_.emplace_back();
    for (auto i = static_cast<std::size_t>(b); i < shape.tokens.size(); ++i)
      rungs.emplace_back().tokens = shape.tokens[i];
  }
}

Asha::Place& Asha::At(int trial) {
  while (places_.size() <= static_cast<std::size_t>(trial)) {
    Place place;
    place.bracket = dealer_.BracketOf(static_cast<int>(places_.size()));
    places_.push_back(std::move(place));
  }
  return places_[static_cast<std::size_t>(trial)];
}

double Asha::NextLook(int trial) {
  const Place& place = At(trial);
  const std::vector<Rung>& ladder = rungs(place);
  if (place.over || place.waiting || place.losses.size() == ladder.size()) return kNever;
  return ladder[place.losses.size()].tokens;
}

std::vector<Decision> Asha::Report(Place& place, const Input& input) {
  std::vector<Decision> out;
  std::vector<Rung>& ladder = rungs(place);
  const double loss = std::isfinite(input.loss) ? input.loss : kWorst;
  while (input.tokens >= NextLook(input.trial)) {
    const std::size_t index = place.losses.size();
    const Entry entry{loss, input.trial};
    ladder[index].all.insert(entry);
    place.losses.push_back(loss);
    const Action action = index + 1 == ladder.size() ? Action::kStop : Judge(place, index, entry);
    place.over = action == Action::kStop;
    out.push_back({input.trial, place.bracket + static_cast<int>(index) + 1, action});
  }
  return out;
}

void Asha::Remove(Place& place, int trial, std::size_t index) {
  rungs(place)[index].all.erase(Entry{place.losses[index], trial});
}

void Asha::StopWaiting(Place& place, int trial) {
  if (!place.waiting) return;
  const std::size_t index = place.losses.size() - 1;
  rungs(place)[index].waiting.erase(Entry{place.losses[index], trial});
  place.waiting = false;
}

void Asha::Fail(Place& place, int trial) {
  const std::size_t index = place.losses.size();
  if (place.over || place.waiting || index == rungs(place).size()) return;
  rungs(place)[index].all.insert(Entry{kWorst, trial});
  place.losses.push_back(kWorst);
  place.failed = true;
}

std::vector<Decision> Asha::Tell(const Input& input) {
  Place& place = At(input.trial);
  switch (input.kind) {
    case Input::Kind::kReport:
      return Report(place, input);
    case Input::Kind::kResumed:
      StopWaiting(place, input.trial);
      return {};
    case Input::Kind::kInvalid:
      StopWaiting(place, input.trial);
      for (std::size_t i = 0; i < place.losses.size(); ++i) Remove(place, input.trial, i);
      place.losses.clear();
      place.failed = false;
      break;
    case Input::Kind::kFailed:
      Fail(place, input.trial);
      StopWaiting(place, input.trial);
      break;
    case Input::Kind::kDone:
    case Input::Kind::kCancelled:
      StopWaiting(place, input.trial);
      break;
    case Input::Kind::kRetried:
      if (place.failed) {
        Remove(place, input.trial, place.losses.size() - 1);
        place.losses.pop_back();
        place.failed = false;
      }
      StopWaiting(place, input.trial);
      place.over = false;
      return {};
  }
  place.over = true;
  return {};
}

std::string Asha::DebugString() const {
  std::string out;
  for (std::size_t b = 0; b < brackets_.size(); ++b) {
    for (const Rung& rung : brackets_[b]) {
      absl::StrAppend(&out, "bracket ", b, " at ", rung.tokens, ":");
      for (const Entry& e : rung.all) {
        absl::StrAppend(&out, " ", e.second, "=", e.first, rung.waiting.contains(e) ? "w" : "");
      }
      out += '\n';
    }
  }
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Place& p = places_[i];
    absl::StrAppend(&out, i, ":", p.bracket, "/", absl::StrJoin(p.losses, ","),
                    p.waiting ? "w" : "", p.over ? "o" : "", p.failed ? "f" : "", " ");
  }
  return out;
}

Action AshaStop::Judge(Place& place, std::size_t index, const Entry& entry) {
  const Rung& rung = rungs(place)[index];
  const std::int64_t go_on = std::max<std::int64_t>(Quota(rung.size(), eta_), 1);
  return rung.RankOf(entry) < go_on ? Action::kContinue : Action::kStop;
}

Action AshaPromote::Judge(Place& place, std::size_t index, const Entry& entry) {
  rungs(place)[index].waiting.insert(entry);
  place.waiting = true;
  return Action::kPause;
}

std::optional<Decision> AshaPromote::NextPromotion(const std::function<bool(int)>& ready) {
  const std::size_t count = brackets_[0].size();
  for (std::size_t level = count; level-- > 0;) {  // of the whole ladder, from the top
    for (std::size_t b = 0; b < brackets_.size() && b <= level; ++b) {
      const Rung& rung = brackets_[b][level - b];
      const std::int64_t quota = Quota(rung.size(), eta_);
      for (const Entry& entry : rung.waiting) {
        if (rung.RankOf(entry) >= quota) break;
        if (ready(entry.second)) {
          return Decision{entry.second, static_cast<int>(level) + 2, Action::kPromote};
        }
      }
    }
  }
  return std::nullopt;
}

}  // namespace sae::server::search
