// What moves coefficients during a run: the L0 controller and the annealed exponent.
#include <cmath>

#include "gtest/gtest.h"

#include "sae/optim/l0_controller.h"
#include "sae/optim/p_anneal.h"

namespace sae::optim {
namespace {

// A dictionary whose log L0 follows -slope * log lambda with a lag of `lag` steps.
double Settle(double target, std::int64_t steps, double slope, double lag, bool fast, double start,
              double* last_move) {
  L0Controller controller(target, steps, steps / 10, fast);
  controller.Calibrate(start);
  double log_l0 = std::log(500);
  double before = 0;
  for (std::int64_t t = 0; t < steps; ++t) {
    const double wanted = std::log(20) - slope * std::log(controller.lambda());
    log_l0 += (wanted - log_l0) / lag;
    if (t == steps * 9 / 10) before = controller.lambda();
    controller.Observe(t, std::exp(log_l0));
  }
  *last_move = controller.lambda() / before - 1;
  return std::exp(log_l0);
}

TEST(L0Controller, SettlesOnTheTargetAndRests) {
  for (const double target : {8.0, 32.0, 128.0}) {
    for (const double slope : {1.0, 1.5}) {
      double moved = 0;
      EXPECT_NEAR(Settle(target, 500, slope, 20, false, 0.1, &moved) / target, 1, 0.2)
          << target << " slope " << slope;
      EXPECT_LT(std::abs(moved), 0.1);
      EXPECT_NEAR(Settle(target, 500, slope, 4, true, 0.1, &moved) / target, 1, 0.05)
          << target << " slope " << slope;
      EXPECT_LT(std::abs(moved), 0.1);
      EXPECT_NEAR(Settle(target, 20000, slope, 200, false, 0.1, &moved) / target, 1, 0.2);
      EXPECT_LT(std::abs(moved), 0.1);
    }
  }
}

TEST(L0Controller, WaitsForItsStartAndKeepsItsSlewAndRange) {
  L0Controller controller(10, 1000, 50, false);
  controller.Calibrate(2);
  for (std::int64_t t = 0; t < 50; ++t) controller.Observe(t, 1000);
  EXPECT_DOUBLE_EQ(controller.lambda(), 2);
  controller.Observe(50, 1000);
  // 16 / T a step at most.
  EXPECT_NEAR(std::log(controller.lambda() / 2), 16.0 / 1000, 1e-12);
  for (std::int64_t t = 51; t < 5000; ++t) controller.Observe(t, 1000);
  EXPECT_NEAR(controller.lambda(), 2e4, 1e-6);
  // Nothing fires: finite all the same.
  controller.Observe(5000, 0);
  EXPECT_TRUE(std::isfinite(controller.lambda()));
}

TEST(L0Controller, GoesOnFromItsState) {
  L0Controller a(16, 300, 10, true), b(16, 300, 10, true);
  a.Calibrate(0.5);
  for (std::int64_t t = 0; t < 40; ++t) a.Observe(t, 20 + static_cast<double>(t % 7));
  model::State from, to;
  a.AddState(&from);
  b.AddState(&to);
  for (std::size_t i = 0; i < from.scalars.size(); ++i) {
    if (auto* const* v = std::get_if<double*>(&from.scalars[i].value))
      *std::get<double*>(to.scalars[i].value) = **v;
    if (auto* const* v = std::get_if<std::int64_t*>(&from.scalars[i].value))
      *std::get<std::int64_t*>(to.scalars[i].value) = **v;
  }
  for (std::int64_t t = 40; t < 60; ++t) {
    a.Observe(t, 18);
    b.Observe(t, 18);
    EXPECT_EQ(a.lambda(), b.lambda());
  }
}

TEST(PAnneal, FallsInTenStepsFromAFifthOfTheRun) {
  PAnneal anneal(1000, 0.2);
  for (int t = 0; t < 199; ++t) {
    EXPECT_EQ(anneal.p(), 1);
    anneal.Observe(5, 6);
  }
  EXPECT_NEAR(anneal.next_p(), 0.92, 1e-12);
  anneal.Observe(5, 6);
  EXPECT_NEAR(anneal.p(), 0.92, 1e-12);
  // The penalty goes on where it was: 6 with the new exponent counts as 5 did.
  EXPECT_NEAR(anneal.factor(), 5.0 / 6, 1e-12);
  for (int t = 200; t < 1000; ++t) anneal.Observe(4, 4);
  EXPECT_NEAR(anneal.p(), 0.2, 1e-12);
  EXPECT_NEAR(anneal.factor(), 5.0 / 6, 1e-12);
}

}  // namespace
}  // namespace sae::optim
