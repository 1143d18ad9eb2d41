#include "server/service/read_ahead.h"

#include "server/service/list_handlers.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {

constexpr int kTrials = 50;

class ReadAheadTest : public CoreTest {
 protected:
  /// Every trial but the last ten has run, and has told a loss.
  void SetUp() override {
    Create(MakeSpec("s", kTrials));
    Register(Registration("w", kTrials - 10));
    for (int i = 0; i < kTrials - 10; ++i) {
      const AttemptKey key{"s", TrialNameOf(i), 1};
      core_->Report({SenderOf("w"),
                     key,
                     1,
                     {Line(1, config::EventKind::kStarted),
                      Line(2, config::EventKind::kMetrics, 10 + (i * 7) % 13)}},
                    [](const absl::StatusOr<std::int64_t>& a) { ASSERT_TRUE(a.ok()); });
    }
    ASSERT_TRUE(core_->Flush().ok());
  }
  std::vector<std::string> ByLoss() {
    saeloom::v1::ListTrialsRequest request;
    request.set_parent("s");
    request.set_order_by("metrics.train.loss");
    request.set_page_size(kTrials);
    EXPECT_TRUE(OrdersByMetric(request));
    saeloom::v1::ListTrialsResponse response;
    const absl::Status status = Handle(*core_, request, response);
    EXPECT_TRUE(status.ok()) << status;
    std::vector<std::string> names;
    for (const auto& trial : response.trials()) names.push_back(trial.name());
    return names;
  }
};

TEST_F(ReadAheadTest, ReadsInSlicesAndChangesNoAnswer) {
  const std::vector<std::string> plain = ByLoss();
  ASSERT_EQ(plain.size(), static_cast<std::size_t>(kTrials));
  Restart();
  ReadAhead reading{"s", 0};
  int slices = 1;
  while (!ReadSome(*core_, clock_, reading, absl::ZeroDuration())) ++slices;
  EXPECT_EQ(slices, 4) << "sixteen trials a slice";
  EXPECT_EQ(ByLoss(), plain);
}

TEST_F(ReadAheadTest, NothingToReadIsDoneAtOnce) {
  ReadAhead unknown{"t", 0};
  EXPECT_TRUE(ReadSome(*core_, clock_, unknown, absl::ZeroDuration()));
  ReadAhead done{"s", kTrials};
  EXPECT_TRUE(ReadSome(*core_, clock_, done, absl::ZeroDuration()));
}

TEST_F(ReadAheadTest, OrdersThatNeedNoValues) {
  saeloom::v1::ListTrialsRequest request;
  EXPECT_FALSE(OrdersByMetric(request));
  request.set_order_by("name desc");
  EXPECT_FALSE(OrdersByMetric(request));
  request.set_order_by("objective");
  EXPECT_TRUE(OrdersByMetric(request));
}

}  // namespace
}  // namespace sae::server::testing
