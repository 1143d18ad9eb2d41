// The row-owner kernel against its partner. The encoder's row has no float64 sum in it: its bits
// are the partner's. The decoder's radial factor and norms are float64 sums in another order,
// rounded to float32: now and then they differ by one unit in the last place, and so may what
// follows from them.
#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/moment_format.h"
#include "sae/kernels/row_ops.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using device::RowRule;
using device::RowUpdateParams;
using Format = device::MomentFormat;
using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::SplitWeights;

constexpr RowRule kRules[] = {RowRule::kUnit, RowRule::kUnitBefore, RowRule::kFree,
                              RowRule::kOnTheFly};

struct Case {
  std::int64_t d = 7;
  RowRule rule = RowRule::kUnit;
  Format format = Format::kF32;
  std::int64_t tokens = 23, latents = 15;
  std::int64_t hot = 0;  ///< latents that fire on every token
  double density = 0.15;
  bool dense = false;  ///< dense_delta, norm_gradient
  bool x_bf16 = false;
  bool scaled = false;  ///< gradient_scale
  bool hi_only = false;
  bool measure = false;
  double beta1 = 0.9;
  bool deferred = false;  ///< decoder rows; the auxiliary term reaches the encoder alone
  bool lazy = false;      ///< with beta1 = 0; the auxiliary term reaches the encoder alone
  std::int32_t enabled = 1, go = 1;
  device::RowTuning tuning;
};

/// A matrix's moments as bytes.
struct Moments {
  Moments(Format format_of, std::int64_t latents, std::int64_t d, std::uint64_t seed)
      : format(format_of) {
    const std::vector<float> normal = Normal<float>(seed, latents * d, 0.01);
    for (std::int64_t i = 0; i < latents; ++i) {
      // Rows at rest, with or without v, and rows that move.
      for (std::int64_t j = i * d; j < (i + 1) * d; ++j) {
        const float value = normal[At(j)];
        m_values.push_back(i % 3 == 0 ? 0.0F : value);
        v_values.push_back(i % 6 == 0 ? 0.0F : value * value + 1e-6F);
      }
    }
    Encode(m_values, latents, d, Moment::kFirst, &m, &m_scales);
    Encode(v_values, latents, d, Moment::kSecond, &v, &v_scales);
  }
  void Encode(const std::vector<float>& values, std::int64_t latents, std::int64_t d, Moment moment,
              std::vector<std::uint8_t>* bytes, std::vector<float>* scales) const {
    const std::size_t size = format == Format::kF32 ? 4 : format == Format::kBf16 ? 2 : 1;
    bytes->resize(values.size() * size);
    scales->resize(At(latents * MomentBlocks(d)));
    for (std::int64_t i = 0; i < latents; ++i) {
      const float* row = values.data() + i * d;
      std::uint8_t* out = bytes->data() + At(i * d) * size;
      if (format == Format::kF32) {
        std::memcpy(out, row, At(d) * 4);
      } else if (format == Format::kBf16) {
        EncodeBf16Row(0, d, row, {}, moment, MomentRounding::kNearest,
                      reinterpret_cast<std::uint16_t*>(out));
      } else {
        Encode8Row(0, d, row, {}, moment, MomentRounding::kNearest, out,
                   scales->data() + i * MomentBlocks(d));
      }
    }
  }
  device::MomentRows view() {
    return {format, m.data(), v.data(), m_scales.data(), v_scales.data()};
  }
  device::MomentRows Upload(DeviceTest& t) const {
    return {format, t.Upload(m, "m"), t.Upload(v, "v"), t.Upload(m_scales, "m_scales"),
            t.Upload(v_scales, "v_scales")};
  }
  void Fetch(DeviceTest& t, const device::MomentRows& rows) {
    m = t.Download(static_cast<std::uint8_t*>(rows.m), m.size());
    v = t.Download(static_cast<std::uint8_t*>(rows.v), v.size());
    m_scales = t.Download(rows.m_scales, m_scales.size());
    v_scales = t.Download(rows.v_scales, v_scales.size());
  }
  Format format;
  std::vector<float> m_values, v_values, m_scales, v_scales;
  std::vector<std::uint8_t> m, v;
};

