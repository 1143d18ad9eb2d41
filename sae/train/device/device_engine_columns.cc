// The decoder cut by columns: this rank decodes its blocks of columns of all latents from the
// winners of all ranks. Buffers of reconstructions are own blocks x groups x tokens x width here;
// kernels that work on rows of the target take one block at a time, so that what they add up is the
// same at every number of ranks. Source: spec numerics.md 2.
#include <algorithm>
#include <array>

#include "sae/train/device/device_engine.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

namespace {
static_assert(kColumnBlocks == device::kColumnBlocks, "the host's state is cut as kernels cut it");
constexpr std::int64_t kFirstActive = 32;  // of a token on one rank, where their number varies
}  // namespace

// Columns of the target that this rank decodes.
std::int64_t DeviceEngine::DecodedWidth() const {
  return context_.options.columns ? context_.d_out / context_.communicator.size() : context_.d_out;
}

absl::Status DeviceEngine::AllocateColumns() {
  if (!context_.options.columns) return absl::OkStatus();
  const model::Options& o = context_.options;
  DeviceColumns::Shape shape;
  shape.tokens = context_.batch();
  shape.latents = context_.shard.latents;
  shape.d_out = context_.d_out;
  shape.ranks = collectives_->size();
  shape.rank = context_.communicator.rank();
  shape.unit = o.decoder == model::DecoderMode::kUnit;
  shape.norm_gradient = d_norm_.count() > 0;
  std::vector<std::int32_t> where(static_cast<std::size_t>(shape.latents));
  std::int32_t at = 0;
  for (int r = 0; r < shape.ranks; ++r) {
    const model::LatentShard shard = model::ShardOf(shape.latents, shape.ranks, r);
    for (std::int64_t i = 0; i < shard.count; ++i)
      where[static_cast<std::size_t>(shard.Global(i))] = at++;
  }
  SAE_ASSIGN_OR_RETURN(columns_, DeviceColumns::Create(runtime_, shape, where, stream_));
  return absl::OkStatus();
}

DeviceWinners::Shape DeviceEngine::WinnersOf(const DeviceEntries& own,
                                             std::int64_t of_token) const {
  const std::int64_t batch = context_.batch(), ranks = collectives_->size();
  DeviceWinners::Shape shape;
  shape.tokens = batch;
  shape.own_capacity = own.capacity();
  // Winners are dealt to ranks evenly but for an eighth.
  const std::int64_t first = of_token > 0
                                 ? std::max<std::int64_t>(1, batch * of_token * 9 / (8 * ranks))
                                 : batch * kFirstActive;
  shape.room = std::min(own.capacity(), capacity_.winners * first);
  shape.most = batch * (of_token > 0 ? of_token : context_.shard.latents);
  shape.latents = context_.shard.latents;
  shape.ranks = collectives_->size();
  shape.rank = context_.communicator.rank();
  shape.global_ids = global_ids_.data();
  shape.second = gate_.count() > 0;
  return shape;
}

// What depends on the capacities of codes.
absl::Status DeviceEngine::AllocateWinners() {
  if (columns_ == nullptr) return absl::OkStatus();
  const std::int64_t k = varies() ? 0 : context_.config.sae.k;
  SAE_RETURN_IF_ERROR(columns_->main().Create(runtime_, WinnersOf(entries_, k), &at()->overflow));
  if (capacity_.dead == 0) return absl::OkStatus();
  return columns_->aux().Create(runtime_, WinnersOf(aux_entries_, *context_.config.sae.aux_k),
                                &at()->overflow);
}

// By global ids.
device::Groups DeviceEngine::ColumnGroups() const {
  const model::Options& o = context_.options;
  device::Groups groups;
  groups.count = static_cast<int>(o.prefixes.size());
  for (std::size_t g = 0; g < o.prefixes.size(); ++g) {
    groups.last[g] = static_cast<std::int32_t>(o.prefixes[g]);
    groups.weight[g] = o.prefix_weights[g];
  }
  return groups;
}

device::WeightRows DeviceEngine::ColumnWeights(std::int64_t block) const {
  const device::WeightRows w = parameters_->w_dec().weights();
  const std::int64_t first = block * columns_->latents() * columns_->width();
  return {w.hi + first, w.lo + first};
}

