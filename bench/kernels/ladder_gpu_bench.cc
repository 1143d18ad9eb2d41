// The device kernels of a TopK step, one after the other, against what the device can do: products
// against a large product by the same library, the rest against a device-to-device copy. Bytes are
// those that a kernel must move at least: rows gathered count once an entry. Each phase checks its
// result for what random data must give before it is timed. Exit 1 where a check fails or there is
// no GPU.
//   ladder_gpu_bench [--latents 65536] [--d 768] [--tokens 8192] [--k 32] [--rounds 20]
//   [--variants]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "bench/kernels/ladder_data.h"
#include "sae/kernels/cuda_runtime.h"
#include "sae/kernels/device/decode.h"
#include "sae/kernels/device/encode.h"
#include "sae/kernels/device/latents.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/device/select.h"
#include "sae/kernels/device/slots.h"
#include "sae/kernels/device_library.h"

namespace sae::bench {
namespace {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

struct Sizes {
  std::int64_t latents = 65536, d = 768, tokens = 8192, k = 32;
  std::int64_t group = 0, chunk = 0;  ///< EncodeSchedule's; 0: its default
  int rounds = 20;
  bool variants = false;
};

class Ladder {
 public:
  Ladder(DeviceRuntime& runtime, const Sizes& sizes) : s_(sizes), data_(runtime) {
    Check(cuda::CreateDeviceLibrary(&library_), "device library");
  }
  ~Ladder() { cuda::DestroyDeviceLibrary(library_); }
  Ladder(const Ladder&) = delete;
  Ladder& operator=(const Ladder&) = delete;

  void Run() {
    Ceilings();
    ChunkProducts();
    MakeWeights();
    Encode();
    MakeCodes();
    DecodePass();
    Index();
    Update();
    Histogram();
  }

 private:
  void* stream() { return data_.stream(); }

  void Expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "wrong result: %s\n", what);
    std::exit(1);
  }

  void PrintFlops(const char* phase, double ms, double flop) {
    const double rate = flop / ms * 1e-9;
    std::printf("%-34s %9.3f ms %9.1f TFLOP/s %6.1f %% of the product's\n", phase, ms, rate,
                100 * rate / product_rate_);
  }
  void PrintBytes(const char* phase, double ms, double bytes) {
    const double rate = bytes / ms * 1e-6;
    std::printf("%-34s %9.3f ms %9.1f GB/s    %6.1f %% of the copy's\n", phase, ms, rate,
                100 * rate / copy_rate_);
  }

  void Ceilings() {
    const std::int64_t bytes = std::int64_t{1} << 29;
    void* from = data_.Bytes(bytes, "copy source");
    void* to = data_.Bytes(bytes, "copy target");
    const double copy = data_.Milliseconds(
        s_.rounds, [&] { Check(data_.runtime().CopyAsync(to, from, bytes, stream()), "copy"); });
    copy_rate_ = 2.0 * static_cast<double>(bytes) / copy * 1e-6;
    PrintBytes("device copy, read and written", copy, 2.0 * static_cast<double>(bytes));
    const std::int64_t n = 8192;
    std::vector<std::uint16_t> hi;
    std::vector<std::int16_t> lo;
    SplitAll(Uniform(1, n * n, 1), &hi, &lo);
    const std::uint16_t* a = factor_ = data_.Upload(hi, "factor");
    float* c = data_.Zeros<float>(n * n, "product");
    const double ms = data_.Milliseconds(s_.rounds, [&] { Product(n, n, n, a, a, c); });
    product_rate_ = 2.0 * static_cast<double>(n * n * n) / ms * 1e-9;
    PrintFlops("bf16 product 8192^3", ms, 2.0 * static_cast<double>(n * n * n));
  }

  /// What products of other chunks, and copies that stay in the cache, would reach.
  void ChunkProducts() {
    const std::int64_t most = std::int64_t{1} << 25;
    float* out = data_.Zeros<float>(most, "products");
    for (const std::int64_t bytes : {std::int64_t{8} << 20, std::int64_t{16} << 20}) {
      const double copy = data_.Milliseconds(s_.rounds, [&] {
        Check(data_.runtime().CopyAsync(out + most / 2, out, bytes, stream()), "copy");
      });
      PrintBytes(bytes >> 20 == 8 ? "copy of 8 MB, in cache" : "copy of 16 MB, in cache", copy,
                 2.0 * static_cast<double>(bytes));
    }
    static constexpr std::int64_t kShapes[][2] = {{512, 16384}, {1024, 8192}, {2048, 4096},
                                                  {4096, 2048}, {1024, 4096}, {2048, 2048},
                                                  {2048, 8192}};
    for (const auto& [m, n] : kShapes) {
      if (std::max(m, n) * s_.d > most) continue;
      const double ms = data_.Milliseconds(s_.rounds, [&] {
        for (int i = 0; i < 8; ++i) Product(m, n, s_.d, factor_, factor_ + most, out);
      });
      char name[64];
      std::snprintf(name, sizeof(name), "product %ld x %ld", static_cast<long>(m),
                    static_cast<long>(n));
      PrintFlops(name, ms / 8, 2.0 * static_cast<double>(m * n * s_.d));
    }
  }