struct Data {
  explicit Data(const Case& c)
      : shape(c),
        d_out(c.d == 100  ? 77
              : c.d == 36 ? 44
                          : c.d),
        main(testing::MakeCodes(1, c.tokens, c.latents, c.density, c.hot)),
        aux(testing::MakeCodes(2, c.tokens, c.latents, c.density / 2)),
        x(Normal<float>(3, c.tokens * c.d)),
        b_dec(Normal<float>(4, c.d)),
        delta_sums(Normal<float>(5, c.latents)),
        dense(Normal<float>(6, c.latents, 0.1)),
        x_sum(Normal<float>(7, c.d)),
        enc(Normal<float>(8, c.latents * c.d)),
        dec(UnitRows(c.latents)),
        enc_moments(c.format, c.latents, c.d, 10),
        dec_moments(c.format, c.latents, d_out, 11),
        row_scale(At(c.latents), 0.5F),
        norms(At(c.latents), -1.0) {
    for (const float value : x) x_half.push_back(FloatToBf16(value));
    for (std::uint64_t s = 0; s < 3; ++s) g[s] = Normal<float>(12 + s, c.tokens * d_out);
    delta = testing::PerEntry(15, main);
    aux_delta = testing::PerEntry(16, aux);
    const Adam a = Adam::At(kStep, 0.01, c.lazy ? 0 : c.beta1, 0.99, 1e-8);
    adam = {a.lr, a.beta1, a.beta2, a.epsilon, a.correction1, a.correction2, kStep};
    // Current, or resting for up to four steps.
    for (std::int64_t i = 0; i < c.latents; ++i) last_step.push_back(i % kStep);
  }
  SplitWeights UnitRows(std::int64_t latents) const {
    std::vector<float> w = Normal<float>(9, latents * d_out);
    for (std::int64_t i = 0; i < latents; ++i) {
      RenormaliseRow(d_out, w.data() + i * d_out);
      // Where the rule is applied before a step, rows lie off the sphere.
      if (shape.rule == RowRule::kUnitBefore) Scale(d_out, 1.1F, w.data() + i * d_out);
    }
    return SplitWeights(w);
  }

  /// Everything but pointers.
  RowUpdateParams Shape() const {
    RowUpdateParams p;
    p.latents = shape.latents;
    p.d = shape.d;
    p.d_out = d_out;
    p.scale = 0.7F;
    p.rule = shape.rule;
    p.seed = 99;
    p.first_global = 1000;
    p.measure_only = shape.measure;
    p.tuning = shape.tuning;
    return p;
  }
  /// Two groups of the main codes, the auxiliary ones, and a term without f or delta.
  template <class Put>
  void SetTerms(const device::DeviceIndex& index, const std::int32_t* rows,
                const device::DeviceIndex& aux_index, const std::int32_t* aux_rows, const Put& put,
                const std::int32_t* enabled, RowUpdateParams* p) {
    const auto* const f = put(main.values);
    const auto* const d = put(delta);
    const auto half = static_cast<std::int32_t>(shape.latents / 2);
    p->terms_count = 4;
    p->terms[0] = {index, rows, f, d, put(g[0]), 0, half, nullptr};
    p->terms[1] = {index, rows, f, d, put(g[1]), half, 0x7fffffff, nullptr};
    p->terms[2] = {aux_index, aux_rows, put(aux.values), put(aux_delta),
                   put(g[2]), 0,        0x7fffffff,      enabled};
    p->terms[3] = {aux_index, aux_rows, nullptr, nullptr, nullptr, 0, 0x7fffffff, nullptr};
    p->b_dec = put(b_dec);
    p->delta_sums = put(delta_sums);
    if (shape.dense) {
      p->dense_delta = put(dense);
      p->norm_gradient = put(delta_sums);
      p->x_sum = put(x_sum);
    }
    if (!shape.x_bf16) p->x = put(x);
    if (shape.lazy || shape.deferred) p->terms[2].f = nullptr;
  }

  void RunPlain() {
    RowUpdateParams p = Shape();
    SetTerms(
        main.index(), main.rows.data(), aux.index(), aux.rows.data(),
        [](const std::vector<float>& v) { return v.data(); }, &shape.enabled, &p);
    if (shape.x_bf16) p.x_bf16 = x_half.data();
    p.w_enc = enc.mutable_view();
    p.w_dec = dec.mutable_view();
    if (shape.hi_only) p.w_enc.lo = p.w_dec.lo = nullptr;
    p.enc_moments = enc_moments.view();
    p.dec_moments = dec_moments.view();
    if (shape.lazy) p.last_step = last_step.data();
    if (shape.deferred) p.decoder_step = last_step.data();
    p.row_scale = row_scale.data();
    p.adam = &adam;
    if (shape.scaled) p.gradient_scale = &kGradientScale;
    p.go = &shape.go;
    p.norms = norms.data();
    plain::RowUpdate(p);
  }

