// The encoder on a GPU: top-k, BatchTopK's candidates and certified top-k beside the products alone
// in the same chunks, so that the quotient is what selection costs. The tests labelled gpu verify
// what is timed here. Medians over `--repeats` by events of the stream; random data, which has as
// many survivors as theory expects.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "sae/base/device_buffer.h"
#include "sae/base/random.h"
#include "sae/kernels/cuda_runtime.h"
#include "sae/kernels/device/encode.h"
#include "sae/kernels/device/prepare.h"
#include "sae/kernels/split_float.h"

namespace sae::bench {
namespace {

using kernels::Error;
namespace device = kernels::device;
namespace cuda = kernels::cuda;

struct Shape {
  std::int64_t latents, d, k, tokens;
};

void Must(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  std::exit(1);
}
template <class T>
T Must(absl::StatusOr<T> value) {
  Must(value.status());
  return *std::move(value);
}
void Must(Error error) {
  if (error == Error::kOk) return;
  std::fprintf(stderr, "%s\n", kernels::ErrorName(error));
  std::exit(1);
}

/// Uniform in (-1, 1), by counter.
float Draw(std::uint64_t seed, std::int64_t i) {
  return static_cast<float>(HashCounter(seed, static_cast<std::uint64_t>(i)) >> 40) * 0x1p-23F - 1;
}

class Bench {
 public:
  Bench(DeviceRuntime& runtime, const Shape& shape, const device::EncodeSchedule& schedule,
        int repeats)
      : runtime_(runtime),
        shape_(shape),
        repeats_(repeats),
        handle_(Must(runtime.CreateStream())),
        stream_(runtime, handle_),
        hi_(Make<std::uint16_t>(shape.latents * shape.d, "hi")),
        lo_(Make<std::int16_t>(shape.latents * shape.d, "lo")),
        c_(Make<float>(shape.latents, "c")),
        x_(Make<float>(shape.tokens * shape.d, "x")),
        x_bf16_(Make<std::uint16_t>(shape.tokens * shape.d, "x_bf16")),
        values_(Make<float>(shape.tokens * shape.k, "values")),
        ids_(Make<std::int32_t>(shape.tokens * shape.k, "ids")),
        counts_(Make<std::int32_t>(shape.tokens, "counts")),
        flags_(Make<std::int32_t>(2, "flags")) {
    Must(cuda::CreateDeviceLibrary(&library_));
    Fill();
    params_.w = {hi_.data(), lo_.data()};
    params_.c = c_.data();
    params_.latents = shape.latents;
    params_.d = shape.d;
    params_.x = x_.data();
    params_.x_bf16 = x_bf16_.data();
    params_.tokens = shape.tokens;
    params_.schedule = schedule;
    params_.finite = flags_.data();
  }
  ~Bench() { cuda::DestroyDeviceLibrary(library_); }

  void Run() {
    const std::int64_t room = 4 * shape_.k + 64;
    auto scratch = Make<char>(
        std::max(CertifiedScratchBytes(params_, shape_.k), EncodeScratchBytes(params_)), "scratch");
    params_.scratch = scratch.data();
    auto slot_values = Make<float>(shape_.tokens * room, "slot values");
    auto slot_ids = Make<std::int32_t>(shape_.tokens * room, "slot ids");
    auto cut = Make<device::BatchCut>(1, "cut");
    auto histogram = Make<std::int64_t>(device::kRadixBins, "histogram");
    auto floor = Make<float>(1, "floor");
    const device::TopKState state = {shape_.k, values_.data(), ids_.data(), counts_.data()};
    const device::LargestParams largest = {shape_.k * shape_.tokens,
                                           {slot_values.data(), slot_ids.data(), counts_.data(),
                                            shape_.tokens, room, flags_.data() + 1},
                                           cut.data(),
                                           histogram.data(),
                                           floor.data()};
    const double products = Time([&] { return Products(); });
    const double top = Time([&] { return EncodeTopK(library_, params_, state, handle_); });
    const double batch = Time([&] { return EncodeLargest(library_, params_, largest, handle_); });
    const double certified =
        Time([&] { return EncodeCertifiedTopK(library_, params_, state, nullptr, handle_); });
    const double flop = 2.0 * static_cast<double>(shape_.latents * shape_.d * shape_.tokens);
    std::printf("%9ld %6ld %5ld %7ld %10.3f %9.0f %10.3f %6.3f %10.3f %6.3f %10.3f %6.3f\n",
                shape_.latents, shape_.d, shape_.k, shape_.tokens, products, flop / products * 1e-9,
                top, top / products, batch, batch / products, certified, certified / products);
  }

 private:
  template <class T>
  DeviceBuffer<T> Make(std::int64_t size, const char* name) {
    return Must(DeviceBuffer<T>::Create(runtime_, size, name));
  }