  void Product(std::int64_t m, std::int64_t n, std::int64_t k, const std::uint16_t* a,
               const std::uint16_t* b, float* c) {
    cuda::GemmParams<kernels::bf16> p;
    p.m = m;
    p.n = n;
    p.k = k;
    p.a = a;
    p.lda = k;
    p.b = b;
    p.ldb = k;
    p.c = c;
    p.ldc = n;
    Check(cuda::GemmBf16(library_, p, stream()), "product");
  }

  device::MutableWeightRows Weights(std::uint64_t seed, const char* name) {
    std::vector<std::uint16_t> hi;
    std::vector<std::int16_t> lo;
    SplitAll(Uniform(seed, s_.latents * s_.d, std::sqrt(3.0F / static_cast<float>(s_.d))), &hi,
             &lo);
    return {data_.Upload(hi, name), data_.Upload(lo, name)};
  }

  void MakeWeights() {
    w_enc_ = Weights(2, "w_enc");
    w_dec_ = Weights(3, "w_dec");
    const std::vector<float> x = Uniform(4, s_.tokens * s_.d, 1);
    std::vector<std::uint16_t> hi;
    std::vector<std::int16_t> lo;
    SplitAll(x, &hi, &lo);
    x_ = data_.Upload(x, "x");
    x_bf16_ = data_.Upload(hi, "x_bf16");
    c_ = data_.Zeros<float>(s_.latents, "c");
    finite_ = data_.Upload(std::vector<std::int32_t>{1}, "finite");
  }

  void Encode() {
    device::EncodeParams p;
    p.w = {w_enc_.hi, w_enc_.lo};
    p.c = c_;
    p.latents = s_.latents;
    p.d = s_.d;
    p.x = x_;
    p.x_bf16 = x_bf16_;
    p.tokens = s_.tokens;
    p.finite = finite_;
    if (s_.group > 0) p.schedule.group_tokens = s_.group;
    if (s_.chunk > 0) p.schedule.chunk_columns = s_.chunk;
    p.scratch = data_.Bytes(device::EncodeScratchBytes(p), "encode scratch");
    const double flop = 2.0 * static_cast<double>(s_.tokens) * static_cast<double>(s_.latents) *
                        static_cast<double>(s_.d);
    const std::int64_t rows = std::min(p.schedule.group_tokens, s_.tokens);
    const std::int64_t columns = std::min(p.schedule.chunk_columns, s_.latents);
    float* chunk = data_.Zeros<float>(rows * columns, "chunk");
    const double products = data_.Milliseconds(s_.rounds, [&] {
      for (std::int64_t j = 0; j < s_.latents; j += columns) {
        for (std::int64_t i = 0; i < s_.tokens; i += rows) {
          Product(std::min(rows, s_.tokens - i), std::min(columns, s_.latents - j), s_.d,
                  x_bf16_ + i * s_.d, w_enc_.hi + j * s_.d, chunk);
        }
      }
    });
    PrintFlops("encoder, products of chunks alone", products, flop);
    state_.k = s_.k;
    state_.values = data_.Zeros<float>(s_.tokens * s_.k, "state values");
    state_.ids = data_.Zeros<std::int32_t>(s_.tokens * s_.k, "state ids");
    state_.counts = data_.Zeros<std::int32_t>(s_.tokens, "state counts");
    const auto encode = [&] { Check(device::EncodeTopK(library_, p, state_, stream()), "encode"); };
    encode();
    Expect(data_.Read(state_.counts) == s_.k && data_.Read(finite_) == 1, "k winners a token");
    PrintFlops("encoder, products and selection", data_.Milliseconds(s_.rounds, encode), flop);
  }

