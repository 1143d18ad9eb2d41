#include "server/auth/audit_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::server {
namespace {

AuditRecord Of(const std::string& method) {
  AuditRecord record;
  record.method = method;
  return record;
}

TEST(AuditQueue, KeepsAllThatWasDone) {
  FakeClock clock;
  AuditQueue queue(clock, {1, 2});
  for (int i = 0; i < 50; ++i) queue.Add(Of("CreateSweep"));
  EXPECT_EQ(queue.Take().size(), 50U);
  EXPECT_TRUE(queue.Take().empty());
}

TEST(AuditQueue, AStormOfRefusalsIsBoundedAndCounted) {
  FakeClock clock;
  AuditQueue queue(clock, {1, 10});
  for (int i = 0; i < 1000; ++i) queue.AddRefused(Of("CreateSweep"));
  EXPECT_EQ(queue.Take().size(), 10U);
  EXPECT_TRUE(queue.Take().empty()) << "the count of the rest has no room either";
  clock.Advance(absl::Seconds(2));
  const auto later = queue.Take();
  ASSERT_EQ(later.size(), 1U);
  EXPECT_EQ(later[0].method, "(refusals)");
  EXPECT_EQ(later[0].resource, "990 more refused calls were not recorded");
  // An hour of it: the burst and one a second, in all.
  std::size_t kept = 0;
  for (int second = 0; second < 3600; ++second) {
    clock.Advance(absl::Seconds(1));
    for (int i = 0; i < 20; ++i) queue.AddRefused(Of("CreateSweep"));
    kept += queue.Take().size();
  }
  EXPECT_LE(kept, 3600U + 10U);
  EXPECT_GE(kept, 3600U);
}

TEST(AuditQueue, AQuietTimeFillsTheAllowanceAgainAndNoMore) {
  FakeClock clock;
  AuditQueue queue(clock, {1, 3});
  for (int i = 0; i < 5; ++i) queue.AddRefused(Of("m"));
  queue.Take();
  clock.Advance(absl::Hours(1));
  EXPECT_EQ(queue.Take().size(), 1U) << "how many were left out";
  for (int i = 0; i < 5; ++i) queue.AddRefused(Of("m"));
  EXPECT_EQ(queue.Take().size(), 2U);
}

TEST(AuditQueue, WhatCannotBeStoredWaitsInItsOrder) {
  FakeClock clock;
  AuditQueue queue(clock, {1, 10});
  queue.Add(Of("First"));
  auto taken = queue.Take();
  queue.Add(Of("Second"));
  queue.PutBack(std::move(taken));
  const auto both = queue.Take();
  ASSERT_EQ(both.size(), 2U);
  EXPECT_EQ(both[0].method, "First");
  EXPECT_EQ(both[1].method, "Second");
}

TEST(AuditQueue, WhatHasNoRoomIsCounted) {
  FakeClock clock;
  AuditQueue queue(clock, {1, 10, 3});
  for (int i = 0; i < 3; ++i) queue.Add(Of("Old"));
  auto old = queue.Take();
  for (int i = 0; i < 3; ++i) queue.Add(Of("New"));
  queue.PutBack(std::move(old));
  for (int i = 0; i < 4; ++i) queue.AddRefused(Of("Refused"));
  const auto taken = queue.Take();
  ASSERT_EQ(taken.size(), 4U);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(taken[i].method, "Old");
  EXPECT_EQ(taken[3].method, "(lost)");
  EXPECT_EQ(taken[3].resource, "7 records found no room while the event log could not be written");
  EXPECT_TRUE(queue.Take().empty());
}

}  // namespace
}  // namespace sae::server
