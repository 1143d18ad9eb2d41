// Replicas on devices: each takes its part of the batch; losses carry 1 / batch of all, so that
// what replicas have are shares, and their sums are the batch's. Gradient rows are written out,
// reduced to the rank that owns them, updated there, and shared.
#include <algorithm>
#include <numeric>

#include "sae/kernels/device/gradient_rows.h"
#include "sae/train/device/device_engine.h"
#include "sae/train/engine/sae_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;
namespace device = kernels::device;

// The mesh of host and of device collectives: the same ranks at the same places.
absl::Status DeviceEngine::CreateCollectives() {
  if (parts_.collectives == nullptr && context_.replicas() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("device engine: train.replicas ", context_.replicas(),
                     " without collectives on devices: give the engine some"));
  }
  if (context_.replicas() == 1) {
    for (auto* c : {&collectives_, &world_})
      *c = std::make_unique<DeviceCollectives>(parts_, parts_.collectives, stream_);
    replicas_ = std::make_unique<DeviceCollectives>(parts_, nullptr, stream_);
    if (world_->size() > 1 && parts_.stream_ordered) parts_.collectives->SetEnqueueOnly(true);
    return absl::OkStatus();
  }
  SAE_ASSIGN_OR_RETURN(device_mesh_, Mesh::Create(*parts_.collectives, context_.replicas()));
  const auto over = [&](comm::Communicator& c) {
    if (parts_.stream_ordered) c.SetEnqueueOnly(true);
    return std::make_unique<DeviceCollectives>(parts_, &c, stream_);
  };
  world_ = over(device_mesh_->world());
  collectives_ = over(device_mesh_->shards());
  replicas_ = over(device_mesh_->replicas());
  return absl::OkStatus();
}

absl::Status DeviceEngine::Wait() {
  SAE_RETURN_IF_ERROR(world_->Wait());
  if (device_mesh_ == nullptr) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(collectives_->Wait());
  return replicas_->Wait();
}

std::int64_t DeviceEngine::OwnLatents() const { return context_.shard.count / context_.replicas(); }

absl::Status DeviceEngine::AllocateReplicas() {
  if (context_.replicas() == 1) return absl::OkStatus();
  const std::int64_t n = context_.shard.count, own = OwnLatents();
  SAE_RETURN_IF_ERROR(gradient_dec_.Create(runtime_, n * context_.d_out, "gradient rows"));
  SAE_RETURN_IF_ERROR(gradient_enc_.Create(runtime_, n * context_.d, "gradient rows"));
  SAE_RETURN_IF_ERROR(own_dec_.Create(runtime_, own * context_.d_out, "own gradient rows"));
  SAE_RETURN_IF_ERROR(own_enc_.Create(runtime_, own * context_.d, "own gradient rows"));
  for (DeviceBuffer<std::int32_t>* buffer : {&dec_indptr_, &enc_indptr_})
    SAE_RETURN_IF_ERROR(buffer->Create(runtime_, own + 1, "index of gradient rows"));
  for (DeviceBuffer<std::int32_t>* buffer : {&dec_entries_, &enc_entries_, &row_numbers_})
    SAE_RETURN_IF_ERROR(buffer->Create(runtime_, own, "index of gradient rows"));
  SAE_RETURN_IF_ERROR(ones_.Create(runtime_, own, "ones"));
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(own));
  std::iota(numbers.begin(), numbers.end(), 0);
  const std::vector<float> ones(numbers.size(), 1.0F);
  SAE_RETURN_IF_ERROR(
      runtime_.CopyAsync(row_numbers_.data(), numbers.data(), row_numbers_.bytes(), stream_));
  SAE_RETURN_IF_ERROR(runtime_.CopyAsync(ones_.data(), ones.data(), ones_.bytes(), stream_));
  return runtime_.Synchronize(stream_);
}

// A latent has fired where it has in some replica; then who is dead.
absl::Status DeviceEngine::FiredAnywhere() {
  if (context_.replicas() == 1) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(replicas_->Min(since_next_.data(), since_next_.count()));
  device::SinceFiredParams fired;
  fired.codes = entries_.codes();
  fired.codes.capacity = 0;  // counters stay as they are
  fired.index = entries_.index();
  fired.dead_after = DeadAfter(context_.config);
  fired.since = since_next_.data();
  fired.dead = &at()->dead;
  fired.ids = dead_ids_.data();
  fired.scratch = dead_scratch_.data();
  return Launched(cuda::SinceFired(fired, stream_), "SinceFired");
}

absl::Status DeviceEngine::AuxVarianceOfAll() {
  if (context_.replicas() == 1) return absl::OkStatus();
  device::JoinVarianceParams join{column_means_.data(), context_.d_out, context_.replicas(), false,
                                  &at()->aux_variance};
  SAE_RETURN_IF_ERROR(Launched(cuda::JoinVariance(join, stream_), "JoinVariance"));
  SAE_RETURN_IF_ERROR(replicas_->Sum(column_means_.data(), context_.d_out + 1));
  join.summed = true;
  return Launched(cuda::JoinVariance(join, stream_), "JoinVariance");
}