  void RunOn(DeviceTest& t) {
    RowUpdateParams p = Shape();
    SetTerms(
        testing::UploadIndex(t, main), t.Upload(main.rows, "rows"), testing::UploadIndex(t, aux),
        t.Upload(aux.rows, "aux rows"),
        [&](const std::vector<float>& v) -> const float* { return t.Upload(v, "floats"); },
        testing::UploadScalar(t, shape.enabled, "enabled"), &p);
    if (shape.x_bf16) p.x_bf16 = t.Upload(x_half, "x");
    p.w_enc = {t.Upload(enc.hi, "enc.hi"), shape.hi_only ? nullptr : t.Upload(enc.lo, "enc.lo")};
    p.w_dec = {t.Upload(dec.hi, "dec.hi"), shape.hi_only ? nullptr : t.Upload(dec.lo, "dec.lo")};
    p.enc_moments = enc_moments.Upload(t);
    p.dec_moments = dec_moments.Upload(t);
    if (shape.lazy) p.last_step = t.Upload(last_step, "last_step");
    if (shape.deferred) p.decoder_step = t.Upload(last_step, "decoder_step");
    p.row_scale = t.Upload(row_scale, "row_scale");
    p.adam = testing::UploadScalar(t, adam, "adam");
    if (shape.scaled)
      p.gradient_scale = testing::UploadScalar(t, double{kGradientScale}, "gradient_scale");
    p.go = testing::UploadScalar(t, shape.go, "go");
    p.norms = t.Upload(norms, "norms");
    t.Check(cuda::RowUpdate(p, t.stream()));
    if (shape.lazy) last_step = t.Download(p.last_step, last_step.size());
    if (shape.deferred) last_step = t.Download(p.decoder_step, last_step.size());
    enc.hi = t.Download(p.w_enc.hi, enc.hi.size());
    dec.hi = t.Download(p.w_dec.hi, dec.hi.size());
    if (!shape.hi_only) {
      enc.lo = t.Download(p.w_enc.lo, enc.lo.size());
      dec.lo = t.Download(p.w_dec.lo, dec.lo.size());
    }
    enc_moments.Fetch(t, p.enc_moments);
    dec_moments.Fetch(t, p.dec_moments);
    row_scale = t.Download(p.row_scale, row_scale.size());
    norms = t.Download(p.norms, norms.size());
  }
  static constexpr double kGradientScale = 0.37;
  static constexpr std::int64_t kStep = 5;

  Case shape;
  std::int64_t d_out;
  HostCodes main, aux;
  std::vector<float> x, b_dec, delta_sums, dense, x_sum, g[3], delta, aux_delta;
  std::vector<std::uint16_t> x_half;
  SplitWeights enc, dec;
  Moments enc_moments, dec_moments;
  std::vector<float> row_scale;
  std::vector<double> norms;
  std::vector<std::int64_t> last_step;
  device::AdamScalars adam;
};

