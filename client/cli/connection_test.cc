#include "client/cli/connection.h"

#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/context_file.h"
#include "client/cli/testing/cli_fixture.h"

namespace sae::cli {
namespace {
using ::testing::HasSubstr;

class ConnectionTest : public testing::CliFixture {
 protected:
  ConnectionTest() {
    t_.variables.clear();
    t_.variables["HOME"] = t_.directory + "/home";
  }
  std::string Target(const ConnectionFlags& flags = {}) {
    const auto c = ResolveConnection(flags, t_.world);
    return c.ok() ? c->address.target : std::string(c.status().ToString());
  }
  std::string File() { return t_.directory + "/home/.config/saeloom/config.yaml"; }
};

TEST_F(ConnectionTest, FlagThenVariableThenContextThenFileInAParent) {
  EXPECT_THAT(Target(), HasSubstr("saeloom up"));
  t_.Write(".saeloom/address", "127.0.0.1:7001\n");
  t_.world.directory = t_.directory + "/a/b";
  EXPECT_EQ(Target(), "127.0.0.1:7001");
  EXPECT_EQ(ResolveConnection({}, t_.world)->address.origin, t_.directory + "/.saeloom/address");
  ASSERT_EQ(Run({"context", "set", "prod", "--server", "prod:7004"}), 0) << err();
  ASSERT_EQ(Run({"context", "set", "test", "--server", "test:7005"}), 0) << err();
  EXPECT_EQ(Target(), "prod:7004");
  t_.variables["SAELOOM_CONTEXT"] = "test";
  EXPECT_EQ(Target(), "test:7005");
  t_.variables["SAELOOM_ADDR"] = "host:7002";
  EXPECT_EQ(Target(), "host:7002");
  ConnectionFlags flags;
  flags.context = "prod";
  EXPECT_EQ(Target(flags), "prod:7004");
  flags.server = "other:7003";
  EXPECT_EQ(Target(flags), "other:7003");
  flags = {};
  flags.context = "none";
  EXPECT_THAT(Target(flags), HasSubstr("no context none: known are prod, test"));
  for (const char* bad : {"host", "host:", ":7", "host:0", "host:70000", "host:x"}) {
    flags = {};
    flags.server = bad;
    EXPECT_THAT(Target(flags), HasSubstr("INVALID_ARGUMENT")) << bad;
  }
}

TEST_F(ConnectionTest, CredentialsOfAContextGoToItsServerAlone) {
  ASSERT_EQ(Run({"context", "set", "prod", "--server", "prod:1", "--ca", "ca.pem", "--token-file",
                 "ann.token"}),
            0)
      << err();
  auto c = ResolveConnection({}, t_.world);
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->context, "prod");
  EXPECT_EQ(c->credentials.tls.ca, t_.directory + "/ca.pem");
  EXPECT_EQ(c->credentials.token_file, t_.directory + "/ann.token");
  t_.variables["SAELOOM_TOKEN_FILE"] = "/env.token";
  EXPECT_EQ(ResolveConnection({}, t_.world)->credentials.token_file, "/env.token");
  ConnectionFlags flags;
  flags.context = "prod";
  EXPECT_EQ(ResolveConnection(flags, t_.world)->credentials.token_file,
            t_.directory + "/ann.token");
  flags.credentials.token_file = "/flag.token";
  EXPECT_EQ(ResolveConnection(flags, t_.world)->credentials.token_file, "/flag.token");
  flags = {};
  flags.server = "other:1";
  c = ResolveConnection(flags, t_.world);
  EXPECT_EQ(c->credentials.tls.ca, "");
  EXPECT_EQ(c->credentials.token_file, "/env.token");
}

TEST_F(ConnectionTest, ATokenIsNotSentWithoutTls) {
  t_.Write("ann.token", "secret\n");
  EXPECT_EQ(Run({"list", "--server", "prod.example:7411", "--token-file", "ann.token"}), 2);
  EXPECT_THAT(err(), HasSubstr("a token is never sent without TLS"));
}

TEST_F(ConnectionTest, ContextsAreListedUsedChangedAndDeleted) {
  ASSERT_EQ(Run({"context", "list"}), 0);
  EXPECT_THAT(out(), HasSubstr("no contexts yet"));
  EXPECT_EQ(Run({"context", "set", "prod"}), 2);
  EXPECT_EQ(Run({"context", "set", "Bad Name", "--server", "h:1"}), 2);
  ASSERT_EQ(Run({"context", "set", "prod", "--server", "prod:1"}), 0) << err();
  EXPECT_EQ(out(), "context prod: prod:1, in use\n");
  ASSERT_EQ(Run({"context", "set", "test", "--server", "test:1"}), 0);
  EXPECT_EQ(out(), "context test: test:1\n");
  struct stat st {};
  ASSERT_EQ(::stat(File().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  ASSERT_EQ(Run({"context", "use", "test"}), 0);
  ASSERT_EQ(Run({"context", "set", "prod", "--ca", "/etc/ca.pem"}), 0);
  ASSERT_EQ(Run({"context", "list"}), 0);
  EXPECT_EQ(out(),
            "CURRENT  CONTEXT  SERVER  CA           TOKEN FILE\n"
            "         prod     prod:1  /etc/ca.pem  -\n"
            "*        test     test:1  -            -\n");
  ASSERT_EQ(Run({"context", "list", "-o", "name"}), 0);
  EXPECT_EQ(out(), "prod\ntest\n");
  ASSERT_EQ(Run({"context", "list", "-o", "jsonl"}), 0);
  EXPECT_EQ(out(),
            "{\"name\":\"prod\",\"current\":false,\"server\":\"prod:1\",\"ca\":\"/etc/ca.pem\"}\n"
            "{\"name\":\"test\",\"current\":true,\"server\":\"test:1\"}\n");
  ASSERT_EQ(Run({"context", "delete", "test"}), 0);
  EXPECT_EQ(Run({"context", "use", "test"}), 3);
  EXPECT_EQ(Run({"context", "delete", "test"}), 3);
  EXPECT_EQ(LoadContexts(t_.world)->current, "");
}

TEST_F(ConnectionTest, ABrokenFileIsNamed) {
  t_.Write("home/.config/saeloom/config.yaml", "contexts: {prod: {sever: h:1}}\n");
  EXPECT_EQ(Run({"list"}), 2);
  EXPECT_THAT(err(), HasSubstr("config.yaml: contexts.prod: unknown key sever"));
  t_.variables.clear();
  EXPECT_EQ(Run({"context", "list"}), 5);
  EXPECT_THAT(err(), HasSubstr("$XDG_CONFIG_HOME"));
}

}  // namespace
}  // namespace sae::cli