device::DecodeParams DeviceEngine::ColumnDecode(std::int64_t block, const DeviceEntries& entries,
                                                const float* f, bool bias, float* parts,
                                                const device::Groups& groups) {
  const std::int64_t width = columns_->width();
  device::DecodeParams decode;
  decode.codes = entries.codes();
  decode.f = f;
  decode.w = ColumnWeights(block);
  if (bias) decode.bias = parameters_->Find("b_dec")->p.data() + columns_->first() + block * width;
  decode.groups = groups;
  decode.parts = parts + block * groups.count * batch_.tokens() * width;
  decode.d = width;
  return decode;
}

// The reconstruction alone, in parts_buffer_.
absl::Status DeviceEngine::ColumnForward() {
  DeviceWinners& main = columns_->main();
  SAE_RETURN_IF_ERROR(main.Gather(entries_, *collectives_, stream_));
  device::Groups one;
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    const device::DecodeParams decode =
        ColumnDecode(c, main.all(), main.all().f(), true, parts_buffer_.data(), one);
    SAE_RETURN_IF_ERROR(Launched(cuda::Decode(decode, stream_), "Decode"));
  }
  return absl::OkStatus();
}

absl::Status DeviceEngine::ColumnGradients(std::int64_t block, const DeviceEntries& entries,
                                           const float* h, const device::Groups& groups, float* u) {
  device::LatentGradientParams p;
  p.codes = entries.codes();
  p.w = ColumnWeights(block);
  p.groups = groups;
  p.h = h;
  p.u = u;
  p.d = columns_->width();
  return Launched(cuda::LatentGradient(p, stream_), "LatentGradient");
}

// One reconstruction of the main codes by `f`: x_hat, its gradient in `parts`, sums of squares of
// the own blocks, and their parts of each entry's gradient.
absl::Status DeviceEngine::ColumnPass(const DeviceEntries& entries, const float* f,
                                      const device::Groups& groups, float* parts, float* x_hat) {
  const std::int64_t tokens = batch_.tokens(), width = columns_->width();
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    const device::DecodeParams decode = ColumnDecode(c, entries, f, true, parts, groups);
    float* const u = columns_->main().part(c);
    if (groups.count == 1) {
      const device::TokenPassParams pass{
          decode,     columns_->target(c),        batch_.scale(),
          &at()->rho, x_hat + c * tokens * width, token_squares_.data(),
          u};
      SAE_RETURN_IF_ERROR(Launched(cuda::TokenPass(pass, stream_), "TokenPass"));
    } else {
      SAE_RETURN_IF_ERROR(Launched(cuda::Decode(decode, stream_), "Decode"));
      device::PrefixResidualParams residual;
      residual.parts = decode.parts;
      residual.target = columns_->target(c);
      residual.target_scale = batch_.scale();
      residual.rho = &at()->rho;
      residual.groups = groups;
      residual.x_hat = x_hat + c * tokens * width;
      residual.squares = token_squares_.data();
      residual.tokens = tokens;
      residual.d = width;
      SAE_RETURN_IF_ERROR(Launched(cuda::PrefixResidual(residual, stream_), "PrefixResidual"));
      SAE_RETURN_IF_ERROR(ColumnGradients(c, entries, decode.parts, groups, u));
    }
    SAE_RETURN_IF_ERROR(Sum(token_squares_.data(), tokens, columns_->sum(c)));
  }
  return absl::OkStatus();
}

absl::Status DeviceEngine::ColumnLoss() {
  DeviceWinners& main = columns_->main();
  SAE_RETURN_IF_ERROR(main.Gather(entries_, *collectives_, stream_));
  const float* target = context_.options.transcoder ? y_.data() : x_.data();
  SAE_RETURN_IF_ERROR(columns_->LoadTargets(target, batch_.tokens(), stream_));
  SAE_RETURN_IF_ERROR(
      ColumnPass(main.all(), main.all().f(), ColumnGroups(), parts_buffer_.data(), x_hat_.data()));
  SAE_RETURN_IF_ERROR(columns_->SumBlocks(&at()->squares, false, false, *collectives_, stream_));
  return main.AddParts(main.all().u(), entries_.u(), *collectives_, stream_);
}

absl::Status DeviceEngine::ColumnGateLoss() {
  DeviceWinners& main = columns_->main();
  SAE_RETURN_IF_ERROR(main.GatherValues(gate_.data(), *collectives_, stream_));
  SAE_RETURN_IF_ERROR(
      ColumnPass(main.all(), main.second(), {}, gate_parts_.data(), gate_hat_.data()));
  SAE_RETURN_IF_ERROR(
      columns_->SumBlocks(&at()->gate_squares, false, false, *collectives_, stream_));
  return main.AddParts(nullptr, v_.data(), *collectives_, stream_);
}

