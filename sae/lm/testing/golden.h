#pragma once
// Where the tests of sae/lm find their files. An empty path means "not here", and the reason is
// printed once by whoever skips.

#include <string>

namespace sae::lm::testing {

/// tests/golden/smollm2/FILE of the tree.
std::string GoldenPath(const std::string& file);
/// golden/smollm2/FILE under $SAELOOM_SHARED, else under a folder `shared` beside the tree; "" if
/// absent.
std::string SharedGoldenPath(const std::string& file);
/// The model: $SAELOOM_MODEL, else in the tree's third_party/models; "" if absent.
std::string ModelPath();
/// Why ModelPath() is empty.
std::string NoModelReason();
/// The whole file; aborts when it cannot be read.
std::string ReadFileOrDie(const std::string& path);

}  // namespace sae::lm::testing
