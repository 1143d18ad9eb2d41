#include "bench/kernels/ladder_data.h"

#include <cstdio>
#include <cstdlib>

#include "bench/timing.h"
#include "sae/base/random.h"
#include "sae/kernels/split_float.h"

namespace sae::bench {

void Check(const absl::Status& status, const std::string& what) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s: %s\n", what.c_str(), status.ToString().c_str());
  std::exit(1);
}

void Check(kernels::Error error, const std::string& what) {
  if (error == kernels::Error::kOk) return;
  std::fprintf(stderr, "%s: %s\n", what.c_str(), kernels::ErrorName(error));
  std::exit(1);
}

namespace {

template <class T>
T Get(absl::StatusOr<T> value, const std::string& what) {
  Check(value.status(), what);
  return *value;
}

}  // namespace

DeviceData::DeviceData(DeviceRuntime& runtime)
    : runtime_(runtime),
      stream_(Get(runtime.CreateStream(), "stream")),
      begin_(Get(runtime.CreateEvent(), "event")),
      end_(Get(runtime.CreateEvent(), "event")) {}

DeviceData::~DeviceData() {
  for (void* memory : memory_) runtime_.Free(memory);
  runtime_.DestroyEvent(begin_);
  runtime_.DestroyEvent(end_);
  runtime_.DestroyStream(stream_);
}

void* DeviceData::Bytes(std::int64_t bytes, const std::string& name) {
  void* memory = Get(runtime_.Allocate(bytes, name), name);
  memory_.push_back(memory);
  Check(runtime_.MemsetAsync(memory, 0, bytes, stream_), name);
  return memory;
}

void* DeviceData::Copy(const void* host, std::int64_t bytes, const std::string& name) {
  void* memory = Bytes(bytes, name);
  Check(runtime_.CopyAsync(memory, host, bytes, stream_), name);
  Check(runtime_.Synchronize(stream_), name);
  return memory;
}

void DeviceData::CopyBack(void* host, const void* device, std::int64_t bytes) {
  Check(runtime_.CopyAsync(host, device, bytes, stream_), "copy back");
  Check(runtime_.Synchronize(stream_), "copy back");
}

void DeviceData::Start() { Check(runtime_.RecordEvent(begin_, stream_), "event"); }

double DeviceData::Stop() {
  Check(runtime_.RecordEvent(end_, stream_), "event");
  Check(runtime_.SynchronizeEvent(end_), "kernel");
  return Get(runtime_.ElapsedMs(begin_, end_), "time");
}

double DeviceData::MedianOf(std::vector<double> times) { return Median(std::move(times)); }

std::vector<float> Uniform(std::uint64_t seed, std::int64_t count, float scale) {
  std::vector<float> out(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t bits = Mix64(seed * 0x9E3779B97F4A7C15ULL + i) >> 40;
    out[i] = scale * (static_cast<float>(bits) * 0x1p-23F - 1.0F);
  }
  return out;
}

void SplitAll(const std::vector<float>& values, std::vector<std::uint16_t>* hi,
              std::vector<std::int16_t>* lo) {
  hi->resize(values.size());
  lo->resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const kernels::SplitFloat split = kernels::Split(values[i]);
    (*hi)[i] = split.hi;
    (*lo)[i] = split.lo;
  }
}

}  // namespace sae::bench