  void Fill() {
    std::vector<std::uint16_t> hi;
    std::vector<std::int16_t> lo;
    std::vector<float> x, c(static_cast<std::size_t>(shape_.latents), 0.0F);
    for (std::int64_t i = 0; i < shape_.latents * shape_.d; ++i) {
      const kernels::SplitFloat split = kernels::Split(Draw(1, i));
      hi.push_back(split.hi);
      lo.push_back(split.lo);
    }
    for (std::int64_t i = 0; i < shape_.tokens * shape_.d; ++i) x.push_back(Draw(2, i));
    Must(hi_.Upload(hi.data(), handle_));
    Must(lo_.Upload(lo.data(), handle_));
    Must(c_.Upload(c.data(), handle_));
    Must(x_.Upload(x.data(), handle_));
    Must(cuda::ToBf16({x_.data(), x_bf16_.data(), x_.size()}, handle_));
    Must(cuda::Fill({flags_.data(), 1, 1}, handle_));
    Must(cuda::Fill({flags_.data() + 1, 1, 0}, handle_));
    Must(runtime_.Synchronize(handle_));
  }

  /// The chunks' products alone.
  Error Products() {
    const device::EncodeSchedule& s = params_.schedule;
    for (std::int64_t first = 0; first < shape_.latents; first += s.chunk_columns) {
      for (std::int64_t token = 0; token < shape_.tokens; token += s.group_tokens) {
        cuda::GemmParams<kernels::bf16> gemm;
        gemm.m = std::min(s.group_tokens, shape_.tokens - token);
        gemm.n = std::min(s.chunk_columns, shape_.latents - first);
        gemm.k = shape_.d;
        gemm.a = x_bf16_.data() + token * shape_.d;
        gemm.b = hi_.data() + first * shape_.d;
        gemm.lda = gemm.ldb = shape_.d;
        gemm.c = static_cast<float*>(params_.scratch);
        gemm.ldc = std::min(s.chunk_columns, shape_.latents);
        if (const Error e = cuda::GemmBf16(library_, gemm, handle_); e != Error::kOk) return e;
      }
    }
    return Error::kOk;
  }

  double Time(const std::function<Error()>& work) {
    void* start = Must(runtime_.CreateEvent());
    void* stop = Must(runtime_.CreateEvent());
    std::vector<double> ms;
    for (int repeat = -1; repeat < repeats_; ++repeat) {  // the first one warms up
      Must(runtime_.RecordEvent(start, handle_));
      Must(work());
      Must(runtime_.RecordEvent(stop, handle_));
      Must(runtime_.Synchronize(handle_));
      if (repeat >= 0) ms.push_back(Must(runtime_.ElapsedMs(start, stop)));
    }
    runtime_.DestroyEvent(start);
    runtime_.DestroyEvent(stop);
    return Median(ms);
  }

  DeviceRuntime& runtime_;
  const Shape shape_;
  const int repeats_;
  void* handle_;
  DeviceStream stream_;
  cuda::DeviceLibrary* library_ = nullptr;
  DeviceBuffer<std::uint16_t> hi_;
  DeviceBuffer<std::int16_t> lo_;
  DeviceBuffer<float> c_, x_;
  DeviceBuffer<std::uint16_t> x_bf16_;
  DeviceBuffer<float> values_;
  DeviceBuffer<std::int32_t> ids_, counts_, flags_;
  device::EncodeParams params_;
};

int Main(int argc, char** argv) {
  int repeats = 5;
  CLI::App app("The encoder on a GPU, beside its products alone");
  device::EncodeSchedule schedule;
  app.add_option("--repeats", repeats)->check(CLI::PositiveNumber);
  app.add_option("--group", schedule.group_tokens, "tokens of a product")
      ->check(CLI::PositiveNumber);
  app.add_option("--chunk", schedule.chunk_columns, "latents of a product")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  const auto runtime = Must(kernels::CreateCudaRuntime(0));
  std::printf("%s, products of %ld x %ld, medians of %d; ms\n", runtime->DeviceName().c_str(),
              schedule.group_tokens, schedule.chunk_columns, repeats);
  std::printf("%9s %6s %5s %7s %10s %9s %10s %6s %10s %6s %10s %6s\n", "n", "d", "k", "B",
              "products", "TFLOP/s", "topk", "/prod", "batchtopk", "/prod", "certified", "/prod");
  for (const Shape& shape : {Shape{32768, 768, 32, 4096}, Shape{131072, 768, 32, 8192},
                             Shape{131072, 2304, 64, 4096}, Shape{65536, 4096, 128, 4096}}) {
    Bench(*runtime, shape, schedule, repeats).Run();
  }
  return 0;
}

}  // namespace
}  // namespace sae::bench

int main(int argc, char** argv) { return sae::bench::Main(argc, argv); }
