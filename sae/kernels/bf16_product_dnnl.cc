#include <dnnl.hpp>
#include <vector>

#include "sae/kernels/aligned.h"
#include "sae/kernels/bf16_product.h"
#include "sae/kernels/one_omp_thread.h"
#include "sae/kernels/screen.h"

namespace sae::kernels {
namespace {

using dnnl::memory;

std::int64_t RoundedUp(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

}  // namespace

bool Bf16Product::Available() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  constexpr auto kWanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_bf16);
  return (isa & kWanted) == kWanted;
}

/// One primitive for the one chunk shape, and what each thread executes it with.
struct Bf16Product::Impl {
  struct Worker {
    explicit Worker(const Impl& b)
        : stream(b.engine),
          x(b.matmul_desc.src_desc(), b.engine, DNNL_MEMORY_NONE),
          w(b.matmul_desc.weights_desc(), b.engine, DNNL_MEMORY_NONE),
          z(b.matmul_desc.dst_desc(), b.engine, DNNL_MEMORY_NONE),
          scratch(b.matmul_desc.scratchpad_desc(), b.engine),
          plain(b.plain_desc, b.engine, DNNL_MEMORY_NONE),
          pack_scratch(b.pack_desc.scratchpad_desc(), b.engine),
          rows(static_cast<std::size_t>(kScreenLatents * b.padded)) {}
    dnnl::stream stream;
    memory x, w, z, scratch, plain, pack_scratch;
    AlignedVector<std::uint16_t> rows;  ///< one chunk of encoder rows, not packed
  };

  Impl(std::int64_t latents, std::int64_t padded_)
      : padded(padded_), engine(dnnl::engine::kind::cpu, 0) {
    const OneOmpThread one;  // the primitive is laid out for that many
    const memory::desc x_desc({kScreenTokens, padded}, memory::data_type::bf16,
                              memory::format_tag::ab);
    const memory::desc w_desc({padded, kScreenLatents}, memory::data_type::bf16,
                              memory::format_tag::any);
    const memory::desc z_desc({kScreenTokens, kScreenLatents}, memory::data_type::f32,
                              memory::format_tag::ab);
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    matmul_desc = {dnnl::matmul::desc(x_desc, w_desc, z_desc), attr, engine};
    matmul = dnnl::matmul(matmul_desc);
    plain_desc = {{padded, kScreenLatents}, memory::data_type::bf16, memory::format_tag::ba};
    pack_desc = {engine, plain_desc, engine, matmul_desc.weights_desc(), attr};
    pack = dnnl::reorder(pack_desc);
    stride = RoundedUp(static_cast<std::int64_t>(matmul_desc.weights_desc().get_size()), 64);
    packed.resize(
        static_cast<std::size_t>(RoundedUp(latents, kScreenLatents) / kScreenLatents * stride));
  }

  const std::int64_t padded;
  dnnl::engine engine;
  dnnl::matmul::primitive_desc matmul_desc;
  dnnl::matmul matmul;
  memory::desc plain_desc;
  dnnl::reorder::primitive_desc pack_desc;
  dnnl::reorder pack;
  std::int64_t stride = 0;             ///< bytes of a packed chunk
  AlignedVector<std::uint8_t> packed;  ///< all encoder rows
  std::vector<std::unique_ptr<Worker>> workers;
};

Bf16Product::Bf16Product(std::int64_t latents, std::int64_t d)
    : padded_(RoundedUp(d, 32)), impl_(std::make_unique<Impl>(latents, padded_)) {}
Bf16Product::~Bf16Product() = default;

void Bf16Product::AddWorkers(int count) {
  while (impl_->workers.size() < static_cast<std::size_t>(count)) {
    impl_->workers.push_back(std::make_unique<Impl::Worker>(*impl_));
  }
}

std::uint16_t* Bf16Product::Rows(int worker) {
  return impl_->workers[static_cast<std::size_t>(worker)]->rows.data();
}

void Bf16Product::Pack(std::int64_t chunk, int worker) {
  const OneOmpThread one;
  Impl::Worker& own = *impl_->workers[static_cast<std::size_t>(worker)];
  own.plain.set_data_handle(own.rows.data());
  own.w.set_data_handle(impl_->packed.data() + chunk * impl_->stride);
  impl_->pack.execute(
      own.stream,
      {{DNNL_ARG_FROM, own.plain}, {DNNL_ARG_TO, own.w}, {DNNL_ARG_SCRATCHPAD, own.pack_scratch}});
}

void Bf16Product::Multiply(const std::uint16_t* x, std::int64_t chunk, int worker, float* z) {
  const OneOmpThread one;
  Impl::Worker& own = *impl_->workers[static_cast<std::size_t>(worker)];
  // oneDNN's handles are not const; this one is only read.
  own.x.set_data_handle(const_cast<std::uint16_t*>(x));
  own.w.set_data_handle(impl_->packed.data() + chunk * impl_->stride);
  own.z.set_data_handle(z);
  impl_->matmul.execute(own.stream, {{DNNL_ARG_SRC, own.x},
                                     {DNNL_ARG_WEIGHTS, own.w},
                                     {DNNL_ARG_DST, own.z},
                                     {DNNL_ARG_SCRATCHPAD, own.scratch}});
}

}  // namespace sae::kernels
