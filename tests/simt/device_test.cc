#include "tests/simt/device_test.h"

#include <cstring>

#include <gtest/gtest.h>

#include "tests/simt/device_test_run.h"

namespace sae::testing {

struct DeviceTest::Impl {
  DeviceRuntime* runtime = nullptr;
  void* stream = nullptr;
  kernels::cuda::DeviceLibrary* library = nullptr;
  bool on_gpu = false;
  std::vector<void*> buffers;
  Downloads downloads;
};

namespace {

struct BodyEnded {};  // thrown after a failure was reported

[[noreturn]] void End(const std::string& why) {
  ADD_FAILURE() << why;
  throw BodyEnded{};
}

}  // namespace

DeviceRuntime& DeviceTest::runtime() { return *impl_.runtime; }
void* DeviceTest::stream() { return impl_.stream; }
kernels::cuda::DeviceLibrary* DeviceTest::library() { return impl_.library; }
bool DeviceTest::on_gpu() const { return impl_.on_gpu; }

void DeviceTest::Check(kernels::Error error) {
  if (error == kernels::Error::kOk) return;
  const absl::Status status = impl_.runtime->Synchronize(impl_.stream);
  End(std::string(kernels::ErrorName(error)) + "; the stream: " + status.ToString());
}

void DeviceTest::Check(const absl::Status& status) {
  if (!status.ok()) End(status.ToString());
}

void* DeviceTest::AllocateBytes(std::size_t bytes, const std::string& name) {
  auto memory = impl_.runtime->Allocate(static_cast<std::int64_t>(bytes), name);
  Check(memory.status());
  impl_.buffers.push_back(*memory);
  return *memory;
}

void DeviceTest::CopyIn(void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  Check(impl_.runtime->CopyAsync(device, host, static_cast<std::int64_t>(bytes), impl_.stream));
  Check(impl_.runtime->Synchronize(impl_.stream));  // the host's vector may go
}

void DeviceTest::CopyOut(void* host, const void* device, std::size_t bytes) {
  if (bytes > 0) {
    Check(impl_.runtime->CopyAsync(host, device, static_cast<std::int64_t>(bytes), impl_.stream));
  }
  Check(impl_.runtime->Synchronize(impl_.stream));
  const auto* begin = static_cast<const char*>(host);
  impl_.downloads.emplace_back(begin, begin + bytes);
}

Downloads RunBodyOnce(DeviceRuntime& runtime, bool on_gpu, const DeviceTestBody& body) {
  DeviceTest::Impl impl;
  impl.runtime = &runtime;
  impl.on_gpu = on_gpu;
  DeviceTest test(impl);
  try {
    auto stream = runtime.CreateStream();
    test.Check(stream.status());
    impl.stream = *stream;
    test.Check(kernels::cuda::CreateDeviceLibrary(&impl.library));
    body(test);
    test.Check(runtime.Synchronize(impl.stream));
  } catch (const BodyEnded&) {
  }
  for (void* buffer : impl.buffers) runtime.Free(buffer);
  kernels::cuda::DestroyDeviceLibrary(impl.library);
  if (impl.stream != nullptr) runtime.DestroyStream(impl.stream);
  return std::move(impl.downloads);
}

std::string Difference(const Downloads& a, const Downloads& b) {
  if (a.size() != b.size()) {
    return absl::StrCat(a.size(), " downloads, not ", b.size());
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size()) return absl::StrCat("download ", i, " has another size");
    for (std::size_t j = 0; j < a[i].size(); ++j) {
      if (a[i][j] != b[i][j]) return absl::StrCat("download ", i, " differs at byte ", j);
    }
  }
  return "";
}

}  // namespace sae::testing
