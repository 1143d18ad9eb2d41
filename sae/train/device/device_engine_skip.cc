// The linear skip of a transcoder, y_hat += W_skip x', in float32 whatever the encoder's products
// are. Every rank holds W_skip and computes the same values from sums over ranks.
#include "sae/train/device/device_engine.h"

namespace sae::train {

namespace cuda = kernels::cuda;

// To the first group's part, after the sum over ranks: later groups build on it.
absl::Status DeviceEngine::AddSkip(float* parts) {
  cuda::GemmParams<float> p;
  p.form = cuda::GemmForm::kNT;
  p.m = batch_.tokens();
  p.n = context_.d_out;
  p.k = context_.d;
  p.a = x_.data();
  p.lda = context_.d;
  p.b = parameters_->Find("W_skip")->p.data();
  p.ldb = context_.d;
  p.c = parts;
  p.ldc = context_.d_out;
  p.alpha = batch_.scale();
  p.beta = 1;
  return Launched(cuda::GemmF32(library_, p, stream_), "GemmF32");
}

// sum over tokens of g_b x'_b^T; the first group's g is that of the whole reconstruction.
absl::Status DeviceEngine::SkipGradient() {
  cuda::GemmParams<float> p;
  p.form = cuda::GemmForm::kTN;
  p.m = context_.d_out;
  p.n = context_.d;
  p.k = batch_.tokens();
  p.a = parts_buffer_.data();
  p.lda = context_.d_out;
  p.b = x_.data();
  p.ldb = context_.d;
  p.c = d_w_skip_.data();
  p.ldc = context_.d;
  p.alpha = batch_.scale();
  SAE_RETURN_IF_ERROR(Launched(cuda::GemmF32(library_, p, stream_), "GemmF32"));
  if (!multi()) return absl::OkStatus();
  p.a = wide_g_.data();
  p.beta = 1;
  return Launched(cuda::GemmF32(library_, p, stream_), "GemmF32");
}

}  // namespace sae::train
