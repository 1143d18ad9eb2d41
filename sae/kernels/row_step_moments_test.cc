// RowUpdate with moments in fewer bits: the step of float32 moments between reading and rounding.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/moment_rows.h"
#include "sae/kernels/row_step_reference.h"

namespace sae::kernels {
namespace {

using namespace row_step_reference;  // NOLINT: this test's own reference

std::int64_t GlobalId(std::int64_t local) { return 1000 + 7 * local; }

/// Moments of both matrices in `format`, all 0.
struct Store {
  std::vector<std::uint16_t> codes[4];  // enc m, enc v, dec m, dec v; 8 bits use half of it
  std::vector<float> scales[4];
  ReducedMoments view;

  explicit Store(MomentFormat format) {
    for (int i = 0; i < 4; ++i) {
      const std::int64_t d = i < 2 ? kIn : kOut;
      codes[i].assign(static_cast<std::size_t>(kLatents * d), 0);
      scales[i].assign(static_cast<std::size_t>(kLatents * MomentBlocks(d)), 0);
    }
    view.format = format;
    view.seed = 9;
    view.global_id = GlobalId;
    view.encoder = {kIn, codes[0].data(), codes[1].data(), scales[0].data(), scales[1].data()};
    view.decoder = {kOut, codes[2].data(), codes[3].data(), scales[2].data(), scales[3].data()};
  }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  template <class T>
  void ReadInto(State<T>* state) const {
    for (std::int64_t i = 0; i < kLatents; ++i) {
      LoadMoments(view, MomentMatrix::kEncoder, i, state->w_enc_m.data() + i * kIn,
                  state->w_enc_v.data() + i * kIn);
      LoadMoments(view, MomentMatrix::kDecoder, i, state->w_dec_m.data() + i * kOut,
                  state->w_dec_v.data() + i * kOut);
    }
  }
  template <class T>
  void Write(const State<T>& state, std::int64_t step) {
    for (std::int64_t i = 0; i < kLatents; ++i) {
      StoreMoments(view, MomentMatrix::kEncoder, i, step, state.w_enc_m.data() + i * kIn,
                   state.w_enc_v.data() + i * kIn);
      StoreMoments(view, MomentMatrix::kDecoder, i, step, state.w_dec_m.data() + i * kOut,
                   state.w_dec_v.data() + i * kOut);
    }
  }
  void ExpectEqual(const Store& other) const {
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(codes[i], other.codes[i]) << i;
      EXPECT_EQ(scales[i], other.scales[i]) << i;
    }
  }
};

template <class T>
class RowStepMoments : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowStepMoments, Types);

// Each rule, at any number of threads, for steps on which fewer and fewer latents have entries.
TYPED_TEST(RowStepMoments, AStepIsThatOfFloatsBetweenReadingAndRounding) {
  using T = TypeParam;
  for (const MomentFormat format : {MomentFormat::kBf16, MomentFormat::kInt8}) {
    for (const DecoderRule rule : {DecoderRule::kUnit, DecoderRule::kUnitBefore, DecoderRule::kFree,
                                   DecoderRule::kOnTheFly}) {
      SCOPED_TRACE("format " + std::to_string(static_cast<int>(format)) + " rule " +
                   std::to_string(static_cast<int>(rule)));
      State<T> plain(rule), one(rule), three(rule);
      Store plain_store(format), one_store(format), three_store(format);
      RowWorkspace<T> workspace;
      ThreadPool single(1), triple(3);
      for (int t = 1; t <= 5; ++t) {
        const Batch<T> batch(static_cast<std::uint64_t>(100 * t), 0.4 / t, t == 2);
        RowUpdateOptions options;
        options.adam = Adam::At(t, 0.003, 0.9, 0.999, 1e-8);
        options.decoder = rule;
        options.t = t;
        plain_store.ReadInto(&plain);
        const double norm2 = RowUpdate(batch.input(), options, plain.view(), &workspace, single);
        plain_store.Write(plain, t);
        for (auto [state, store, pool] :
             {std::tuple{&one, &one_store, &single}, std::tuple{&three, &three_store, &triple}}) {
          RowParameters<T> view = state->view();
          view.w_enc_m = view.w_enc_v = view.w_dec_m = view.w_dec_v = nullptr;
          view.reduced = &store->view;
          EXPECT_EQ(RowUpdate(batch.input(), options, view, &workspace, *pool), norm2);
          EXPECT_EQ(state->w_enc, plain.w_enc);
          EXPECT_EQ(state->w_dec, plain.w_dec);
          EXPECT_EQ(state->row_scale, plain.row_scale);
          store->ExpectEqual(plain_store);
        }
      }
      // Something was stored, in every one of the four.
      for (const auto& codes : one_store.codes) {
        EXPECT_GT(std::count_if(codes.begin(), codes.end(), [](auto c) { return c != 0; }),
                  kLatents);
      }
    }
  }
}

}  // namespace
}  // namespace sae::kernels