// As Aux, once the dead latents' codes are selected.
absl::Status DeviceEngine::ColumnAux() {
  DeviceWinners& aux = columns_->aux();
  SAE_RETURN_IF_ERROR(aux.Gather(aux_entries_, *collectives_, stream_));
  const std::int64_t tokens = batch_.tokens(), width = columns_->width();
  device::Groups one;
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    const device::DecodeParams decode =
        ColumnDecode(c, aux.all(), aux.all().f(), false, aux_g_.data(), one);
    SAE_RETURN_IF_ERROR(Launched(cuda::Decode(decode, stream_), "Decode"));
    const device::ResidualVarianceParams variance{x_hat_.data() + c * tokens * width,
                                                  columns_->target(c),
                                                  batch_.scale(),
                                                  column_means_.data(),
                                                  partial_.data(),
                                                  columns_->sum(c),
                                                  tokens,
                                                  width};
    SAE_RETURN_IF_ERROR(Launched(cuda::ResidualVariance(variance, stream_), "ResidualVariance"));
  }
  SAE_RETURN_IF_ERROR(
      columns_->SumBlocks(&at()->aux_variance, true, false, *collectives_, stream_));
  SAE_RETURN_IF_ERROR(AuxScale());
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    device::AuxResidualParams residual;
    residual.out = aux_g_.data() + c * tokens * width;
    residual.x_hat = x_hat_.data() + c * tokens * width;
    residual.target = columns_->target(c);
    residual.target_scale = batch_.scale();
    residual.factor = &at()->aux_factor;
    residual.enabled = &at()->aux_enabled;
    residual.squares = token_squares_.data();
    residual.tokens = tokens;
    residual.d = width;
    SAE_RETURN_IF_ERROR(Launched(cuda::AuxResidual(residual, stream_), "AuxResidual"));
    SAE_RETURN_IF_ERROR(Sum(token_squares_.data(), tokens, columns_->sum(c)));
    SAE_RETURN_IF_ERROR(ColumnGradients(c, aux.all(), residual.out, one, aux.part(c)));
  }
  SAE_RETURN_IF_ERROR(
      columns_->SumBlocks(&at()->aux_squares, false, false, *collectives_, stream_));
  return aux.AddParts(aux.all().u(), aux_entries_.u(), *collectives_, stream_);
}

// Sums over tokens of dL/dx_hat, each rank's of its columns.
absl::Status DeviceEngine::ColumnBias() {
  const std::int64_t tokens = batch_.tokens(), width = columns_->width();
  const std::int64_t groups = ColumnGroups().count;
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    device::ColumnSumsParams columns;
    columns.m = parts_buffer_.data() + c * groups * tokens * width;
    columns.rows = tokens;
    columns.d = width;
    columns.scratch = column_scratch_.data();
    columns.out = d_b_dec_.data() + columns_->first() + c * width;
    SAE_RETURN_IF_ERROR(Launched(cuda::ColumnSums(columns, stream_), "ColumnSums"));
    if (capacity_.dead == 0) continue;
    columns.m = aux_g_.data() + c * tokens * width;
    columns.add = true;
    columns.enabled = &at()->aux_enabled;
    SAE_RETURN_IF_ERROR(Launched(cuda::ColumnSums(columns, stream_), "ColumnSums"));
  }
  if (collectives_->size() == 1) return absl::OkStatus();
  return collectives_->ShareParts(d_b_dec_.data(), d_b_dec_.bytes());
}

absl::Status DeviceEngine::PrepareColumnRows() {
  if (columns_ == nullptr) return absl::OkStatus();
  const DeviceEntries& main = columns_->main().all();
  std::array<device::AlongTerm, 2> terms = {
      device::AlongTerm{main.index(), main.f(), main.u(), nullptr}};
  if (capacity_.dead > 0) {
    const DeviceEntries& aux = columns_->aux().all();
    terms[1] = {aux.index(), aux.f(), aux.u(), &at()->aux_enabled};
  }
  const std::size_t count = capacity_.dead > 0 ? 2 : 1;
  return columns_->PrepareRows(std::span(terms).first(count), d_norm_.data(), *collectives_,
                               stream_);
}

