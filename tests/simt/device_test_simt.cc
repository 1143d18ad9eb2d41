#include <set>

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include "tests/simt/device_test_run.h"
#include "tests/simt/mutation.h"
#include "tests/simt/runtime.h"

namespace sae::testing {
namespace {

constexpr int kOrders = 4;
constexpr std::uint8_t kFills[] = {0xFF, 0x7F};  // NaN and -1; 3.4e38 and 2139062143
constexpr int kVariants = 2 * kOrders;

simt::SimtRuntime::Options Variant(int variant, simt::BarrierLedger* ledger) {
  simt::SimtRuntime::Options options;
  const int order = variant % kOrders, fill = variant / kOrders;
  options.executor.seed = static_cast<std::uint64_t>(order);
  options.executor.fill = kFills[fill];
  options.placement = (order + fill) % 2 == 0 ? simt::GuardedMemory::Placement::kEnd
                                              : simt::GuardedMemory::Placement::kStart;
  options.ledger = ledger;
  return options;
}

std::string VariantText(int variant) {
  const auto options = Variant(variant, nullptr);
  return absl::StrCat(
      "lane order ", options.executor.seed, ", memory filled with byte ",
      int{options.executor.fill}, ", guard pages ",
      options.placement == simt::GuardedMemory::Placement::kEnd ? "behind" : "before",
      " the buffers");
}

Downloads RunVariants(const DeviceTestBody& body, simt::BarrierLedger* ledger) {
  Downloads first;
  for (int variant = 0; variant < kVariants && !::testing::Test::HasFailure(); ++variant) {
    const ::testing::ScopedTrace trace(__FILE__, __LINE__, VariantText(variant));
    simt::SimtRuntime runtime(Variant(variant, ledger));
    Downloads downloads = RunBodyOnce(runtime, false, body);
    EXPECT_EQ(runtime.live_buffers(), 0) << "buffers were not freed";
    EXPECT_EQ(runtime.error(), "");
    if (variant == 0)
      first = std::move(downloads);
    else
      EXPECT_EQ(Difference(first, downloads), "") << "the runs do not give the same bits";
  }
  return first;
}

/// Whether a run without `barrier` fails or gives other bits than `expected`; how, in words.
std::string Detect(const DeviceTestBody& body, const simt::BarrierId& barrier,
                   const Downloads& expected) {
  for (int variant = kVariants - 1; variant >= 0; --variant) {
    simt::BarrierLedger ledger;
    ledger.Delete(barrier);
    simt::SimtRuntime::Options options = Variant(variant, &ledger);
    options.executor.seconds_limit = 10;
    ::testing::TestPartResultArray failures;
    Downloads downloads;
    {
      const ::testing::ScopedFakeTestPartResultReporter reporter(
          ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &failures);
      simt::SimtRuntime runtime(options);
      downloads = RunBodyOnce(runtime, false, body);
      if (!runtime.error().empty()) return runtime.error();
    }
    for (int i = 0; i < failures.size(); ++i) {
      if (failures.GetTestPartResult(i).failed()) return failures.GetTestPartResult(i).message();
    }
    std::string difference = Difference(expected, downloads);
    if (!difference.empty()) return difference;
  }
  return "";
}

}  // namespace

void RunDeviceTest(const DeviceTestBody& body) { RunVariants(body, nullptr); }

bool MutantsRun() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return false;
#else
  return true;
#endif
}

void ExpectBarriersNeeded(const DeviceTestBody& body,
                          const std::vector<BarrierSurvivor>& survivors) {
  simt::BarrierLedger ledger;
  const Downloads expected = RunVariants(body, &ledger);
  ASSERT_FALSE(::testing::Test::HasFailure()) << "the body fails with all barriers in place";
  const std::set<simt::BarrierId> executed = ledger.Executed();
  std::set<simt::BarrierId> listed;
  for (const BarrierSurvivor& survivor : survivors) {
    EXPECT_NE(survivor.reason, "") << survivor.file << ":" << survivor.id << " needs a reason";
    listed.insert({survivor.file, survivor.id});
    EXPECT_EQ(executed.count({survivor.file, survivor.id}), 1U)
        << "the body does not reach the listed barrier " << survivor.file << ":" << survivor.id;
  }
  if (!MutantsRun()) {
    std::printf("%zu barriers, not deleted: this build has a sanitizer\n", executed.size());
    return;
  }
  for (const simt::BarrierId& barrier : executed) {
    const std::string found = Detect(body, barrier, expected);
    if (listed.count(barrier) != 0) {
      EXPECT_EQ(found, "") << "barrier " << barrier.first << ":" << barrier.second
                           << " is listed as a survivor, but its deletion is found";
    } else {
      EXPECT_NE(found, "") << "barrier " << barrier.first << ":" << barrier.second
                           << " can be deleted unnoticed";
    }
  }
  std::printf("%zu barriers, each deleted once; %zu listed survivors\n", executed.size(),
              listed.size());
}

}  // namespace sae::testing
