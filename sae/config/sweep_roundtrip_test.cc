// Random sweeps: what Validate accepts comes back from its JSON unchanged, with the same points;
// what it refuses it refuses without crashing.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "sae/config/sweep_spec.h"

namespace sae::config {
namespace {

template <typename T>
T OneOf(std::vector<T> values) {
  return *rc::gen::elementOf(std::move(values));
}

Parameter AnyAxis(const std::string& path) {
  Parameter p;
  p.path = path;
  const int kind = *rc::gen::inRange(0, 4);
  p.kind = static_cast<Parameter::Kind>(kind);
  if (p.kind == Parameter::Kind::kValues) {
    const int n = *rc::gen::inRange(1, 4);
    for (int i = 0; i < n; ++i) p.values.push_back(std::to_string(8 << i));
    return p;
  }
  p.min = *rc::gen::inRange(1, 9);
  p.max = p.min + *rc::gen::inRange(0, 9);
  p.step = *rc::gen::inRange(0, 3);
  return p;
}

SweepSpec AnySpec() {
  SweepSpec s;
  s.name = OneOf<std::string>({"a", "a-b", "0x", "b", "c", "d", ".."});
  s.store = OneOf<std::string>({"/s", "/data/store", "/x", "rel"});
  s.store_d = OneOf<std::int64_t>({0, 64});
  if (s.store_d > 0) s.store_hash = "xxh3:0123456789abcdef";
  s.trial.sae.latents = 1024;
  s.trial.sae.k = 8;
  s.trial.train.tokens = OneOf<double>({1e5, 64000, 1e6});
  s.trial.train.batch = 1000;
  const int sets = *rc::gen::inRange(0, 3);
  for (int i = 0; i < sets; ++i) {
    ParameterSet set;
    Parameter arch{"sae.architecture", Parameter::Kind::kValues, {"\"topk\"", "\"batchtopk\""}};
    const bool with_arch = *rc::gen::inRange(0, 2) == 1;
    if (with_arch) set.push_back(arch);
    set.push_back(AnyAxis("sae.k"));
    if (with_arch && *rc::gen::inRange(0, 2) == 1)
      set.back().when = {{"sae.architecture", {"\"topk\""}}};
    if (*rc::gen::inRange(0, 2) == 1) set.push_back(AnyAxis("train.seed"));
    s.parameters.push_back(std::move(set));
  }
  s.minimize = *rc::gen::inRange(0, 2) == 1;
  if (*rc::gen::inRange(0, 2) == 1) s.constraints = {{"heldout.l0", "<=", 64.5}};
  s.search = OneOf<std::string>({"grid", "random", "asha", "hyperband"});
  if (s.search != "grid") {
    s.max_trials = *rc::gen::inRange(0, 300);
    s.search_seed = *rc::gen::arbitrary<std::int64_t>();
  }
  if (s.search == "asha" || s.search == "hyperband") {
    s.asha = {OneOf<std::string>({"stop", "stop", "promote", "promote", "x"}),
              OneOf<double>({0, 0, 5e4, 2e7}),
              OneOf<double>({0, 100, 1e6}),
              OneOf<std::int64_t>({0, 2, 3, 5, 1}),
              *rc::gen::inRange<std::int64_t>(0, 22),
              *rc::gen::inRange<std::int64_t>(0, 6)};
  }
  if (*rc::gen::inRange(0, 3) == 1) s.median_stop = {true, 1000, *rc::gen::inRange(0, 9)};
  s.max_concurrent = *rc::gen::inRange(0, 5);
  s.pack = *rc::gen::inRange(0, 2);
  if (*rc::gen::inRange(0, 4) == 1) s.labels["k.1"] = *rc::gen::string<std::string>();
  s.queue = OneOf<std::string>({"", "research"});
  s.priority = *rc::gen::inRange(0, 105);
  s.topology = OneOf<std::string>({"any", "same-node", "same-rack"});
  if (*rc::gen::inRange(0, 2) == 1)
    s.retry = {{{"NODE_LOST"}, -1, true}, {{"OOM_GPU", "OOM_HOST"}, 2, false}};
  s.checkpoints = {*rc::gen::inRange(1, 5), *rc::gen::inRange(0, 5), *rc::gen::inRange(0, 5)};
  s.grace_seconds = *rc::gen::inRange(0, 100000) / 8.0;
  s.progress_timeout_seconds = *rc::gen::inRange(0, 100000) / 4.0;
  return s;
}

RC_GTEST_PROP(SweepRoundTrip, AValidSweepComesBackFromItsJson, ()) {
  const SweepSpec s = AnySpec();
  const absl::Status valid = Validate(s);
  RC_CLASSIFY(valid.ok(), "valid");
  const std::string json = ToJson(s);
  const auto back = ParseSweepSpec(json);
  if (!valid.ok()) return;
  RC_ASSERT(back.ok());
  RC_ASSERT(ToJson(*back) == json);
  RC_ASSERT(back->search_seed == s.search_seed);
  RC_ASSERT(back->asha == s.asha);
  RC_ASSERT(back->median_stop == s.median_stop);
  RC_ASSERT(back->labels == s.labels);
  RC_ASSERT(back->retry == s.retry);
  RC_ASSERT(back->checkpoints == s.checkpoints);
  RC_ASSERT(back->grace_seconds == s.grace_seconds);
  RC_ASSERT(back->progress_timeout_seconds == s.progress_timeout_seconds);
  const auto before = ExpandTrials(s);
  const auto after = ExpandTrials(*back);
  RC_ASSERT(before.ok());
  RC_ASSERT(after.ok());
  RC_ASSERT(before->size() == after->size());
  for (std::size_t i = 0; i < before->size(); ++i)
    RC_ASSERT((*before)[i].assignments == (*after)[i].assignments);
}

RC_GTEST_PROP(SweepRoundTrip, NoTextCrashesTheParser, (std::string text)) {
  ParseSweepSpec(text).IgnoreError();
  ParseSweepSpec(R"({"apiVersion":"saeloom/v1","search":{"asha":)" + text + "}}").IgnoreError();
}

}  // namespace
}  // namespace sae::config
