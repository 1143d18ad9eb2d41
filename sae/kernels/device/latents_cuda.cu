// Rules of architectures: a block takes kLatents latents, a warp each, and then as a whole those
// with long lists. What one entry adds to a latent's sums is a functor of the rule.
#include "sae/kernels/device.h"
#include "sae/kernels/device/block_sum.h"
#include "sae/kernels/device/latents.h"
#include "sae/kernels/device_library.h"

namespace sae::kernels {
namespace cuda {
namespace {

using device::BuildIndexParams;
using device::CodeWeightsParams;
using device::LatentConstantsParams;
using device::LatentRule;
using device::LatentRuleParams;
using device::SinceFiredParams;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kLatents = 64;     // of a block
constexpr int kLongList = 1024;  // entries: from here on the whole block takes the latent

unsigned Grid(std::int64_t items, std::int64_t each) {
  return static_cast<unsigned>((items + each - 1) / each);
}
SAELOOM_DEVICE std::int64_t ThreadOfGrid() {
  return blockIdx.x * static_cast<std::int64_t>(kThreads) + threadIdx.x;
}
SAELOOM_DEVICE std::int32_t Entries(const device::DeviceCodes& codes) {
  return codes.indptr[codes.tokens];
}

struct IndexScratch {
  std::uint32_t* keys = nullptr;
  std::uint32_t* positions = nullptr;
  std::uint32_t* sorted = nullptr;
  std::int64_t* count = nullptr;
  void* sort = nullptr;
  std::int64_t bytes = 0;
};
IndexScratch Cut(void* scratch, std::int64_t capacity) {
  const std::int64_t array = (capacity * 4 + 255) / 256 * 256;
  auto* const bytes = static_cast<unsigned char*>(scratch);
  IndexScratch out;
  out.bytes = 3 * array + 256 + static_cast<std::int64_t>(SortPairsScratchBytes(capacity));
  if (scratch == nullptr) return out;
  out.keys = reinterpret_cast<std::uint32_t*>(bytes);
  out.positions = reinterpret_cast<std::uint32_t*>(bytes + array);
  out.sorted = reinterpret_cast<std::uint32_t*>(bytes + 2 * array);
  out.count = reinterpret_cast<std::int64_t*>(bytes + 3 * array);
  out.sort = bytes + 3 * array + 256;
  return out;
}

/// Of ids below `latents`: fewer bits, fewer passes.
int BitsOf(std::int64_t latents) {
  int bits = 1;
  while (bits < 32 && (std::int64_t{1} << bits) < latents) ++bits;
  return bits;
}

SAELOOM_KERNEL void FillKeysKernel(device::DeviceCodes codes, IndexScratch s) {
  const std::int64_t e = ThreadOfGrid();
  const std::int32_t entries = Entries(codes);
  if (e == 0) *s.count = entries;
  if (e >= entries) return;
  s.keys[e] = static_cast<std::uint32_t>(codes.ids[e]);
  s.positions[e] = static_cast<std::uint32_t>(e);
}

/// indptr[i] = the first of the sorted entries with an id of at least i.
SAELOOM_KERNEL void BoundariesKernel(std::int64_t latents, const std::uint32_t* sorted,
                                     const std::int64_t* count, std::int32_t* indptr) {
  const std::int64_t i = ThreadOfGrid();
  if (i > latents) return;
  std::int64_t begin = 0;
  std::int64_t end = *count;
  while (begin < end) {
    const std::int64_t middle = begin + (end - begin) / 2;
    if (sorted[middle] < static_cast<std::uint64_t>(i)) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  indptr[i] = static_cast<std::int32_t>(begin);
}

SAELOOM_DEVICE double Wide(float value) { return static_cast<double>(value); }
SAELOOM_DEVICE float Narrow(double value) { return static_cast<float>(value); }

SAELOOM_DEVICE void SetSums(const LatentRuleParams& p, std::int64_t i, float delta, float b_enc) {
  if (p.delta_sums != nullptr) p.delta_sums[i] = p.add_sums ? p.delta_sums[i] + delta : delta;
  if (p.b_enc != nullptr) p.b_enc[i] = p.add_sums ? p.b_enc[i] + b_enc : b_enc;
}
SAELOOM_DEVICE void SetPenalty(const LatentRuleParams& p, std::int64_t i, double penalty) {
  if (p.penalty != nullptr) p.penalty[i] = penalty;
}

struct PassThrough {
  static constexpr int kSums = 1;
  const LatentRuleParams& p;
  SAELOOM_DEVICE PassThrough(const LatentRuleParams& params, std::int64_t) : p(params) {}
  SAELOOM_DEVICE void Entry(std::int32_t e, double (&sums)[kSums]) const {
    const float u = p.u[e];
    if (p.delta != nullptr) p.delta[e] = u;
    sums[0] += Wide(u);
  }
  SAELOOM_DEVICE void Finish(std::int64_t i, const double (&sums)[kSums]) const {
    SetSums(p, i, Narrow(sums[0]), Narrow(sums[0]));
    SetPenalty(p, i, 0);
  }
};

struct Relu {
  static constexpr int kSums = 4;  // delta, f, f^p now, f^p next
  const LatentRuleParams& p;
  double share, power, next, norm;
  SAELOOM_DEVICE Relu(const LatentRuleParams& params, std::int64_t i)
      : p(params),
        share(*p.lambda / static_cast<double>(p.codes.tokens)),
        power(p.power_now == nullptr ? p.power : *p.power_now),
        next(p.power_next == nullptr ? 1.0 : *p.power_next),
        norm(p.norms == nullptr ? 1.0 : Wide(p.norms[i])) {}
  SAELOOM_DEVICE void Entry(std::int32_t e, double (&sums)[kSums]) const {
    const double f = Wide(p.codes.values[e]);
    double slope = share;
    if (power != 1) {
      slope *= power * pow(f + 1e-12, power - 1);
    } else {
      slope *= norm;
    }
    const float delta = p.u[e] + Narrow(slope);
    p.delta[e] = delta;
    sums[0] += Wide(delta);
    sums[1] += f;
    sums[2] += power != 1 ? pow(f, power) : f;
    if (p.next_powers != nullptr) sums[3] += pow(f, next);
  }
  SAELOOM_DEVICE void Finish(std::int64_t i, const double (&sums)[kSums]) const {
    SetSums(p, i, Narrow(sums[0]), Narrow(sums[0]));
    if (p.norm != nullptr) p.norm[i] = Narrow(share * Wide(Narrow(sums[1])));
    SetPenalty(p, i, share * sums[2] * (power != 1 ? 1.0 : norm));
    if (p.powers != nullptr) p.powers[i] = sums[2];
    if (p.next_powers != nullptr) p.next_powers[i] = sums[3];
  }
};

struct JumpRelu {
  static constexpr int kSums = 4;  // delta, above, window, u in the window
  const LatentRuleParams& p;
  double theta;
  SAELOOM_DEVICE JumpRelu(const LatentRuleParams& params, std::int64_t i)
      : p(params), theta(Wide(p.theta[i])) {}
  SAELOOM_DEVICE void Entry(std::int32_t e, double (&sums)[kSums]) const {
    const float u = p.u[e];
    if (2 * fabs(Wide(p.codes.values[e]) - theta) < p.bandwidth) {
      sums[2] += 1;
      sums[3] += Wide(u);
    }
    const bool above = p.f[e] > 0.0F;
    p.delta[e] = above ? u : 0.0F;
    if (!above) return;
    sums[0] += Wide(u);
    sums[1] += 1;
  }
  SAELOOM_DEVICE void Finish(std::int64_t i, const double (&sums)[kSums]) const {
    constexpr double kDenseFrequency = 0.1;
    const auto tokens = static_cast<double>(p.codes.tokens);
    const double frequency = sums[1] / tokens;
    const double excess = frequency - kDenseFrequency;
    const double coefficient = *p.lambda + (excess > 0 ? p.frequency_coefficient : 0.0);
    const double slope = -(theta * sums[3] + coefficient * sums[2] / tokens) / p.bandwidth;
    p.threshold[i] = Narrow(p.log_threshold ? theta * slope : slope);
    SetSums(p, i, Narrow(sums[0]), Narrow(sums[0]));
    SetPenalty(p, i,
               p.frequency_coefficient * (excess > 0 ? excess : 0.0) +
                   (p.penalty_counts ? *p.lambda * sums[1] / tokens : 0.0));
  }
};

struct JumpTanh {
  // delta, above, window, u in the window, z >= theta, z - theta over those, tanh, norm
  static constexpr int kSums = 8;
  const LatentRuleParams& p;
  double theta, norm, tokens, share, pre;
  SAELOOM_DEVICE JumpTanh(const LatentRuleParams& params, std::int64_t i)
      : p(params),
        theta(Wide(p.theta[i])),
        norm(p.norms == nullptr ? 1.0 : Wide(p.norms[i])),
        tokens(static_cast<double>(p.codes.tokens)),
        share(*p.lambda / tokens),
        pre(p.pre_act_coefficient * norm / tokens) {}
  SAELOOM_DEVICE void Entry(std::int32_t e, double (&sums)[kSums]) const {
    const double z = Wide(p.codes.values[e]);
    const double f = Wide(p.f[e]);
    const double tau = tanh(p.tanh_scale * f * norm);
    const double u = Wide(p.u[e]) + share * p.tanh_scale * norm * (1 - tau * tau);
    sums[6] += tau;
    sums[7] += share * p.tanh_scale * f * (1 - tau * tau);
    if (2 * fabs(z - theta) < p.bandwidth) {
      sums[2] += 1;
      sums[3] += u;
    }
    double delta = 0;
    if (f > 0) {
      delta = u;
      sums[1] += 1;
    }
    if (z >= theta) {
      delta += pre;
      sums[4] += 1;
      sums[5] += z - theta;
    }
    p.delta[e] = Narrow(delta);
    sums[0] += Wide(Narrow(delta));
  }
  SAELOOM_DEVICE void Finish(std::int64_t i, const double (&sums)[kSums]) const {
    constexpr double kDenseFrequency = 0.1;
    const double frequency = sums[1] / tokens;
    const double often = frequency > kDenseFrequency ? frequency - kDenseFrequency : 0.0;
    const double coefficient = often > 0 ? p.frequency_coefficient : 0.0;
    const double slope =
        pre * (tokens - sums[4]) - (theta * sums[3] + coefficient * sums[2] / tokens) / p.bandwidth;
    const double below = p.below[i] + sums[5];  // sum over all tokens of ReLU(theta - z)
    p.threshold[i] = Narrow(p.log_threshold ? theta * slope : slope);
    p.dense_delta[i] = Narrow(-pre);
    if (p.norm != nullptr) p.norm[i] = Narrow(sums[7] + p.pre_act_coefficient / tokens * below);
    const float delta = Narrow(sums[0] - pre * tokens);
    SetSums(p, i, delta, delta);
    SetPenalty(p, i, p.frequency_coefficient * often + share * sums[6] + pre * below);
  }
};

struct Gated {
  static constexpr int kSums = 5;  // gate's bias, magnitude's bias, scale, delta, gate
  const LatentRuleParams& p;
  float scale, share;
  SAELOOM_DEVICE Gated(const LatentRuleParams& params, std::int64_t i)
      : p(params),
        scale(p.scale[i]),
        share(Narrow(*p.lambda / static_cast<double>(p.codes.tokens))) {}
  SAELOOM_DEVICE void Entry(std::int32_t e, double (&sums)[kSums]) const {
    const float dm = p.f[e] > 0.0F ? p.u[e] : 0.0F;
    const float dpi = p.v[e] + share;
    const float dh = scale * dm + dpi;
    p.delta[e] = dh;
    sums[0] += Wide(dpi);
    sums[1] += Wide(dm);
    sums[2] += Wide(dm) * Wide(scale * p.codes.values[e]);
    sums[3] += Wide(dh);
    if (p.gate != nullptr) sums[4] += Wide(p.gate[e]);
  }
  SAELOOM_DEVICE void Finish(std::int64_t i, const double (&sums)[kSums]) const {
    SetSums(p, i, Narrow(sums[3]), Narrow(sums[0]));
    p.b_mag[i] = Narrow(sums[1]);
    p.r_mag[i] = Narrow(sums[2]);
    SetPenalty(p, i, *p.lambda * sums[4] / static_cast<double>(p.codes.tokens));
  }
};

template <class Rule>
SAELOOM_KERNEL void RuleKernel(LatentRuleParams p) {
  SAELOOM_SHARED(double, shared, 2 * Rule::kSums * kMaxWarps);
  if (p.enabled != nullptr && *p.enabled == 0) return;
  const std::int64_t first = blockIdx.x * static_cast<std::int64_t>(kLatents);
  const std::int64_t last = first + kLatents < p.index.latents ? first + kLatents : p.index.latents;
  for (std::int64_t i = first + threadIdx.x / 32; i < last; i += kWarps) {
    const std::int32_t begin = p.index.indptr[i];
    const std::int32_t end = p.index.indptr[i + 1];
    if (end - begin >= kLongList) continue;
    const Rule rule(p, i);
    double sums[Rule::kSums] = {};
    for (std::int32_t q = begin + static_cast<std::int32_t>(threadIdx.x % 32); q < end; q += 32)
      rule.Entry(p.index.entries[q], sums);
    for (double& sum : sums) sum = WarpSum(sum);
    if (threadIdx.x % 32 == 0) rule.Finish(i, sums);
  }
  BlockSum<Rule::kSums> block_sum(shared);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int32_t begin = p.index.indptr[i];
    const std::int32_t end = p.index.indptr[i + 1];
    if (end - begin < kLongList) continue;
    const Rule rule(p, i);
    double sums[Rule::kSums] = {};
    for (std::int32_t q = begin + static_cast<std::int32_t>(threadIdx.x); q < end; q += kThreads)
      rule.Entry(p.index.entries[q], sums);
    block_sum(sums);
    if (threadIdx.x == 0) rule.Finish(i, sums);
  }
}

SAELOOM_KERNEL void CodeWeightsKernel(CodeWeightsParams p) {
  const std::int64_t e = ThreadOfGrid();
  if (e >= Entries(p.codes)) return;
  const std::int32_t i = p.codes.ids[e];
  const float z = p.codes.values[e];
  if (p.rule == LatentRule::kJumpRelu) {
    p.f[e] = z > p.theta[i] ? z : 0.0F;
    return;
  }
  const float magnitude = p.scale[i] * z + p.b_mag[i];
  p.gate[e] = z + p.b_gate[i];
  p.f[e] = magnitude > 0.0F ? magnitude : 0.0F;
}

SAELOOM_KERNEL void LatentConstantsKernel(LatentConstantsParams p) {
  const std::int64_t i = ThreadOfGrid();
  if (i >= p.latents) return;
  if (p.rule == LatentRule::kJumpRelu) {
    const float theta = p.log_threshold ? Narrow(exp(Wide(p.threshold[i]))) : p.threshold[i];
    const float lower = theta - p.half;
    p.theta[i] = theta;
    p.lower[i] = 0.0F < lower ? lower : 0.0F;
    return;
  }
  p.lower[i] = -p.b_gate[i];
  p.scale[i] = Narrow(exp(Wide(p.r_mag[i])));
}

constexpr std::int64_t kChunks = 1024;  // of latents, one block each

/// Latents of a chunk: a multiple of kThreads.
SAELOOM_HOST_DEVICE std::int64_t ChunkOf(std::int64_t latents) {
  const std::int64_t each = (latents + kChunks - 1) / kChunks;
  return (each + kThreads - 1) / kThreads * kThreads;
}

/// scratch: `latents` marks, then the chunks' counts of dead latents.
SAELOOM_KERNEL void ClearMarksKernel(SinceFiredParams p) {
  const std::int64_t i = ThreadOfGrid();
  if (i < p.index.latents) p.scratch[i] = 0;
  if (i == 0 && p.active != nullptr) *p.active = 0;
}

SAELOOM_KERNEL void MarkKernel(SinceFiredParams p) {
  const std::int64_t e = ThreadOfGrid();
  const bool fires = e < Entries(p.codes) && p.f[e] > 0.0F;
  if (fires) p.scratch[p.codes.ids[e]] = 1;  // all write the same
  const int count = __popc(__ballot_sync(kAllLanes, fires));
  if (threadIdx.x % 32 != 0 || p.active == nullptr || count == 0) return;
  atomicAdd(reinterpret_cast<unsigned long long*>(p.active),
            static_cast<unsigned long long>(count));
}

SAELOOM_KERNEL void AdvanceKernel(SinceFiredParams p, std::int64_t chunk) {
  SAELOOM_SHARED(int, counts, kWarps);
  int dead = 0;
  const std::int64_t first = blockIdx.x * chunk + threadIdx.x;
  const std::int64_t last = (blockIdx.x + 1) * chunk;
  for (std::int64_t i = first; i < last && i < p.index.latents; i += kThreads) {
    const std::int64_t before = p.since_before == nullptr ? p.since[i] : p.since_before[i];
    const std::int64_t since = p.scratch[i] != 0 ? 0 : before + p.tokens;
    p.since[i] = since;
    dead += since >= p.dead_after ? 1 : 0;
  }
  dead = __reduce_add_sync(kAllLanes, dead);
  if (threadIdx.x % 32 == 0) counts[threadIdx.x / 32] = dead;
  SAELOOM_BARRIER(1);
  if (threadIdx.x != 0) return;
  int sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += counts[w];
  p.scratch[p.index.latents + blockIdx.x] = sum;
}

/// counts becomes what lies before each chunk; one block of kChunks threads.
SAELOOM_KERNEL void ScanChunksKernel(std::int32_t* counts, int chunks, std::int32_t* dead) {
  SAELOOM_SHARED(int, warps, kMaxWarps);
  const int chunk = static_cast<int>(threadIdx.x);
  const int own = chunk < chunks ? counts[chunk] : 0;
  int sum = own;
  for (unsigned step = 1; step < 32; step *= 2) {
    const int lower = __shfl_up_sync(kAllLanes, sum, step);
    if (threadIdx.x % 32 >= step) sum += lower;
  }
  if (threadIdx.x % 32 == 31) warps[threadIdx.x / 32] = sum;
  SAELOOM_BARRIER(2);
  for (unsigned w = 0; w < threadIdx.x / 32; ++w) sum += warps[w];
  if (chunk < chunks) counts[chunk] = sum - own;
  if (threadIdx.x == kChunks - 1) *dead = sum;
}

SAELOOM_KERNEL void CompactKernel(SinceFiredParams p, std::int64_t chunk) {
  SAELOOM_SHARED(int, counts, 2 * kWarps);
  int base = p.scratch[p.index.latents + blockIdx.x];
  int turn = 0;  // halves of counts in turns: one barrier is enough
  for (std::int64_t i = blockIdx.x * chunk; i < (blockIdx.x + 1) * chunk && i < p.index.latents;
       i += kThreads) {
    const std::int64_t own = i + threadIdx.x;
    const bool dead = own < p.index.latents && p.since[own] >= p.dead_after;
    const unsigned votes = __ballot_sync(kAllLanes, dead);
    int* const half = counts + turn * kWarps;
    turn = 1 - turn;
    if (threadIdx.x % 32 == 0) half[threadIdx.x / 32] = __popc(votes);
    SAELOOM_BARRIER(3);
    int place = base + __popc(votes & ((1U << (threadIdx.x % 32)) - 1));
    for (unsigned w = 0; w < kWarps; ++w) {
      if (w < threadIdx.x / 32) place += half[w];
      base += half[w];
    }
    if (dead) p.ids[place] = static_cast<std::int32_t>(own);
  }
}

bool Valid(const device::DeviceCodes& codes) {
  return codes.tokens >= 0 && codes.capacity >= 0 && codes.indptr != nullptr &&
         (codes.capacity == 0 || codes.ids != nullptr);
}

bool Valid(const LatentRuleParams& p) {
  if (!Valid(p.codes) || p.index.latents < 0 || p.index.indptr == nullptr) return false;
  if (p.codes.capacity > 0 && (p.index.entries == nullptr || p.u == nullptr)) return false;
  if (p.rule == LatentRule::kPassThrough) return true;
  if (p.lambda == nullptr || p.codes.tokens < 1) return false;
  const bool entries = p.codes.capacity > 0;
  if (entries && (p.delta == nullptr || p.codes.values == nullptr)) return false;
  if (p.rule == LatentRule::kRelu) return true;
  if (entries && p.f == nullptr) return false;
  if (p.rule == LatentRule::kJumpRelu) {
    return p.theta != nullptr && p.threshold != nullptr && p.bandwidth > 0 &&
           (!(p.tanh_scale > 0) || (p.below != nullptr && p.dense_delta != nullptr));
  }
  return p.scale != nullptr && p.b_mag != nullptr && p.r_mag != nullptr &&
         (!entries || p.v != nullptr);
}

}  // namespace

Error BuildIndex(const BuildIndexParams& p, void* stream) {
  if (!Valid(p.codes) || p.out.latents < 0 || p.out.indptr == nullptr || p.scratch == nullptr ||
      (p.codes.capacity > 0 && p.out.entries == nullptr) ||
      p.scratch_bytes < Cut(nullptr, p.codes.capacity).bytes) {
    return Error::kInvalidArgument;
  }
  const IndexScratch s = Cut(p.scratch, p.codes.capacity);
  const std::int64_t grid = p.codes.capacity > 0 ? p.codes.capacity : 1;  // count is always set
  Error error =
      SAELOOM_LAUNCH(FillKeysKernel, Grid(grid, kThreads), kThreads, 0, stream, p.codes, s);
  if (error != Error::kOk) return error;
  if (p.codes.capacity > 0) {
    SortPairsParams sort;
    sort.keys_in = s.keys;
    sort.values_in = s.positions;
    sort.keys_out = s.sorted;
    sort.values_out = reinterpret_cast<std::uint32_t*>(p.out.entries);
    sort.capacity = p.codes.capacity;
    sort.count = s.count;
    sort.key_bits = BitsOf(p.out.latents);
    sort.scratch = s.sort;
    sort.scratch_bytes = static_cast<std::size_t>(
        p.scratch_bytes -
        (s.bytes - static_cast<std::int64_t>(SortPairsScratchBytes(p.codes.capacity))));
    error = SortPairs(sort, stream);
    if (error != Error::kOk) return error;
  }
  return SAELOOM_LAUNCH(BoundariesKernel, Grid(p.out.latents + 1, kThreads), kThreads, 0, stream,
                        p.out.latents, s.sorted, s.count, p.out.indptr);
}

Error LatentRuleBackward(const LatentRuleParams& p, void* stream) {
  if (!Valid(p)) return Error::kInvalidArgument;
  const unsigned grid = Grid(p.index.latents, kLatents);
  switch (p.rule) {
    case LatentRule::kPassThrough:
      return SAELOOM_LAUNCH((RuleKernel<PassThrough>), grid, kThreads, 0, stream, p);
    case LatentRule::kRelu:
      return SAELOOM_LAUNCH((RuleKernel<Relu>), grid, kThreads, 0, stream, p);
    case LatentRule::kJumpRelu:
      return p.tanh_scale > 0
                 ? SAELOOM_LAUNCH((RuleKernel<JumpTanh>), grid, kThreads, 0, stream, p)
                 : SAELOOM_LAUNCH((RuleKernel<JumpRelu>), grid, kThreads, 0, stream, p);
    case LatentRule::kGated:
      return SAELOOM_LAUNCH((RuleKernel<Gated>), grid, kThreads, 0, stream, p);
  }
  return Error::kInvalidArgument;
}

Error CodeWeights(const CodeWeightsParams& p, void* stream) {
  const bool jump = p.rule == LatentRule::kJumpRelu;
  if (!Valid(p.codes) || (!jump && p.rule != LatentRule::kGated)) return Error::kInvalidArgument;
  if (p.codes.capacity == 0) return Error::kOk;
  if (p.codes.values == nullptr || p.f == nullptr || (jump && p.theta == nullptr) ||
      (!jump &&
       (p.scale == nullptr || p.b_gate == nullptr || p.b_mag == nullptr || p.gate == nullptr))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(CodeWeightsKernel, Grid(p.codes.capacity, kThreads), kThreads, 0, stream,
                        p);
}

Error LatentConstants(const LatentConstantsParams& p, void* stream) {
  const bool jump = p.rule == LatentRule::kJumpRelu;
  if (p.latents < 0 || (!jump && p.rule != LatentRule::kGated)) return Error::kInvalidArgument;
  if (p.latents == 0) return Error::kOk;
  if (p.lower == nullptr || (jump && (p.threshold == nullptr || p.theta == nullptr)) ||
      (!jump && (p.b_gate == nullptr || p.r_mag == nullptr || p.scale == nullptr))) {
    return Error::kInvalidArgument;
  }
  return SAELOOM_LAUNCH(LatentConstantsKernel, Grid(p.latents, kThreads), kThreads, 0, stream, p);
}

Error SinceFired(const SinceFiredParams& p, void* stream) {
  if (!Valid(p.codes) || p.index.latents < 0 || p.since == nullptr || p.dead == nullptr ||
      p.scratch == nullptr || (p.codes.capacity > 0 && p.f == nullptr)) {
    return Error::kInvalidArgument;
  }
  const std::int64_t latents = p.index.latents;
  const std::int64_t chunk = ChunkOf(latents);
  const unsigned chunks = chunk == 0 ? 0 : Grid(latents, chunk);
  Error error =
      SAELOOM_LAUNCH(ClearMarksKernel, Grid(latents + 1, kThreads), kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  error = SAELOOM_LAUNCH(MarkKernel, Grid(p.codes.capacity, kThreads), kThreads, 0, stream, p);
  if (error != Error::kOk) return error;
  error = SAELOOM_LAUNCH(AdvanceKernel, chunks, kThreads, 0, stream, p, chunk);
  if (error != Error::kOk) return error;
  error = SAELOOM_LAUNCH(ScanChunksKernel, 1, static_cast<unsigned>(kChunks), 0, stream,
                         p.scratch + latents, static_cast<int>(chunks), p.dead);
  if (error != Error::kOk || p.ids == nullptr) return error;
  return SAELOOM_LAUNCH(CompactKernel, chunks, kThreads, 0, stream, p, chunk);
}

}  // namespace cuda

namespace device {
std::int64_t BuildIndexScratchBytes(std::int64_t capacity, std::int64_t) {
  return cuda::Cut(nullptr, capacity).bytes;
}
}  // namespace device

}  // namespace sae::kernels
