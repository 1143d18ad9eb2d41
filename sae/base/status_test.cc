#include "sae/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace sae {
namespace {

absl::StatusOr<int> Half(int x) {
  if (x % 2) return absl::InvalidArgumentError("odd");
  return x / 2;
}
absl::StatusOr<int> Quarter(int x) {
  SAE_ASSIGN_OR_RETURN(int h, Half(x));
  SAE_ASSIGN_OR_RETURN(h, Half(h));
  return h;
}
absl::Status RefuseOdd(int x) {
  if (x > 0)
    SAE_RETURN_IF_ERROR(Quarter(x).status());
  else
    return absl::OutOfRangeError("neg");
  return absl::OkStatus();
}

TEST(StatusMacros, Propagate) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(StatusMacros, DanglingElseIsSafe) {
  EXPECT_TRUE(RefuseOdd(4).ok());
  EXPECT_EQ(RefuseOdd(-1).code(), absl::StatusCode::kOutOfRange);
}

TEST(Annotate, KeepsCode) {
  EXPECT_EQ(Annotate(absl::NotFoundError("x"), "ctx").message(), "ctx: x");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "ctx").ok());
}

TEST(ErrnoToStatus, MapsTheCodesThatCallersAct) {
  EXPECT_EQ(ErrnoToStatus(ENOENT, "a").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ErrnoToStatus(ENOSPC, "a").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrnoToStatus(EACCES, "a").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(ErrnoToStatus(EIO, "cannot write f").message(), "cannot write f: Input/output error");
}

}  // namespace
}  // namespace sae