// Of the row update of whole rows the encoder's half.
void DeviceEngine::UseEncoderAlone(device::RowUpdateParams* p) const {
  const int groups = static_cast<int>(context_.options.prefixes.size());
  for (int t = 0; t < p->terms_count; ++t) p->terms[t].f = p->terms[t].g = nullptr;
  p->terms[0].last_latent = 0x7fffffff;
  for (int t = groups; t < p->terms_count; ++t) p->terms[1 + t - groups] = p->terms[t];
  p->terms_count += 1 - groups;
  p->d_out = 0;
  p->rule = device::RowRule::kFree;
  p->norm_gradient = nullptr;
}

device::RowUpdateParams DeviceEngine::ColumnRows(std::int64_t block) {
  const std::int64_t n = columns_->latents(), width = columns_->width();
  const std::int64_t values = batch_.tokens() * width, first = block * n * width;
  device::RowUpdateParams p;
  p.latents = n;
  p.d_out = width;
  p.rule = device::RowRule::kFree;
  const device::Groups groups = ColumnGroups();
  const auto add = [&](const DeviceEntries& entries, const float* g) -> device::RowTerm& {
    device::RowTerm& term = p.terms[p.terms_count++];
    term.index = entries.index();
    term.rows = entries.codes().rows;
    term.f = entries.f();
    term.g = g;
    return term;
  };
  for (int g = 0; g < groups.count; ++g) {
    device::RowTerm& term =
        add(columns_->main().all(), parts_buffer_.data() + (block * groups.count + g) * values);
    term.first_latent = g == 0 ? 0 : groups.last[g - 1];
    term.last_latent = groups.last[g];
  }
  if (capacity_.dead > 0)
    add(columns_->aux().all(), aux_g_.data() + block * values).enabled = &at()->aux_enabled;
  DeviceMatrix& w = parameters_->w_dec();
  p.w_dec = {w.hi.data() + first, w.lo.data() + first};
  p.dec_moments = w.moments();
  p.dec_moments.m = reinterpret_cast<float*>(w.m.data()) + first;
  p.dec_moments.v = reinterpret_cast<float*>(w.v.data()) + first;
  p.adam = &at()->adam;
  p.gradient_scale = &at()->gradient_scale;
  p.go = &at()->go;
  columns_->SetRows(block, &p);
  return p;
}

// Into shared_norm2, after what it holds.
absl::Status DeviceEngine::ColumnSquaredNorm() {
  if (columns_ == nullptr) return absl::OkStatus();
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    device::RowUpdateParams rows = ColumnRows(c);
    rows.measure_only = true;
    rows.norms = row_norms_.data();
    SAE_RETURN_IF_ERROR(Launched(cuda::RowUpdate(rows, stream_), "RowUpdate"));
    SAE_RETURN_IF_ERROR(Sum(row_norms_.data(), columns_->latents(), columns_->sum(c)));
  }
  return columns_->SumBlocks(&at()->shared_norm2, false, true, *collectives_, stream_);
}

absl::Status DeviceEngine::UpdateColumns() {
  if (columns_ == nullptr) return absl::OkStatus();
  for (std::int64_t c = 0; c < columns_->own(); ++c) {
    SAE_RETURN_IF_ERROR(Launched(cuda::RowUpdate(ColumnRows(c), stream_), "RowUpdate"));
  }
  return columns_->FinishRows(parameters_->w_dec().mutable_weights(), &at()->go, *collectives_,
                              stream_);
}

// A reconstruction [tokens, d_out] on the host; from all ranks where each has its columns.
absl::StatusOr<std::vector<float>> DeviceEngine::FetchReconstruction(const float* x_hat,
                                                                     std::int64_t tokens) {
  const std::int64_t own = tokens * DecodedWidth();
  SAE_ASSIGN_OR_RETURN(std::vector<float> part, Fetch(runtime_, x_hat, own, stream_));
  if (columns_ == nullptr) return part;
  const std::int64_t width = columns_->width();
  std::vector<float> all(static_cast<std::size_t>(tokens * context_.d_out)), out(all.size());
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllGather(std::span<const float>(part), std::span<float>(all)));
  for (std::int64_t c = 0; c < device::kColumnBlocks; ++c) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      std::copy_n(all.begin() + (c * tokens + t) * width, width,
                  out.begin() + t * context_.d_out + c * width);
    }
  }
  return out;
}

}  // namespace sae::train
