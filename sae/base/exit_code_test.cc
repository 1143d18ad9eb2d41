#include "sae/base/exit_code.h"

#include <gtest/gtest.h>

namespace sae {
namespace {
using Code = absl::StatusCode;

TEST(ExitCode, EveryCodeHasItsOwn) {
  const std::vector<std::pair<Code, int>> codes = {{Code::kOk, 0},
                                                   {Code::kCancelled, 1},
                                                   {Code::kUnknown, 1},
                                                   {Code::kInvalidArgument, 2},
                                                   {Code::kDeadlineExceeded, 6},
                                                   {Code::kNotFound, 3},
                                                   {Code::kAlreadyExists, 5},
                                                   {Code::kPermissionDenied, 4},
                                                   {Code::kResourceExhausted, 1},
                                                   {Code::kFailedPrecondition, 5},
                                                   {Code::kAborted, 5},
                                                   {Code::kOutOfRange, 1},
                                                   {Code::kUnimplemented, 1},
                                                   {Code::kInternal, 1},
                                                   {Code::kUnavailable, 6},
                                                   {Code::kDataLoss, 1},
                                                   {Code::kUnauthenticated, 4}};
  for (const auto& [code, exit] : codes) {
    EXPECT_EQ(ExitCode(absl::Status(code, code == Code::kOk ? "" : "x")), exit)
        << absl::StatusCodeToString(code);
  }
}

}  // namespace
}  // namespace sae
