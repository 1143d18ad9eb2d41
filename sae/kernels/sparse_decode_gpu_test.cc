#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

/// Device memory with a copy of `host`.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& host) : count_(host.size()) {
    EXPECT_EQ(cudaMalloc(&data_, count_ * sizeof(T) + 1), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  ~OnDevice() { cudaFree(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  T* get() const { return data_; }
  std::vector<T> Host() const {
    std::vector<T> out(count_);
    EXPECT_EQ(cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return out;
  }

 private:
  std::size_t count_;
  T* data_ = nullptr;
};

template <class T>
void MatchesCpu(double tolerance) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device";
  ThreadPool pool(1);
  for (const std::int64_t d : {1, 100, 576}) {
    const std::int64_t tokens = 300;
    const std::int64_t latents = 500;
    const Codes<T> codes = testing::RandomCodes<T>(3, tokens, latents, 0.1);
    const auto decoder = testing::Normal<T>(4, latents * d);
    auto out = testing::Normal<T>(6, tokens * d);
    const OnDevice indptr(codes.indptr);
    const OnDevice ids(codes.ids);
    const OnDevice values(codes.values);
    const OnDevice w(decoder);
    const OnDevice x(out);
    const auto scales = testing::Normal<T>(7, latents);
    const OnDevice row_scale(scales);
    for (const bool scaled : {false, true}) {  // the second adds to what the first left
      ASSERT_EQ(SparseDecode<T>(Device::kCuda,
                                {indptr.get(), ids.get(), values.get(), w.get(), x.get(), tokens, d,
                                 scaled ? row_scale.get() : nullptr},
                                pool),
                Error::kOk);
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      ASSERT_EQ(
          SparseDecode<T>(Device::kCpu,
                          {codes.indptr.data(), codes.ids.data(), codes.values.data(),
                           decoder.data(), out.data(), tokens, d, scaled ? scales.data() : nullptr},
                          pool),
          Error::kOk);
    }
    const std::vector<T> actual = x.Host();
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(actual[i], out[i], tolerance) << i;
  }
}

TEST(SparseDecodeGpu, FloatMatchesCpu) { MatchesCpu<float>(1e-5); }
TEST(SparseDecodeGpu, DoubleMatchesCpu) { MatchesCpu<double>(1e-13); }

}  // namespace
}  // namespace sae::kernels
