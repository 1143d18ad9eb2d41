// `train.moments`: moments of the matrices in bfloat16 or 8 bits. Steps against the float64
// reference are in engine_architectures_test.
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "sae/train/engine/engine_testing_moments.h"
#include "sae/train/engine/engine_testing_runs.h"

namespace sae::train {
namespace {

using testing::ExpectSameBits;
using testing::RunOutcome;
using testing::RunRequest;
using testing::RunVariant;

constexpr std::int64_t kSteps = 14;

using Parameter = std::tuple<RunVariant, const char*>;

std::vector<RunVariant> DenseRows() {
  std::vector<RunVariant> out = testing::AllVariants();
  std::erase_if(out,
                [](const RunVariant& v) { return testing::ConfigOf(v).train.rows != "dense"; });
  return out;
}

class EngineMoments : public ::testing::TestWithParam<Parameter> {
 protected:
  RunRequest Request(std::int64_t ranks, const char* reduction = "fixed") const {
    const auto& [variant, moments] = GetParam();
    RunRequest r;
    r.config = testing::ConfigOf(variant, ranks);
    r.config.train.reduction = reduction;
    r.config.train.moments = moments;
    r.d_out = variant.d_out;
    r.batches = testing::BatchesOf(r.config, r.d_out, kSteps);
    return r;
  }
};
INSTANTIATE_TEST_SUITE_P(All, EngineMoments,
                         ::testing::Combine(::testing::ValuesIn(DenseRows()),
                                            ::testing::Values("bf16", "int8")),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param).name, "_",
                                               std::get<1>(test.param));
                         });

TEST_P(EngineMoments, RanksThreadsAndResumesGiveTheSameBits) {
  RunRequest r = Request(1);
  r.save_before = {6};
  const RunOutcome one = testing::Run<float>(r);
  EXPECT_LT(one.losses.back(), one.losses.front());
  for (const std::int64_t ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    RunRequest many = Request(ranks);
    many.threads = 2;
    ExpectSameBits(one.end, testing::Run<float>(many).end);
    many.start = &one.before.at(6);
    many.first = 6;
    ExpectSameBits(one.end, testing::Run<float>(many).end);
  }
}

// Other numbers than float32's: the format reaches the parameters.
TEST_P(EngineMoments, AnotherFormatGivesOtherBits) {
  RunRequest r = Request(1);
  const RunOutcome reduced = testing::Run<float>(r);
  r.config.train.moments = "f32";
  const RunOutcome full = testing::Run<float>(r);
  EXPECT_NE(reduced.end.tensors.at("W_enc"), full.end.tensors.at("W_enc"));
  EXPECT_NEAR(reduced.losses.back() / full.losses.back(), 1, 0.1);
}

class EngineMomentsDense : public ::testing::TestWithParam<std::tuple<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(All, EngineMomentsDense,
                         ::testing::Combine(::testing::Values("relu_l1", "gated"),
                                            ::testing::Values("bf16", "int8")),
                         [](const auto& test) {
                           return absl::StrCat(std::get<0>(test.param), "_",
                                               std::get<1>(test.param));
                         });

// The dense step's optimizer is the sparse step's: float64, whose sums differ in the last bits
// only.
TEST_P(EngineMomentsDense, EqualsTheSparseStepAtAnyNumberOfThreads) {
  const auto& [architecture, moments] = GetParam();
  RunRequest r;
  r.config = testing::ConfigOf({"", testing::Penalised(architecture)}, 2);
  r.config.train.moments = moments;
  r.batches = testing::BatchesOf(r.config, r.d_out, 5);
  r.dense_density = 2;
  RunOutcome sparse = testing::Run<double>(r);
  r.dense_density = 0;
  RunOutcome dense = testing::Run<double>(r);
  r.threads = 3;
  ExpectSameBits(dense.end, testing::Run<double>(r).end);
  for (RunOutcome* outcome : {&sparse, &dense})
    testing::ReadMoments(moments, testing::kRunLatents, &outcome->end);
  for (const char* name : {"W_enc", "W_dec", "W_enc.adam_m", "W_dec.adam_m", "W_enc.adam_v"}) {
    const std::vector<double> a = testing::Doubles(sparse.end, name);
    const std::vector<double> b = testing::Doubles(dense.end, name);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-9) << name << " " << i;
  }
}

struct StateSize {
  std::int64_t moments = 0;  // bytes of the matrices' moments, with scales
  std::vector<std::string> names;
};

StateSize SizeOf(const char* moments, std::int64_t width) {
  config::TrialConfig config = testing::TopKConfig(64, 4, 16);
  config.train.moments = moments;
  const auto self = comm::CreateSelf();
  ThreadPool pool(1);
  auto engine = CreateEngine<float>(config, width, *self, pool);
  EXPECT_TRUE(engine.ok()) << engine.status();
  StateSize out;
  for (const model::StateTensor& t : (*engine)->state().tensors) {
    const bool matrix = t.name.rfind("W_", 0) == 0 && t.name.find("adam") != std::string::npos;
    if (!matrix) continue;
    out.moments += testing::RowBytes(t) * 64;
    out.names.push_back(absl::StrCat(t.name, " ", static_cast<int>(t.dtype)));
  }
  return out;
}

TEST(EngineMomentsState, HoldsSixteenOrEightBitsAMoment) {
  constexpr std::int64_t kWidth = 128, kMoments = 4 * 64 * kWidth;
  EXPECT_EQ(SizeOf("f32", kWidth).moments, 4 * kMoments);
  EXPECT_EQ(SizeOf("bf16", kWidth).moments, 2 * kMoments);
  EXPECT_EQ(SizeOf("int8", kWidth).moments, kMoments + kMoments / 64 * 4);
  const auto name = [](const char* tensor, DType dtype) {
    return absl::StrCat(tensor, " ", static_cast<int>(dtype));
  };
  EXPECT_THAT(SizeOf("bf16", kWidth).names,
              ::testing::UnorderedElementsAre(
                  name("W_enc.adam_m", DType::kBf16), name("W_enc.adam_v", DType::kBf16),
                  name("W_dec.adam_m", DType::kBf16), name("W_dec.adam_v", DType::kBf16)));
  EXPECT_THAT(
      SizeOf("int8", kWidth).names,
      ::testing::UnorderedElementsAre(
          name("W_enc.adam_m", DType::kU8), name("W_enc.adam_v", DType::kU8),
          name("W_dec.adam_m", DType::kU8), name("W_dec.adam_v", DType::kU8),
          name("W_enc.adam_m_scale", DType::kF32), name("W_enc.adam_v_scale", DType::kF32),
          name("W_dec.adam_m_scale", DType::kF32), name("W_dec.adam_v_scale", DType::kF32)));
}

}  // namespace
}  // namespace sae::train
