// Namespaces are made before anything has a thread. Where they cannot be, tests are skipped and say
// why.

#include <gtest/gtest.h>

#include "tests/multihost/gang_world.h"
#include "tests/multihost/net_hosts.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!testing::GTEST_FLAG(list_tests))
    saeloom::multihost::GangWorld::impossible = saeloom::multihost::EnterOwnNetwork();
  return RUN_ALL_TESTS();
}
