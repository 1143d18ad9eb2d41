#pragma once
// Device memory for the ladder, with random contents, and times by events. Not thread-safe. A
// failure ends the program with its message.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sae/base/device_runtime.h"
#include "sae/kernels/error.h"

namespace sae::bench {

/// Ends the program unless the call succeeded.
void Check(const absl::Status& status, const std::string& what);
void Check(kernels::Error error, const std::string& what);

class DeviceData {
 public:
  explicit DeviceData(DeviceRuntime& runtime);
  ~DeviceData();
  DeviceData(const DeviceData&) = delete;
  DeviceData& operator=(const DeviceData&) = delete;

  DeviceRuntime& runtime() { return runtime_; }
  void* stream() { return stream_; }
  /// Zeros.
  void* Bytes(std::int64_t bytes, const std::string& name);
  template <class T>
  T* Zeros(std::int64_t count, const std::string& name) {
    return static_cast<T*>(Bytes(count * static_cast<std::int64_t>(sizeof(T)), name));
  }
  template <class T>
  T* Upload(const std::vector<T>& host, const std::string& name) {
    return static_cast<T*>(
        Copy(host.data(), static_cast<std::int64_t>(host.size() * sizeof(T)), name));
  }
  template <class T>
  T Read(const T* device) {
    T value;
    CopyBack(&value, device, sizeof(T));
    return value;
  }
  /// Milliseconds of one call: the median of `rounds` after two that do not count.
  template <class Work>
  double Milliseconds(int rounds, const Work& work) {
    std::vector<double> times;
    for (int i = 0; i < rounds + 2; ++i) {
      Start();
      work();
      const double ms = Stop();
      if (i >= 2) times.push_back(ms);
    }
    return MedianOf(std::move(times));
  }

 private:
  void* Copy(const void* host, std::int64_t bytes, const std::string& name);
  void CopyBack(void* host, const void* device, std::int64_t bytes);
  void Start();
  double Stop();
  static double MedianOf(std::vector<double> times);

  DeviceRuntime& runtime_;
  void* stream_ = nullptr;
  void* begin_ = nullptr;  // events
  void* end_ = nullptr;
  std::vector<void*> memory_;
};

/// Uniform in [-scale, scale), a function of seed and index.
std::vector<float> Uniform(std::uint64_t seed, std::int64_t count, float scale);
/// The halves of split_float.h.
void SplitAll(const std::vector<float>& values, std::vector<std::uint16_t>* hi,
              std::vector<std::int16_t>* lo);

}  // namespace sae::bench
