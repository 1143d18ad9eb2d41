#pragma once
// Inside tests/simt: one run of a test body on a given runtime.

#include <string>
#include <vector>

#include "sae/base/device_runtime.h"
#include "tests/simt/device_test.h"

namespace sae::testing {

/// Bytes of each download, in order.
using Downloads = std::vector<std::vector<char>>;

/// Runs the body; failures go to gtest. Buffers, stream and library are gone afterwards.
Downloads RunBodyOnce(DeviceRuntime& runtime, bool on_gpu, const DeviceTestBody& body);

/// "download 2 differs at byte 12"; empty: equal.
std::string Difference(const Downloads& a, const Downloads& b);

}  // namespace sae::testing