std::vector<float> Floats(const std::vector<std::uint8_t>& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// At most 2% of codes differ, by one unit: the value before rounding was off by one float32 place.
void ExpectCodesNear(const Moments& actual, const Moments& expected) {
  if (actual.format == Format::kF32) {
    testing::ExpectNear(Floats(actual.m), Floats(expected.m), 1e-8, "m");
    testing::ExpectNear(Floats(actual.v), Floats(expected.v), 1e-8, "v");
    return;
  }
  for (const auto& [a, b] : {std::pair{&actual.m, &expected.m}, {&actual.v, &expected.v}}) {
    std::size_t different = 0;
    const std::size_t step = actual.format == Format::kBf16 ? 2 : 1;
    for (std::size_t i = 0; i < a->size(); i += step) {
      const int high = step == 2 ? 256 : 0;
      const int x = (*a)[i] + high * (*a)[i + step - 1];
      const int y = (*b)[i] + high * (*b)[i + step - 1];
      ASSERT_LE(std::abs(x - y), 1) << i;
      different += x != y ? 1 : 0;
    }
    EXPECT_LE(different, a->size() / 50);
  }
  testing::ExpectNear(actual.m_scales, expected.m_scales, 1e-8, "m_scales");
  testing::ExpectNear(actual.v_scales, expected.v_scales, 1e-8, "v_scales");
}

void ExpectSameBytes(const Moments& actual, const Moments& expected) {
  EXPECT_EQ(actual.m, expected.m);
  EXPECT_EQ(actual.v, expected.v);
  EXPECT_EQ(actual.m_scales, expected.m_scales);
  EXPECT_EQ(actual.v_scales, expected.v_scales);
}

void EqualsPartner(DeviceTest& t, const Case& shape) {
  Data expected(shape);
  Data actual(shape);
  expected.RunPlain();
  actual.RunOn(t);
  EXPECT_EQ(actual.last_step, expected.last_step);
  const bool long_lists = shape.tokens > 500;  // added in another order
  if (long_lists) {
    testing::ExpectNear(actual.enc.Joined(), expected.enc.Joined(), 1e-6, "w_enc");
    testing::ExpectNear(Floats(actual.enc_moments.m), Floats(expected.enc_moments.m), 1e-5, "m");
  } else {
    EXPECT_EQ(actual.enc.hi, expected.enc.hi);
    EXPECT_EQ(actual.enc.lo, expected.enc.lo);
    ExpectSameBytes(actual.enc_moments, expected.enc_moments);
    ExpectCodesNear(actual.dec_moments, expected.dec_moments);
  }
  if (shape.hi_only) {
    for (std::size_t i = 0; i < actual.dec.hi.size(); ++i)
      ASSERT_LE(std::abs(actual.dec.hi[i] - expected.dec.hi[i]), 1);
  } else {
    testing::ExpectNear(actual.dec.Joined(), expected.dec.Joined(), long_lists ? 1e-6 : 2e-7,
                        "w_dec");
  }
  testing::ExpectNear(actual.row_scale, expected.row_scale, 2e-7, "row_scale");
  testing::ExpectNear(actual.norms, expected.norms, long_lists ? 1e-5 : 1e-6, "norms");
}

void RunCase(const Case& shape) {
  RunDeviceTest([&](DeviceTest& t) { EqualsPartner(t, shape); });
}

TEST(RowUpdateDevice, EqualsItsPartnerUnderEveryRule) {
  for (const RowRule rule : kRules) {
    for (const std::int64_t d : {7, 100}) {
      Case shape;
      shape.d = d;
      shape.rule = rule;
      shape.dense = d == 7;
      shape.scaled = d == 100;
      RunCase(shape);
      shape.beta1 = 0;  // moments that are not 0 and move nothing
      if (d == 7) RunCase(shape);
    }
  }
}

TEST(RowUpdateDevice, EqualsItsPartnerAtAllWidths) {
  for (const std::int64_t d : {1, 32, 577}) {
    Case shape;
    shape.d = d;
    shape.x_bf16 = d == 32;
    RunCase(shape);
  }
}

// Dynamic shared memory below 48 KB, but with the kernel's static arrays more: a GPU must be asked.
TEST(RowUpdateDevice, TakesMoreThan48KbInAll) {
  for (const std::int64_t d : {2304, 4096}) {
    Case shape;
    shape.d = d;
    shape.tokens = 5;
    shape.latents = 2;
    shape.hot = 1;
    RunCase(shape);
  }
}

TEST(RowUpdateDevice, StoresMomentsInEveryFormat) {
  for (const Format format : {Format::kBf16, Format::kInt8}) {
    for (const std::int64_t d : {7, 100, 577}) {
      Case shape;
      shape.d = d;
      shape.format = format;
      shape.dense = d == 7;
      shape.rule = d == 100 ? RowRule::kOnTheFly : RowRule::kUnit;
      RunCase(shape);
    }
  }
}

// Rows in registers: whole quads of columns with 2, 3 and 4 of a thread, and some without.
constexpr std::pair<std::int64_t, int> kQuadShapes[] = {{36, 0},  {256, 0}, {384, 0},
                                                        {512, 4}, {640, 0}, {2176, 0}};

TEST(RowUpdateDevice, KeepsRowsInRegistersUnderEveryRule) {
  for (const auto& [d, quads] : kQuadShapes) {
    for (const RowRule rule : kRules) {
      Case shape;
      shape.d = d;
      shape.tuning.quads = quads;
      shape.rule = rule;
      shape.tokens = 11;
      shape.latents = 7;
      shape.dense = d == 256;
      shape.scaled = d == 384;
      shape.x_bf16 = d != 36;
      shape.beta1 = d == 640 ? 0 : 0.9;
      RunCase(shape);
    }
  }
}

TEST(RowUpdateDevice, KeepsRowsInRegistersWithMomentsInEveryFormat) {
  for (const auto& [d, quads] : kQuadShapes) {
    for (const Format format : {Format::kBf16, Format::kInt8}) {
      Case shape;
      shape.d = d;
      shape.tuning.quads = quads;
      shape.format = format;
      shape.tokens = 11;
      shape.latents = 7;
      shape.rule = d == 512 ? RowRule::kOnTheFly : RowRule::kUnit;
      RunCase(shape);
    }
  }
}

TEST(RowUpdateDevice, RegistersAndSharedMemoryGiveTheSame) {
  for (const int variant : {0, 1, 2, 3, 4}) {
    Case shape;
    shape.d = 256;
    shape.go = variant == 0 ? 0 : 1;
    shape.enabled = variant == 1 ? 0 : 1;
    shape.measure = variant == 2;
    shape.rule = variant == 2 ? RowRule::kUnitBefore : RowRule::kUnit;
    shape.hi_only = variant == 3;
    shape.tuning.latents = variant;  // the last block has fewer
    RunCase(shape);
    shape.tuning.quads = -1;
    RunCase(shape);
  }
}

// Short and long lists side by side, several latents a block in both kernels.
TEST(RowUpdateDevice, FindsTheLongLists) {
  for (const std::int64_t d : {36, 256}) {
    Case shape;
    shape.d = d;
    shape.tokens = 600;
    shape.latents = 71;
    shape.hot = 3;
    shape.density = 0.01;
    shape.tuning.latents = 3;
    shape.tuning.long_blocks = 2;
    RunCase(shape);
  }
}

TEST(RowUpdateDevice, SharesLongListsAmongWarps) {
  for (const RowRule rule : {RowRule::kUnit, RowRule::kFree}) {
    for (const std::int64_t d : {1, 33, 300}) {
      Case shape;
      shape.d = d;
      shape.rule = rule;
      shape.tokens = 600;
      shape.latents = 3;
      shape.hot = 2;
      RunCase(shape);
    }
  }
}

/// Rows in registers and in shared memory, four variants each; most latents have no gradient.
template <class Change>
void RunRestingCases(const Change& change) {
  for (const auto& [d, quads] :
       {std::pair<std::int64_t, int>{7, 0}, {36, 0}, {256, 0}, {384, 0}, {512, 4}, {256, -1}}) {
    for (const int variant : {0, 1, 2, 3}) {
      Case shape;
      shape.d = d;
      shape.tuning.quads = quads;
      shape.tokens = 11;
      shape.density = 0.05;
      shape.rule = variant == 0 ? RowRule::kFree : RowRule::kUnit;
      shape.go = variant == 2 ? 0 : 1;
      shape.enabled = variant == 3 ? 0 : 1;
      change(variant, shape);
      if (d > 300 && variant > 1) continue;
      RunCase(shape);
    }
  }
}

TEST(RowUpdateDevice, LazyRowsEqualTheirPartner) {
  RunRestingCases([](int variant, Case& shape) {
    shape.lazy = true;
    shape.latents = shape.d > 300 ? 37 : 71;
    shape.scaled = variant == 0;
    shape.tuning.latents = variant == 0 ? 40 : variant == 1 ? 5 : 0;
    shape.measure = variant == 1;
  });
}

TEST(RowUpdateDevice, LazyRowsMayHaveLongLists) {
  for (const std::int64_t d : {7, 36}) {
    Case shape;
    shape.d = d;
    shape.lazy = true;
    shape.tokens = 600;
    shape.latents = 71;
    shape.hot = 3;
    shape.density = 0.0004;
    shape.tuning.long_blocks = 2;
    RunCase(shape);
  }
}

TEST(RowUpdateDevice, LazyRowsCatchUp) {
  Case shape;
  shape.d = 100;
  shape.lazy = true;
  RunDeviceTest([&](DeviceTest& t) {
    Data expected(shape), actual(shape);
    device::CatchUpRowsParams p;
    p.latents = shape.latents;
    p.d = shape.d;
    p.d_out = expected.d_out;
    p.beta2 = 0.99;
    p.t = Data::kStep;
    p.last_step = expected.last_step.data();
    p.enc_moments = expected.enc_moments.view();
    p.dec_moments = expected.dec_moments.view();
    plain::CatchUpRows(p);
    p.last_step = t.Upload(actual.last_step, "last_step");
    p.enc_moments = actual.enc_moments.Upload(t);
    p.dec_moments = actual.dec_moments.Upload(t);
    t.Check(cuda::CatchUpRows(p, t.stream()));
    actual.enc_moments.Fetch(t, p.enc_moments);
    actual.dec_moments.Fetch(t, p.dec_moments);
    ExpectSameBytes(actual.enc_moments, expected.enc_moments);
    ExpectSameBytes(actual.dec_moments, expected.dec_moments);
  });
}

// Short and long lists.
TEST(RowUpdateDevice, DeferredRowsEqualTheirPartner) {
  RunRestingCases([](int variant, Case& shape) {
    shape.deferred = true;
    shape.latents = 23;
    shape.dense = variant == 1;
    shape.tuning.latents = variant;
  });
  Case shape;
  shape.d = 36;
  shape.deferred = true;
  shape.tokens = 600;
  shape.latents = 11;
  shape.hot = 2;
  shape.density = 0.0004;
  shape.tuning.long_blocks = 2;
  RunCase(shape);
}

TEST(RowUpdateDevice, DeferredRowsLeaveWhatRestsAlone) {
  Case shape;
  shape.d = 36;
  shape.deferred = true;
  shape.density = 0.02;
  RunDeviceTest([&](DeviceTest& t) {
    const Data before(shape);
    Data after(shape);
    after.RunOn(t);
    int rest = 0;
    for (std::int64_t i = 0; i < shape.latents; ++i) {
      const bool same = std::equal(after.dec.hi.begin() + i * after.d_out,
                                   after.dec.hi.begin() + (i + 1) * after.d_out,
                                   before.dec.hi.begin() + i * after.d_out);
      const bool touched = before.main.index_indptr[At(i)] < before.main.index_indptr[At(i + 1)];
      EXPECT_EQ(after.last_step[At(i)], touched ? Data::kStep : before.last_step[At(i)]);
      EXPECT_EQ(same, !touched) << i;
      rest += touched ? 0 : 1;
    }
    EXPECT_GT(rest, 3);
  });
}

TEST(RowUpdateDevice, FlagsAndMeasuring) {
  for (const int variant : {0, 1, 2, 3}) {
    Case shape;
    shape.d = 33;
    shape.go = variant == 0 ? 0 : 1;
    shape.enabled = variant == 1 ? 0 : 1;
    shape.measure = variant == 2;
    shape.rule = variant == 2 ? RowRule::kUnitBefore : RowRule::kUnit;
    shape.hi_only = variant == 3;
    RunCase(shape);
  }
}

TEST(RowUpdateDevice, RefusesWhatCannotBeRight) {
  RunDeviceTest([](DeviceTest& t) {
    RowUpdateParams p;
    EXPECT_EQ(cuda::RowUpdate(p, t.stream()), Error::kInvalidArgument);
    auto* const floats = t.Allocate<float>(4, "floats");
    p.adam = t.Allocate<device::AdamScalars>(1, "adam");
    p.w_enc.hi = p.w_dec.hi = t.Allocate<std::uint16_t>(4, "hi");
    p.enc_moments.m = p.enc_moments.v = p.dec_moments.m = p.dec_moments.v = floats;
    t.Check(cuda::RowUpdate(p, t.stream()));
    p.d = 40000;  // two rows beyond a block's shared memory
    EXPECT_EQ(cuda::RowUpdate(p, t.stream()), Error::kInvalidArgument);
    p.d = 4;
    p.rule = RowRule::kOnTheFly;
    EXPECT_EQ(cuda::RowUpdate(p, t.stream()), Error::kInvalidArgument);
    p.rule = RowRule::kUnit;
    p.decoder_step = t.Allocate<std::int64_t>(1, "decoder_step");
    t.Check(cuda::RowUpdate(p, t.stream()));
    p.rule = RowRule::kUnitBefore;
    EXPECT_EQ(cuda::RowUpdate(p, t.stream()), Error::kInvalidArgument);
    p.rule = RowRule::kUnit;
    p.dec_moments.format = Format::kBf16;
    EXPECT_EQ(cuda::RowUpdate(p, t.stream()), Error::kInvalidArgument);
    p.dec_moments.format = Format::kF32;
    p.terms_count = device::kMaxTerms + 1;
    EXPECT_EQ(cuda::RowUpdate(p, t.stream()), Error::kInvalidArgument);
  });
}

TEST(RowUpdateDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) {
    Case shape;
    shape.d = 100;
    shape.format = Format::kInt8;
    shape.latents = 6;
    shape.dense = true;
    shape.density = 0.05;
    EqualsPartner(t, shape);
    shape.format = Format::kF32;
    shape.tokens = 600;
    shape.latents = 1;
    shape.hot = 1;
    EqualsPartner(t, shape);
  });
}

}  // namespace
}  // namespace sae::kernels