// After Decide: the batch's losses, and one decision.
absl::Status DeviceEngine::ReduceLosses() {
  if (context_.replicas() == 1) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(replicas_->Sum(&at()->main_loss, 1));
  SAE_RETURN_IF_ERROR(replicas_->Sum(&at()->gate_loss, 1));
  SAE_RETURN_IF_ERROR(replicas_->Sum(&at()->aux_loss, 1));
  return replicas_->Min(&at()->go, 1);
}

// Of vectors every replica gets the sums; of rows the owner.
absl::Status DeviceEngine::ReduceGradients() {
  if (context_.replicas() == 1) return absl::OkStatus();
  for (const DeviceBuffer<float>* v :
       {&d_b_enc_, &d_b_mag_, &d_r_mag_, &d_threshold_, &d_b_dec_, &d_w_skip_}) {
    if (v->count() > 0) {
      SAE_RETURN_IF_ERROR(replicas_->Sum(v->data(), v->count()));
    }
  }
  const device::GradientRowsParams rows{GradientInput(), gradient_dec_.data(),
                                        gradient_enc_.data()};
  SAE_RETURN_IF_ERROR(Launched(cuda::GradientRows(rows, stream_), "GradientRows"));
  const std::int64_t own = OwnLatents();
  SAE_RETURN_IF_ERROR(
      replicas_->SumToOwners(gradient_dec_.data(), own_dec_.data(), own * context_.d_out));
  SAE_RETURN_IF_ERROR(
      replicas_->SumToOwners(gradient_enc_.data(), own_enc_.data(), own * context_.d));
  device::IndexRowsParams index{
      own_dec_.data(), context_.d_out, {own, dec_indptr_.data(), dec_entries_.data()}};
  SAE_RETURN_IF_ERROR(Launched(cuda::IndexRows(index, stream_), "IndexRows"));
  index = {own_enc_.data(), context_.d, {own, enc_indptr_.data(), enc_entries_.data()}};
  return Launched(cuda::IndexRows(index, stream_), "IndexRows");
}

// The owned latents' update from their reduced rows: row i is token i of latent i, factor 1.
void DeviceEngine::UseReducedRows(device::RowUpdateParams* p) {
  const std::int64_t own = OwnLatents(), first = context_.Owned().first;
  device::RowUpdateParams out;
  out.latents = own;
  out.d = p->d;
  out.d_out = p->d_out;
  out.x = own_enc_.data();
  out.terms_count = 2;
  out.terms[0].index = {own, dec_indptr_.data(), dec_entries_.data()};
  out.terms[0].f = ones_.data();
  out.terms[0].g = own_dec_.data();
  out.terms[1].index = {own, enc_indptr_.data(), enc_entries_.data()};
  out.terms[1].delta = ones_.data();
  for (int t = 0; t < 2; ++t) out.terms[t].rows = row_numbers_.data();
  out.rule = p->rule;
  out.w_enc = {p->w_enc.hi + first * p->d, p->w_enc.lo + first * p->d};
  out.w_dec = {p->w_dec.hi + first * p->d_out, p->w_dec.lo + first * p->d_out};
  out.enc_moments = p->enc_moments;
  out.dec_moments = p->dec_moments;
  out.last_step = p->last_step;
  if (p->row_scale != nullptr) out.row_scale = p->row_scale + first;
  out.adam = p->adam;
  out.gradient_scale = p->gradient_scale;
  out.go = p->go;
  out.seed = p->seed;
  out.global_ids = p->global_ids + first;
  out.norms = p->norms;
  *p = out;
}

// What the owners made of their latents.
absl::Status DeviceEngine::ShareOwned() {
  if (context_.replicas() == 1) return absl::OkStatus();
  for (const DeviceMatrix* m : {&parameters_->w_enc(), &parameters_->w_dec()}) {
    SAE_RETURN_IF_ERROR(replicas_->ShareParts(m->hi.data(), m->hi.bytes()));
    SAE_RETURN_IF_ERROR(replicas_->ShareParts(m->lo.data(), m->lo.bytes()));
  }
  for (const DeviceVector& v : parameters_->vectors()) {
    if (v.m.count() < v.count()) {
      SAE_RETURN_IF_ERROR(replicas_->ShareParts(v.p.data(), v.p.bytes()));
    }
  }
  return absl::OkStatus();
}

// The r-th of D parts, as SaeEngine's.
std::span<const float> DeviceEngine::OwnPart(std::span<const float> rows) const {
  const std::int64_t width = row_width(), replicas = context_.replicas();
  const std::int64_t all = static_cast<std::int64_t>(rows.size()) / width;
  const std::int64_t first = all * context_.replica() / replicas;
  const std::int64_t last = all * (context_.replica() + 1) / replicas;
  return rows.subspan(static_cast<std::size_t>(first * width),
                      static_cast<std::size_t>((last - first) * width));
}

absl::Status DeviceEngine::SumOverReplicas(model::ReconstructionAccumulator* sums) const {
  if (context_.replicas() == 1) return absl::OkStatus();
  std::vector<double> all = sums->Sums();
  SAE_RETURN_IF_ERROR(mesh_->replicas().AllReduceSum(std::span<double>(all)));
  sums->SetSums(all);
  return absl::OkStatus();
}

}  // namespace sae::train
