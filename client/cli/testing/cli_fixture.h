#pragma once
// For tests of whole commands: a fake service with a small sweep, a world, and Run.

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/cli.h"
#include "client/cli/testing/fake_service.h"
#include "client/cli/testing/trials.h"
#include "client/cli/testing/world.h"

namespace sae::cli::testing {

inline constexpr char kSpec[] =
    "apiVersion: saeloom/v1\nname: demo\nstore: store\ntrial: {sae: {latents: 64, k: 4}, train: "
    "{tokens: 1e4}}\n"
    "parameters: {sae.k: {values: [4, 8]}}\n";

class CliFixture : public ::testing::Test {
 protected:
  CliFixture() {
    t_.variables["SAELOOM_ADDR"] = service_.address();
    t_.Write("s.yaml", kSpec);
    t_.Write("store/manifest.json", R"({"d": 16})");
    service_.sweep = DemoSweep();
    service_.trials = {TopK("0000", 4, 0.4), TopK("0001", 8, 0.2)};
  }
  int Run(const std::vector<std::string>& args) {
    t_.out.str("");
    t_.err.str("");
    service_.Synchronize();
    const int code = RunCli(args, t_.world);
    service_.Synchronize();
    return code;
  }
  std::string out() const { return t_.out.str(); }
  std::string err() const { return t_.err.str(); }

  FakeService service_;
  TestWorld t_;
};

}  // namespace sae::cli::testing
