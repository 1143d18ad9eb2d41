#include "sae/kernels/gradient_rows.h"

#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/row_step_reference.h"

namespace sae::kernels {
namespace {

using namespace row_step_reference;  // NOLINT: the row step's own data

template <class T>
class GradientRowsTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(GradientRowsTest, Types);

TYPED_TEST(GradientRowsTest, AreTheBitsOfTheRowStep) {
  using T = TypeParam;
  for (const bool extras : {false, true}) {
    State<T> state(DecoderRule::kFree);
    const Batch<T> batch(7, 0.3, extras);
    int with_gradient = 0;
    for (std::int64_t i = 0; i < kLatents; ++i) {
      std::vector<T> dec(kOut, T(9)), enc(kIn, T(9)), dec_row(kOut, T(8)), enc_row(kIn, T(8));
      const RowsWithGradient expected =
          RowGradient(batch.input(), state.w_dec.data(), i, dec.data(), enc.data());
      const RowsWithGradient with = MakeGradientRows(batch.input(), state.w_dec.data(), i, T(1),
                                                     dec_row.data(), enc_row.data());
      EXPECT_EQ(with.dec, expected.dec);
      EXPECT_EQ(with.enc, expected.enc);
      EXPECT_EQ(dec_row, dec);
      EXPECT_EQ(enc_row, enc);
      with_gradient += with.dec ? 1 : 0;
      MakeGradientRows(batch.input(), state.w_dec.data(), i, T(0.25), dec_row.data(),
                       enc_row.data());
      for (T& v : dec) v *= T(0.25);
      for (T& v : enc) v *= T(0.25);
      EXPECT_EQ(dec_row, dec);
      EXPECT_EQ(enc_row, enc);
    }
    EXPECT_GT(with_gradient, 0);
  }
}

}  // namespace
}  // namespace sae::kernels