  void MakeCodes() {
    slots_.values = data_.Zeros<float>(s_.tokens * s_.k, "slot values");
    slots_.ids = data_.Zeros<std::int32_t>(s_.tokens * s_.k, "slot ids");
    slots_.counts = data_.Zeros<std::int32_t>(s_.tokens, "slot counts");
    slots_.tokens = s_.tokens;
    slots_.capacity = s_.k;
    slots_.overflow = data_.Zeros<std::int32_t>(1, "overflow");
    device::WinnersParams winners;
    winners.values = state_.values;
    winners.ids = state_.ids;
    winners.counts = state_.counts;
    winners.k = s_.k;
    winners.out = slots_;
    codes_.tokens = s_.tokens;
    codes_.capacity = s_.tokens * s_.k;
    codes_.indptr = data_.Zeros<std::int32_t>(s_.tokens + 1, "indptr");
    codes_.ids = data_.Zeros<std::int32_t>(codes_.capacity, "ids");
    codes_.rows = data_.Zeros<std::int32_t>(codes_.capacity, "rows");
    codes_.values = data_.Zeros<float>(codes_.capacity, "values");
    device::SlotsToCodesParams to_codes;
    to_codes.slots = slots_;
    to_codes.out = codes_;
    to_codes.scratch =
        data_.Zeros<std::int32_t>(device::SlotsToCodesScratch(s_.tokens), "codes scratch");
    const auto make = [&] {
      Check(cuda::Winners(winners, stream()), "winners");
      Check(cuda::SlotsToCodes(to_codes, stream()), "codes");
    };
    make();
    entries_ = data_.Read(codes_.indptr + s_.tokens);
    Expect(entries_ > 0 && entries_ <= codes_.capacity, "entries of a batch");
    PrintBytes("winners, codes", data_.Milliseconds(s_.rounds, make),
               static_cast<double>(entries_) * (8 + 8 + 8 + 12));
  }

  void DecodePass() {
    device::TokenPassParams p;
    p.decode.codes = codes_;
    p.decode.f = codes_.values;
    p.decode.w = {w_dec_.hi, w_dec_.lo};
    p.decode.groups.last[0] = static_cast<std::int32_t>(s_.latents);
    h_ = data_.Zeros<float>(s_.tokens * s_.d, "h");
    p.decode.parts = h_;
    p.decode.d = s_.d;
    p.target = x_;
    p.rho = data_.Upload(std::vector<double>{1e-4}, "rho");
    p.x_hat = data_.Zeros<float>(s_.tokens * s_.d, "x_hat");
    p.squares = data_.Zeros<double>(s_.tokens, "squares");
    u_ = data_.Zeros<float>(codes_.capacity, "u");
    p.u = u_;
    const auto pass = [&] { Check(cuda::TokenPass(p, stream()), "decode"); };
    pass();
    const double square = data_.Read(p.squares);
    Expect(square > 0 && std::isfinite(square), "squared error of a token");
    const double row = 4.0 * static_cast<double>(s_.d);
    PrintBytes("decode, error, latent gradients", data_.Milliseconds(s_.rounds, pass),
               row * (static_cast<double>(entries_) + 3.0 * static_cast<double>(s_.tokens)));
  }

  void Index() {
    device::BuildIndexParams p;
    p.codes = codes_;
    index_.latents = s_.latents;
    index_.indptr = data_.Zeros<std::int32_t>(s_.latents + 1, "index indptr");
    index_.entries = data_.Zeros<std::int32_t>(codes_.capacity, "index entries");
    p.out = index_;
    p.scratch_bytes = device::BuildIndexScratchBytes(codes_.capacity, s_.latents);
    p.scratch = data_.Bytes(p.scratch_bytes, "index scratch");
    const auto build = [&] { Check(cuda::BuildIndex(p, stream()), "index"); };
    build();
    Expect(data_.Read(index_.indptr + s_.latents) == entries_, "entries of the index");
    PrintBytes("index by latent", data_.Milliseconds(s_.rounds, build),
               static_cast<double>(entries_) * 8 + static_cast<double>(s_.latents) * 4);
  }

  void Update() {
    device::RowUpdateParams p;
    p.latents = s_.latents;
    p.d = p.d_out = s_.d;
    p.x_bf16 = x_bf16_;
    p.delta_sums = data_.Zeros<float>(s_.latents, "delta sums");
    p.terms_count = 1;
    p.terms[0].index = index_;
    p.terms[0].rows = codes_.rows;
    p.terms[0].f = codes_.values;
    p.terms[0].delta = u_;
    p.terms[0].g = h_;
    p.w_enc = w_enc_;
    p.w_dec = w_dec_;
    const std::int64_t count = s_.latents * s_.d;
    for (device::MomentRows* moments : {&p.enc_moments, &p.dec_moments}) {
      moments->m = data_.Zeros<float>(count, "m");
      moments->v = data_.Zeros<float>(count, "v");
    }
    const device::AdamScalars adam{1e-6, 0.9, 0.999, 1e-8, 0.1, 0.001, 1};
    p.adam = data_.Upload(std::vector<device::AdamScalars>{adam}, "adam");
    // The choice that the sizes ask for, then others; where rows do not allow it, the nearest.
    struct Variant {
      const char* name;
      device::RowTuning tuning;
    };
    constexpr Variant kVariants[] = {{"row update", {}}, {"  rows in shared memory", {-1}},
                                     {"  2 quads", {2}}, {"  2 quads, a latent a block", {2, 1}},
                                     {"  3 quads", {3}}, {"  4 quads", {4}}};
    const auto update = [&] { Check(cuda::RowUpdate(p, stream()), "update"); };
    update();
    Expect(std::isfinite(data_.Read(static_cast<const float*>(p.dec_moments.m))), "moments");
    // Both matrices: weights 4 bytes and moments 8, read and written; each entry's x and g rows.
    const double parameters = 2.0 * static_cast<double>(count);
    for (const Variant& variant : kVariants) {
      if (&variant != kVariants && !s_.variants) break;
      p.tuning = variant.tuning;
      PrintBytes(variant.name, data_.Milliseconds(s_.rounds, update),
                 parameters * 24 + static_cast<double>(entries_) * static_cast<double>(s_.d) * 6);
    }
  }

