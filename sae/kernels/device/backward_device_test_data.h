#pragma once
// For the tests of the backward kernels on a device: copies of the host's test data there.

#include <string>
#include <vector>

#include "sae/kernels/device/backward_test_data.h"
#include "tests/simt/device_test.h"

namespace sae::kernels::testing {

using sae::testing::DeviceTest;

inline device::DeviceCodes Upload(DeviceTest& t, const HostCodes& codes) {
  return {codes.codes.tokens,
          codes.capacity,
          t.Upload(codes.indptr, "indptr"),
          t.Upload(codes.ids, "ids"),
          t.Upload(codes.rows, "rows"),
          t.Upload(codes.values, "values")};
}
inline device::DeviceIndex UploadIndex(DeviceTest& t, const HostCodes& codes) {
  return {codes.codes.latents, t.Upload(codes.index_indptr, "index.indptr"),
          t.Upload(codes.index_entries, "index.entries")};
}
inline device::WeightRows Upload(DeviceTest& t, const SplitWeights& w, bool joined) {
  return {t.Upload(w.hi, "hi"), joined ? t.Upload(w.lo, "lo") : nullptr};
}
template <class T>
T* UploadScalar(DeviceTest& t, T value, const std::string& name) {
  return t.Upload(std::vector<T>{value}, name);
}

}  // namespace sae::kernels::testing
