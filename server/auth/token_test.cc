#include "server/auth/token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/auth/token_table.h"

namespace sae::server {
namespace {
using ::testing::HasSubstr;
using ::testing::Not;

/// 0, 1, 2, ... in place of chance.
Entropy Counting() {
  return [next = 0](std::span<std::byte> bytes) mutable {
    for (std::byte& b : bytes) b = static_cast<std::byte>(next++);
    return absl::OkStatus();
  };
}

TEST(Token, HasAPublicIdAndASecretOf160Bits) {
  const auto made = MakeToken(Counting());
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->id, "0123456789");
  EXPECT_EQ(made->text, "saeloom_0123456789_abcdefghjkmnpqrstvwxyz0123456789");
  const auto parts = ParseToken(made->text);
  ASSERT_TRUE(parts.has_value());
  EXPECT_EQ(parts->id, made->id);
  EXPECT_EQ(HashSecret(*parts), made->hash);
  // printf 0123456789_abcdefghjkmnpqrstvwxyz0123456789 | sha256sum
  EXPECT_EQ(made->hash, "c4c9d75eeed2541f14705e222c2eb56e460d109071e8cf7a085971a0ba880f92");
  EXPECT_THAT(made->hash, Not(HasSubstr(parts->secret)));
}

TEST(Token, TwoAreNeverTheSame) {
  const auto a = MakeToken(MachineEntropy), b = MakeToken(MachineEntropy);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE(a->id, b->id);
  EXPECT_NE(a->text, b->text);
}

TEST(Token, WithoutEntropyThereIsNone) {
  const auto made =
      MakeToken([](std::span<std::byte>) { return absl::UnavailableError("no entropy"); });
  EXPECT_TRUE(absl::IsUnavailable(made.status()));
}

TEST(Token, OtherTextIsNone) {
  const std::string good = MakeToken(Counting())->text;
  std::string upper = good;
  upper[9] = 'A';
  for (const std::string& bad :
       {std::string(), std::string("saeloom_"), good + "0", good.substr(1),
        good.substr(0, good.size() - 1), upper, std::string("saeloom_0123456789abcdef"),
        std::string("saeloom_../../../e_abcdefghjkmnpqrstvwxyz0123456789")}) {
    EXPECT_FALSE(ParseToken(bad).has_value()) << bad;
  }
}

class TokenTableTest : public ::testing::Test {
 protected:
  TokenTableTest() {
    made_ = *MakeToken(Counting());
    record_.id = made_.id;
    record_.secret_hash = made_.hash;
    record_.principal = "ann";
    record_.role = "submitter";
    record_.created = now_;
    record_.expires = now_ + absl::Hours(1);
    table_.Load({record_});
  }
  const absl::Time now_ = absl::FromUnixSeconds(1'700'000'000);
  NewToken made_;
  TokenRecord record_;
  TokenTable table_;
};

TEST_F(TokenTableTest, KnowsItsTokensAndRemembersTheirUse) {
  EXPECT_TRUE(table_.TakeUsed().empty());
  const auto who = table_.Authenticate(made_.text, now_);
  ASSERT_TRUE(who.ok()) << who.status();
  EXPECT_EQ(who->name, "ann");
  EXPECT_EQ(who->role, Role::kSubmitter);
  EXPECT_EQ(who->method, "token");
  EXPECT_EQ(who->token_id, made_.id);
  const auto used = table_.TakeUsed();
  ASSERT_EQ(used.size(), 1U);
  EXPECT_EQ(used[0].last_used, now_);
  EXPECT_TRUE(table_.TakeUsed().empty());
}

TEST_F(TokenTableTest, AWrongSecretAndAnUnknownIdLookTheSame) {
  std::string wrong = made_.text;
  wrong.back() = wrong.back() == '0' ? '1' : '0';
  std::string unknown = made_.text;
  unknown[8] = 'z';
  const absl::Status a = table_.Authenticate(wrong, now_).status();
  const absl::Status b = table_.Authenticate(unknown, now_).status();
  EXPECT_TRUE(absl::IsUnauthenticated(a)) << a;
  EXPECT_EQ(a, b);
  EXPECT_THAT(Message(a), Not(HasSubstr(made_.id)));
}

TEST_F(TokenTableTest, RevokedAndExpiredOnesAreNamed) {
  EXPECT_TRUE(table_.Check(made_.id, now_).ok());
  const absl::Status expired = table_.Authenticate(made_.text, record_.expires).status();
  EXPECT_TRUE(absl::IsUnauthenticated(expired));
  EXPECT_THAT(Message(expired), HasSubstr("has expired at 2023-11-14T23:13:20Z"));
  EXPECT_FALSE(table_.Check(made_.id, record_.expires).ok());
  record_.revoked = true;
  table_.Put(record_);
  EXPECT_THAT(Message(table_.Authenticate(made_.text, now_).status()),
              HasSubstr("of ann was revoked"));
  EXPECT_FALSE(table_.Check(made_.id, now_).ok());
  EXPECT_FALSE(table_.Check("nothing", now_).ok());
}

TEST_F(TokenTableTest, AnAdminCountsWhileItsTokenIsGood) {
  EXPECT_FALSE(table_.HasAdmin(now_));
  record_.role = "admin";
  table_.Put(record_);
  EXPECT_TRUE(table_.HasAdmin(now_));
  EXPECT_FALSE(table_.HasAdmin(record_.expires));
}

}  // namespace
}  // namespace sae::server
