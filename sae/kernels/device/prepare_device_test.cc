// Preparation on the device against its plain partners.
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/prepare.h"
#include "sae/kernels/device/prepare_test_data.h"
#include "tests/simt/device_test.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;
using testing::SplitRows;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

TEST(PrepareKernels, FoldBiasMatchesItsPartner) {
  for (const std::int64_t d : {1, 31, 33, 100}) {
    for (const bool joined : {true, false}) {
      RunDeviceTest([&](DeviceTest& t) {
        const SplitRows w(11, d);
        const std::vector<float> b_enc = testing::Normal<float>(2, 11);
        const std::vector<float> b_dec = testing::Normal<float>(3, d);
        const device::WeightRows rows = {t.Upload(w.hi, "hi"),
                                         joined ? t.Upload(w.lo, "lo") : nullptr};
        const float* device_enc = t.Upload(b_enc, "b_enc");
        const float* device_dec = t.Upload(b_dec, "b_dec");
        float* device_c = t.Allocate<float>(11, "c");
        for (const int given : {0, 1, 2, 3}) {
          std::vector<float> c(11);
          plain::FoldBias({{w.hi.data(), joined ? w.lo.data() : nullptr},
                           (given & 1) != 0 ? b_enc.data() : nullptr,
                           (given & 2) != 0 ? b_dec.data() : nullptr,
                           c.data(),
                           11,
                           d});
          t.Check(cuda::FoldBias({rows, (given & 1) != 0 ? device_enc : nullptr,
                                  (given & 2) != 0 ? device_dec : nullptr, device_c, 11, d},
                                 t.stream()));
          EXPECT_EQ(t.Download(device_c, 11), c) << d;
        }
      });
    }
  }
}

TEST(PrepareKernels, ToBf16MatchesItsPartner) {
  RunDeviceTest([](DeviceTest& t) {
    const std::vector<float> x = testing::Normal<float>(5, 1001, 1e20);
    std::vector<std::uint16_t> out(x.size());
    plain::ToBf16({x.data(), out.data(), 1001});
    auto* device_out = t.Allocate<std::uint16_t>(out.size(), "out");
    t.Check(cuda::ToBf16({t.Upload(x, "x"), device_out, 1001}, t.stream()));
    EXPECT_EQ(t.Download(device_out, out.size()), out);
  });
}

TEST(PrepareKernels, GatherRowsMatchesItsPartner) {
  for (const std::int64_t d : {1, 45}) {
    for (const bool named : {false, true}) {
      RunDeviceTest([&](DeviceTest& t) {
        const std::int64_t rows = 13;
        const SplitRows w(30, d);
        const std::vector<float> c = testing::Normal<float>(4, 30);
        std::vector<std::int32_t> ids;
        for (std::int32_t i = 0; i < 12; ++i) ids.push_back(2 * i + 3);  // 9 of 13 rows are there
        const std::vector<std::int32_t> count = {12};
        std::vector<float> joined(At(rows * d)), c_out(At(rows));
        std::vector<std::uint16_t> hi(joined.size());
        device::GatherRowsParams host, p;
        host.first = 3;
        host.rows = rows;
        host.d = d;
        if (d > 1) host.all_rows = 14;  // 11 of 13 rows are there
        p = host;
        host.w = {w.hi.data(), w.lo.data()};
        host.c = c.data();
        host.ids = named ? ids.data() : nullptr;
        host.id_count = count.data();
        host.joined = joined.data();
        host.hi = hi.data();
        host.c_out = c_out.data();
        std::vector<std::int32_t> overflow(1, 0);
        host.id_limit = d == 1 ? 11 : 12;  // the first is one too few
        host.overflow = overflow.data();
        plain::GatherRows(host);
        EXPECT_EQ(overflow[0], named && d == 1 ? 1 : 0);
        p.w = {t.Upload(w.hi, "hi"), t.Upload(w.lo, "lo")};
        p.c = t.Upload(c, "c");
        p.ids = named ? t.Upload(ids, "ids") : nullptr;
        p.id_count = t.Upload(count, "count");
        p.joined = t.Allocate<float>(joined.size(), "joined");
        p.hi = t.Allocate<std::uint16_t>(hi.size(), "gathered hi");
        p.c_out = t.Allocate<float>(c_out.size(), "c_out");
        p.id_limit = host.id_limit;
        p.overflow = t.Upload(std::vector<std::int32_t>{0}, "overflow");
        t.Check(cuda::GatherRows(p, t.stream()));
        EXPECT_EQ(t.Download(p.overflow, 1), overflow);
        EXPECT_EQ(t.Download(p.joined, joined.size()), joined);
        EXPECT_EQ(t.Download(p.hi, hi.size()), hi);
        EXPECT_EQ(t.Download(p.c_out, c_out.size()), c_out);
      });
    }
  }
}

TEST(PrepareKernels, FillWritesItsPart) {
  RunDeviceTest([](DeviceTest& t) {
    std::vector<std::int32_t> out(700, 3);
    std::int32_t* device_out = t.Upload(out, "out");
    plain::Fill({out.data() + 1, 698, -7});
    t.Check(cuda::Fill({device_out + 1, 698, -7}, t.stream()));
    EXPECT_EQ(t.Download(device_out, out.size()), out);
  });
}

TEST(PrepareKernels, RefuseSizesOutOfRange) {
  device::FoldBiasParams fold;
  fold.latents = -1;
  EXPECT_EQ(cuda::FoldBias(fold, nullptr), Error::kInvalidArgument);
  device::ToBf16Params to;
  to.count = 1;
  EXPECT_EQ(cuda::ToBf16(to, nullptr), Error::kInvalidArgument);
  device::GatherRowsParams gather;
  gather.rows = -1;
  EXPECT_EQ(cuda::GatherRows(gather, nullptr), Error::kInvalidArgument);
}

}  // namespace
}  // namespace sae::kernels
