#include "sae/kernels/sparse_decode.h"

#include <cmath>

#include <gtest/gtest.h>

#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/test_data.h"

namespace sae::kernels {
namespace {

template <class T>
SparseDecodeParams<T> Params(const Codes<T>& codes, const std::vector<T>& decoder,
                             std::vector<T>* out, std::int64_t d) {
  return {codes.indptr.data(),
          codes.ids.data(),
          codes.values.data(),
          decoder.data(),
          out->data(),
          codes.tokens,
          d};
}

template <class T>
void MatchesReference(double tolerance) {
  for (const std::int64_t d : {1, 7, 64, 577}) {
    const std::int64_t tokens = 41;
    const std::int64_t latents = 60;
    const Codes<T> codes = testing::RandomCodes<T>(3, tokens, latents, 0.3);
    const auto decoder = testing::Normal<T>(4, latents * d);
    const auto g = testing::Normal<T>(5, tokens * d);
    const auto start = testing::Normal<T>(6, tokens * d);
    std::vector<T> first;
    std::vector<T> first_u;
    for (const int threads : {1, 2, 3}) {
      ThreadPool pool(threads);
      std::vector<T> out = start;
      ASSERT_EQ(SparseDecode(Device::kCpu, Params(codes, decoder, &out, d), pool), Error::kOk);
      std::vector<T> u(static_cast<std::size_t>(codes.nnz()));
      LatentGradient(codes, decoder.data(), g.data(), d, u.data(), pool);
      if (threads == 1) {
        first = out;
        first_u = u;
      }
      EXPECT_EQ(out, first);
      EXPECT_EQ(u, first_u);
    }
    for (std::size_t b = 0; b < static_cast<std::size_t>(tokens); ++b) {
      for (std::size_t j = 0; j < static_cast<std::size_t>(d); ++j) {
        auto expected = static_cast<double>(start[b * static_cast<std::size_t>(d) + j]);
        for (std::int64_t e = codes.indptr[b]; e < codes.indptr[b + 1]; ++e) {
          const auto row = static_cast<std::size_t>(codes.ids[static_cast<std::size_t>(e)]);
          expected += static_cast<double>(codes.values[static_cast<std::size_t>(e)]) *
                      static_cast<double>(decoder[row * static_cast<std::size_t>(d) + j]);
        }
        ASSERT_NEAR(first[b * static_cast<std::size_t>(d) + j], expected, tolerance);
      }
      for (std::int64_t e = codes.indptr[b]; e < codes.indptr[b + 1]; ++e) {
        double expected = 0;
        for (std::size_t j = 0; j < static_cast<std::size_t>(d); ++j) {
          const auto row = static_cast<std::size_t>(codes.ids[static_cast<std::size_t>(e)]);
          expected += static_cast<double>(decoder[row * static_cast<std::size_t>(d) + j]) *
                      static_cast<double>(g[b * static_cast<std::size_t>(d) + j]);
        }
        ASSERT_NEAR(first_u[static_cast<std::size_t>(e)], expected,
                    tolerance * std::sqrt(static_cast<double>(d)));
      }
    }
  }
}

TEST(SparseDecode, FloatMatchesReference) { MatchesReference<float>(1e-5); }
TEST(SparseDecode, DoubleMatchesReference) { MatchesReference<double>(1e-13); }

TEST(SparseDecode, RefusesWhatCannotBeRight) {
  ThreadPool pool(1);
  Codes<float> codes;
  codes.Clear(2, 3);
  std::vector<float> decoder(12);
  std::vector<float> out(8, 1.0F);
  SparseDecodeParams<float> params = Params(codes, decoder, &out, 4);
  EXPECT_EQ(SparseDecode(Device::kCpu, params, pool), Error::kOk);
  EXPECT_EQ(out, std::vector<float>(8, 1.0F));  // no entries: nothing is added
  params.tokens = -1;
  EXPECT_EQ(SparseDecode(Device::kCpu, params, pool), Error::kInvalidArgument);
  params.tokens = 2;
  params.output = nullptr;
  EXPECT_EQ(SparseDecode(Device::kCpu, params, pool), Error::kInvalidArgument);
  params.tokens = 0;
  EXPECT_EQ(SparseDecode(Device::kCpu, params, pool), Error::kOk);
}

TEST(ErrorName, NamesEach) {
  EXPECT_STREQ(ErrorName(Error::kOk), "ok");
  EXPECT_NE(std::string(ErrorName(Error::kUnsupportedDevice)).find("SAE_WITH_CUDA"),
            std::string::npos);
}

}  // namespace
}  // namespace sae::kernels