  void Histogram() {
    device::BatchCut* cut = data_.Zeros<device::BatchCut>(1, "cut");
    std::int64_t* histogram = data_.Zeros<std::int64_t>(device::kRadixBins, "histogram");
    device::RadixHistogramParams count;
    count.slots = slots_;
    count.cut = cut;
    count.histogram = histogram;
    device::RadixPickParams pick;
    pick.histogram = histogram;
    pick.wanted = std::max<std::int64_t>(1, entries_ / 2);
    pick.cut = cut;
    const auto rounds = [&] {
      DeviceRuntime& runtime = data_.runtime();
      Check(runtime.MemsetAsync(cut, 0, sizeof(device::BatchCut), stream()), "cut");
      for (int i = 0; i < 3; ++i) {
        Check(runtime.MemsetAsync(histogram, 0, device::kRadixBins * 8, stream()), "histogram");
        Check(cuda::RadixHistogram(count, stream()), "histogram");
        Check(cuda::RadixPick(pick, stream()), "pick");
      }
    };
    rounds();
    const device::BatchCut found = data_.Read(cut);
    Expect(found.found == entries_ && found.value > 0, "cut of a batch");
    PrintBytes("BatchTopK cut, three rounds", data_.Milliseconds(s_.rounds, rounds),
               3.0 * 4 * static_cast<double>(s_.tokens * s_.k));
  }

  const Sizes s_;
  DeviceData data_;
  cuda::DeviceLibrary* library_ = nullptr;
  double copy_rate_ = 1, product_rate_ = 1;
  const std::uint16_t* factor_ = nullptr;  // 2^26 random values
  device::MutableWeightRows w_enc_, w_dec_;
  const float* x_ = nullptr;
  const std::uint16_t* x_bf16_ = nullptr;
  float* c_ = nullptr;
  std::int32_t* finite_ = nullptr;
  device::TopKState state_;
  device::Slots slots_;
  device::DeviceCodes codes_;
  device::DeviceIndex index_;
  float* h_ = nullptr;
  float* u_ = nullptr;
  std::int64_t entries_ = 0;
};

int Main(int argc, char** argv) {
  Sizes sizes;
  CLI::App app("The device kernels of a TopK step against the device's ceilings");
  app.add_option("--latents", sizes.latents)->check(CLI::Range(1024, 1 << 24));
  app.add_option("--d", sizes.d)->check(CLI::Range(8, 16384));
  app.add_option("--tokens", sizes.tokens)->check(CLI::Range(64, 1 << 17));
  app.add_option("--k", sizes.k)->check(CLI::Range(1, 1024));
  app.add_option("--group", sizes.group, "tokens of a product")->check(CLI::Range(1, 1 << 17));
  app.add_option("--chunk", sizes.chunk, "latents of a product")->check(CLI::Range(1, 1 << 20));
  app.add_option("--rounds", sizes.rounds)->check(CLI::Range(1, 1000));
  app.add_flag("--variants", sizes.variants, "the row update in other ways, too");
  CLI11_PARSE(app, argc, argv);
  auto runtime = kernels::CreateCudaRuntime(0);
  Check(runtime.status(), "ladder");
  std::printf("%s, %ld latents x %ld, %ld tokens, k %ld, median of %d\n",
              (*runtime)->DeviceName().c_str(), static_cast<long>(sizes.latents),
              static_cast<long>(sizes.d), static_cast<long>(sizes.tokens),
              static_cast<long>(sizes.k), sizes.rounds);
  Ladder(**runtime, sizes).Run();
  return 0;
}

}  // namespace
}  // namespace sae::bench

int main(int argc, char** argv) { return sae::bench::Main(argc, argv); }
