#include "proto/convert/error_details.h"

#include <gtest/gtest.h>

namespace sae {
namespace {

using Violations = std::vector<FieldViolation>;

TEST(ErrorDetails, FieldsAreThoseThatTheMessageNames) {
  EXPECT_EQ(
      ViolationsOf("trial.sae.k: 0, must be 1 or more; unknown key trial.sae.kk, did you mean "
                   "trial.sae.k?; parameters[1].train.lr: empty"),
      (Violations{{"trial.sae.k", "0, must be 1 or more"},
                  {"trial.sae.kk", "unknown key trial.sae.kk, did you mean trial.sae.k?"},
                  {"parameters[1].train.lr", "empty"}}));
  EXPECT_EQ(ViolationsOf("page_token: \"x\" is not one of this list; begin without a token"),
            (Violations{{"page_token", "\"x\" is not one of this list; begin without a token"}}))
      << "a remedy belongs to its problem";
  EXPECT_TRUE(ViolationsOf("no sweep \"s\"").empty());
  EXPECT_TRUE(ViolationsOf("event log /a/b: corrupt: page 3").empty())
      << "a path of a file is none";
  EXPECT_TRUE(ViolationsOf("").empty());
}

TEST(ErrorDetails, ReasonAndFieldsComeBack) {
  const auto bad = ParseErrorDetails(
      ErrorDetailsOf(absl::InvalidArgumentError("priority: 101, must be 0 to 100")));
  EXPECT_EQ(bad.reason, "INVALID_ARGUMENT");
  EXPECT_EQ(bad.violations, (Violations{{"priority", "101, must be 0 to 100"}}));
  const auto missing = ParseErrorDetails(ErrorDetailsOf(absl::NotFoundError("name: no sweep")));
  EXPECT_EQ(missing.reason, "NOT_FOUND");
  EXPECT_TRUE(missing.violations.empty()) << "the request was well-formed";
  const auto own = ParseErrorDetails(
      ErrorDetailsOf(WithReason(absl::FailedPreconditionError("it has ended"), "SWEEP_HAS_ENDED")));
  EXPECT_EQ(own.reason, "SWEEP_HAS_ENDED");
  EXPECT_EQ(ErrorDetailsOf(absl::OkStatus()), "");
}

TEST(ErrorDetails, StaysWithinTheMetadataOfACall) {
  std::string message;
  for (int i = 0; i < 60; ++i)
    absl::StrAppend(&message, i == 0 ? "" : "; ", "parameters[", i, "].sae.k: is not a number");
  const absl::Status status = absl::InvalidArgumentError(message);
  const std::string bytes = ErrorDetailsOf(status);
  EXPECT_LT(message.size() + bytes.size() * 4 / 3, 7500u);
  EXPECT_EQ(ParseErrorDetails(bytes).violations.at(3).field, "parameters[3].sae.k");
}

TEST(ErrorDetails, StrangeBytesGiveNone) {
  EXPECT_EQ(ParseErrorDetails("").reason, "");
  EXPECT_EQ(ParseErrorDetails("\xff\xff\xff").reason, "");
}

}  // namespace
}  // namespace sae
