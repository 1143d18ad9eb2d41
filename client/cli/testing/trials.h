#pragma once
// For tests: trials as a coordinator would describe them.

#include <string>

#include "proto/convert/sweep_convert.h"
#include "saeloom/v1/sweep_service.pb.h"

namespace sae::cli::testing {

inline saeloom::v1::Trial MakeTrial(const std::string& id, const std::string& architecture) {
  saeloom::v1::Trial t;
  t.set_name(TrialName("demo", id));
  t.set_state(saeloom::v1::Trial::STATE_SUCCEEDED);
  t.mutable_config()->mutable_sae()->set_architecture(architecture);
  t.mutable_config()->mutable_sae()->set_latents(2048);
  t.mutable_config()->mutable_train()->set_tokens(5e5);
  t.set_total_steps(244);
  t.set_attempt(1);
  return t;
}

inline saeloom::v1::Trial TopK(const std::string& id, int k, double fvu, double dead = 0.004) {
  saeloom::v1::Trial t = MakeTrial(id, "topk");
  (*t.mutable_parameters())["sae.k"].set_number_value(k);
  t.mutable_config()->mutable_sae()->set_k(k);
  auto& m = *t.mutable_metrics();
  m["heldout.fvu"] = fvu;
  m["heldout.explained_variance"] = 1 - fvu;
  m["heldout.l0"] = k;
  m["heldout.dead_fraction"] = dead;
  m["heldout.gamma"] = 0.998;
  m["tokens_per_second"] = 12345;
  return t;
}

inline saeloom::v1::Trial Relu(const std::string& id, double lambda, double fvu, double l0) {
  saeloom::v1::Trial t = MakeTrial(id, "relu_l1");
  (*t.mutable_parameters())["sae.architecture"].set_string_value("relu_l1");
  (*t.mutable_parameters())["sae.l1_coefficient"].set_number_value(lambda);
  t.mutable_config()->mutable_sae()->set_l1_coefficient(lambda);
  auto& m = *t.mutable_metrics();
  m["heldout.fvu"] = fvu;
  m["heldout.l0"] = l0;
  m["heldout.dead_fraction"] = 0.031;
  m["heldout.gamma"] = 0.91;
  m["tokens_per_second"] = 9100;
  return t;
}

inline saeloom::v1::Sweep DemoSweep() {
  saeloom::v1::Sweep s;
  s.set_name(SweepName("demo"));
  s.set_state(saeloom::v1::Sweep::STATE_RUNNING);
  s.mutable_spec()->set_store("/data/store");
  s.mutable_spec()->mutable_objective()->set_metric("heldout.fvu");
  s.mutable_spec()->mutable_objective()->add_constraints("heldout.l0 <= 64");
  return s;
}

}  // namespace sae::cli::testing
