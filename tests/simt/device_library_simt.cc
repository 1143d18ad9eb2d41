// The plain twins of sae/kernels/device_library.h. Each call is enqueued as a kernel of one thread,
// so that a fault in it names the buffer. Products: one chain of fused multiply-adds in ascending
// k, from 0; then alpha times the sum, plus beta C, each rounded. Scratch memory is scribbled over.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "sae/kernels/device_library_checks.h"
#include "tests/simt/simt_device.h"

namespace sae::kernels::cuda {

struct DeviceLibrary {};

Error CreateDeviceLibrary(DeviceLibrary** library) {
  *library = new DeviceLibrary;
  return Error::kOk;
}
void DestroyDeviceLibrary(DeviceLibrary* library) { delete library; }

namespace {

// sum[j] = fma(a, b[j], sum[j])
__attribute__((target("avx2,fma"))) void AddRowFma(std::int64_t n, float a, const float* b,
                                                   float* sum) {
  for (std::int64_t j = 0; j < n; ++j) sum[j] = __builtin_fmaf(a, b[j], sum[j]);
}
void AddRow(std::int64_t n, float a, const float* b, float* sum) {
  for (std::int64_t j = 0; j < n; ++j) sum[j] = std::fma(a, b[j], sum[j]);
}

float ToFloat(float value) { return value; }
float ToFloat(bf16 value) { return Bf16ToFloat(value); }

template <class T>
void PlainGemm(const GemmParams<T>& p) {
  const bool fma = __builtin_cpu_supports("fma") != 0 && __builtin_cpu_supports("avx2") != 0;
  std::vector<float> b(static_cast<std::size_t>(p.k * p.n));  // [k, n]
  for (std::int64_t l = 0; l < p.k; ++l) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      b[static_cast<std::size_t>(l * p.n + j)] =
          ToFloat(p.form == GemmForm::kNT ? p.b[j * p.ldb + l] : p.b[l * p.ldb + j]);
    }
  }
  std::vector<float> sum(static_cast<std::size_t>(p.n));
  for (std::int64_t i = 0; i < p.m; ++i) {
    std::fill(sum.begin(), sum.end(), 0.0F);
    for (std::int64_t l = 0; l < p.k; ++l) {
      const float a = ToFloat(p.form == GemmForm::kTN ? p.a[l * p.lda + i] : p.a[i * p.lda + l]);
      (fma ? AddRowFma : AddRow)(p.n, a, b.data() + l * p.n, sum.data());
    }
    float* c = p.c + i * p.ldc;
    for (std::int64_t j = 0; j < p.n; ++j) {
      const float product = p.alpha * sum[static_cast<std::size_t>(j)];
      c[j] = p.beta == 0 ? product : product + p.beta * c[j];
    }
  }
}

template <class T>
Error EnqueueGemm(const char* name, DeviceLibrary* library, const GemmParams<T>& params,
                  void* stream) {
  if (library == nullptr || !Valid(params)) return Error::kInvalidArgument;
  if (params.m == 0 || params.n == 0) return Error::kOk;
  return simt::Enqueue(name, 1, 1, 0, stream, [params] { PlainGemm(params); });
}

void PlainSort(const SortPairsParams& p) {
  std::memset(p.scratch, 0xA5, SortPairsScratchBytes(p.capacity));
  const std::int64_t count = p.count == nullptr ? p.capacity : *p.count;
  std::fill(p.keys_in + count, p.keys_in + p.capacity, 0xFFFFFFFFU);
  std::fill(p.keys_out + count, p.keys_out + p.capacity, 0xFFFFFFFFU);
  std::fill(p.values_out + count, p.values_out + p.capacity, 0xA5A5A5A5U);
  const std::uint32_t mask = p.key_bits == 32 ? 0xFFFFFFFFU : (1U << p.key_bits) - 1U;
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return (p.keys_in[a] & mask) < (p.keys_in[b] & mask);
  });
  for (std::int64_t i = 0; i < count; ++i) {
    p.keys_out[i] = p.keys_in[order[static_cast<std::size_t>(i)]];
    p.values_out[i] = p.values_in[order[static_cast<std::size_t>(i)]];
  }
}

template <class T>
Error EnqueueScan(const ExclusiveScanParams<T>& params, void* stream) {
  if (!Valid(params)) return Error::kInvalidArgument;
  return simt::Enqueue("ExclusiveScan", 1, 1, 0, stream, [params] {
    std::memset(params.scratch, 0xA5, ExclusiveScanScratchBytes(params.n));
    std::int64_t sum = 0;
    for (std::int64_t i = 0; i < params.n; ++i) {
      params.out[i] = sum;
      sum += static_cast<std::int64_t>(params.in[i]);
    }
    params.out[params.n] = sum;
  });
}

}  // namespace

Error GemmBf16(DeviceLibrary* library, const GemmParams<bf16>& params, void* stream) {
  return EnqueueGemm("GemmBf16", library, params, stream);
}
Error GemmF32(DeviceLibrary* library, const GemmParams<float>& params, void* stream) {
  return EnqueueGemm("GemmF32", library, params, stream);
}

Error SortPairs(const SortPairsParams& params, void* stream) {
  if (!Valid(params)) return Error::kInvalidArgument;
  if (params.capacity == 0) return Error::kOk;
  return simt::Enqueue("SortPairs", 1, 1, 0, stream, [params] { PlainSort(params); });
}
std::size_t SortPairsScratchBytes(std::int64_t capacity) {
  return 8 * static_cast<std::size_t>(capacity) + 256;
}

Error ExclusiveScan(const ExclusiveScanParams<std::uint32_t>& params, void* stream) {
  return EnqueueScan(params, stream);
}
Error ExclusiveScan(const ExclusiveScanParams<std::int32_t>& params, void* stream) {
  return EnqueueScan(params, stream);
}
Error ExclusiveScan(const ExclusiveScanParams<std::int64_t>& params, void* stream) {
  return EnqueueScan(params, stream);
}
std::size_t ExclusiveScanScratchBytes(std::int64_t n) {
  return static_cast<std::size_t>(n / 64) * 8 + 256;
}

}  // namespace sae::kernels::cuda
