#include "sae/kernels/device/encode.h"

#include <algorithm>

#include "sae/kernels/device/encode_chunks.h"
#include "sae/kernels/device/prepare.h"

namespace sae::kernels::device {
namespace {

std::int64_t Columns(const EncodeParams& p) { return p.ids == nullptr ? p.latents : p.id_limit; }
std::int64_t GroupTokens(const EncodeParams& p) {
  return std::min(p.schedule.group_tokens, p.tokens);
}
bool FixedShape(const EncodeParams& p) { return p.schedule.fixed_columns > 0; }
std::int64_t ChunkColumns(const EncodeParams& p) {
  return FixedShape(p) ? p.schedule.fixed_columns : std::min(p.schedule.chunk_columns, Columns(p));
}
/// Of a product for `columns` of a chunk.
std::int64_t ProductColumns(const EncodeParams& p, std::int64_t columns) {
  return FixedShape(p) ? p.schedule.fixed_columns : columns;
}
/// Rows are copied where they are not read as they lie.
bool Gathers(const EncodeParams& p) { return p.exact || p.ids != nullptr || FixedShape(p); }

/// Columns [first, first + columns): rows ready for products.
struct Rows {
  const float* joined = nullptr;
  const std::uint16_t* hi = nullptr;
  const float* c = nullptr;
};

Error GetRows(const EncodeParams& p, const EncodeScratch& scratch, std::int64_t first,
              std::int64_t columns, Rows* rows, void* stream) {
  if (!Gathers(p)) {
    *rows = {nullptr, p.w.hi + first * p.d, p.c + first};
    return Error::kOk;
  }
  *rows = {scratch.joined, scratch.hi, scratch.c};
  GatherRowsParams gather;
  gather.w = p.w;
  gather.c = p.c;
  gather.ids = p.ids;
  gather.id_count = p.id_count;
  gather.id_limit = p.id_limit;
  gather.overflow = p.id_overflow;
  gather.first = first;
  gather.rows = ProductColumns(p, columns);
  gather.all_rows = Columns(p);
  gather.d = p.d;
  gather.joined = scratch.joined;
  gather.hi = scratch.hi;
  gather.c_out = scratch.c;
  return cuda::GatherRows(gather, stream);
}

template <class T>
cuda::GemmParams<T> Product(const EncodeParams& p, const T* x, std::int64_t tokens, const T* rows,
                            std::int64_t columns, float* out) {
  cuda::GemmParams<T> gemm;
  gemm.m = tokens;
  gemm.n = columns;
  gemm.k = p.d;
  gemm.a = x;
  gemm.lda = p.d;
  gemm.b = rows;
  gemm.ldb = p.d;
  gemm.c = out;
  gemm.ldc = ChunkColumns(p);
  return gemm;
}

using Select = absl::FunctionRef<Error(const ChunkProducts&, std::int64_t token)>;
/// After all tokens of the columns before `end`.
using Between = absl::FunctionRef<Error(std::int64_t end)>;

Error EncodeColumns(cuda::DeviceLibrary* library, const EncodeParams& p,
                    const EncodeScratch& scratch, std::int64_t first, std::int64_t columns,
                    Select select, void* stream) {
  Rows rows;
  const std::int64_t product = ProductColumns(p, columns);
  Error error = GetRows(p, scratch, first, columns, &rows, stream);
  for (std::int64_t token = 0; token < p.tokens && error == Error::kOk; token += GroupTokens(p)) {
    ChunkProducts chunk;
    chunk.products = scratch.products;
    chunk.ld = ChunkColumns(p);
    chunk.tokens = std::min(GroupTokens(p), p.tokens - token);
    chunk.columns = columns;
    chunk.c = rows.c;
    chunk.scale = p.scale;
    chunk.first_id = static_cast<std::int32_t>(first);
    chunk.ids = p.ids == nullptr ? nullptr : p.ids + first;
    chunk.finite = p.finite;
    error = p.exact ? cuda::GemmF32(library,
                                    Product(p, p.x + token * p.d, chunk.tokens, rows.joined,
                                            product, scratch.products),
                                    stream)
                    : cuda::GemmBf16(library,
                                     Product(p, p.x_bf16 + token * p.d, chunk.tokens, rows.hi,
                                             product, scratch.products),
                                     stream);
    if (error == Error::kOk) error = select(chunk, token);
  }
  return error;
}

Error Nothing(std::int64_t /*end*/) { return Error::kOk; }

}  // namespace

bool Valid(const EncodeParams& p) {
  if (p.latents < 0 || p.tokens < 0 || p.d < 1 || p.id_limit < 0 || p.schedule.group_tokens < 1 ||
      p.schedule.chunk_columns < 1 || p.schedule.first_columns < 0 ||
      p.schedule.fixed_columns < 0) {
    return false;
  }
  if (Columns(p) == 0 || p.tokens == 0) return true;
  return p.w.hi != nullptr && p.c != nullptr && p.finite != nullptr && p.scratch != nullptr &&
         (p.exact ? p.x != nullptr : p.x_bf16 != nullptr) &&
         (p.ids == nullptr || p.id_count != nullptr);
}

EncodeScratch TakeEncodeScratch(const EncodeParams& p, ScratchParts* parts) {
  EncodeScratch out;
  const std::int64_t columns = ChunkColumns(p);
  out.products = parts->Take<float>(GroupTokens(p) * columns);
  if (p.exact) out.joined = parts->Take<float>(columns * p.d);
  if (!p.exact && Gathers(p)) out.hi = parts->Take<std::uint16_t>(columns * p.d);
  if (Gathers(p)) out.c = parts->Take<float>(columns);
  return out;
}

std::int64_t FirstColumns(const EncodeParams& p) {
  return p.schedule.first_columns > 0 ? p.schedule.first_columns : p.schedule.chunk_columns;
}

Error EncodeChunks(cuda::DeviceLibrary* library, const EncodeParams& p,
                   const EncodeScratch& scratch, std::int64_t first_columns, Select select,
                   Between between, void* stream) {
  std::int64_t columns = std::min(first_columns, ChunkColumns(p));
  Error error = Error::kOk;
  for (std::int64_t first = 0; first < Columns(p) && error == Error::kOk;) {
    const std::int64_t here = std::min(columns, Columns(p) - first);
    error = EncodeColumns(library, p, scratch, first, here, select, stream);
    first += here;
    if (error == Error::kOk) error = between(first);
    columns = std::min(2 * columns, ChunkColumns(p));
  }
  return error;
}

Slots SlotsFrom(const Slots& slots, std::int64_t token, std::int64_t tokens) {
  Slots out = slots;
  out.values += token * slots.capacity;
  out.ids += token * slots.capacity;
  out.counts += token;
  out.tokens = tokens;
  return out;
}

bool Valid(const EncodeParams& params, const LargestParams& largest) {
  return Valid(params) && largest.wanted >= 1 && largest.slots.tokens == params.tokens &&
         largest.cut != nullptr && largest.histogram != nullptr && largest.floor != nullptr;
}

std::int64_t FirstColumns(const EncodeParams& params, const LargestParams& largest) {
  if (params.schedule.first_columns > 0) return params.schedule.first_columns;
  return std::max<std::int64_t>(1, largest.slots.capacity);
}

Error BeginLargest(const LargestParams& largest, void* stream) {
  const Error error = cuda::Fill({largest.slots.counts, largest.slots.tokens, 0}, stream);
  if (error != Error::kOk) return error;
  return cuda::Fill({reinterpret_cast<std::int32_t*>(largest.floor), 1, 0}, stream);  // 0.0F
}

Error Raise(const LargestParams& p, const float* ranked, float* companion, void* stream) {
  constexpr auto kCutInts = static_cast<std::int64_t>(sizeof(BatchCut) / sizeof(std::int32_t));
  Slots counted = p.slots;
  counted.values = const_cast<float*>(ranked);  // only read
  Error error = cuda::Fill({reinterpret_cast<std::int32_t*>(p.cut), kCutInts, 0}, stream);
  for (int round = 0; round < 3 && error == Error::kOk; ++round) {
    error = cuda::Fill({reinterpret_cast<std::int32_t*>(p.histogram), 2 * kRadixBins, 0}, stream);
    if (error == Error::kOk) error = cuda::RadixHistogram({counted, p.cut, p.histogram}, stream);
    if (error == Error::kOk) error = cuda::RadixPick({p.histogram, p.wanted, p.cut}, stream);
  }
  if (error != Error::kOk) return error;
  KeepFromCutParams keep;
  keep.slots = p.slots;
  keep.cut = p.cut;
  keep.cut_value = p.floor;
  keep.companion = companion;
  return cuda::KeepFromCut(keep, stream);
}

bool RaisesAt(const EncodeParams& params, std::int64_t end, std::int64_t* raised) {
  if (end < 2 * *raised && end < Columns(params)) return false;
  *raised = end;
  return true;
}

std::int64_t EncodeScratchBytes(const EncodeParams& params) {
  ScratchParts parts(nullptr);
  TakeEncodeScratch(params, &parts);
  return parts.bytes();
}

Error EncodeTopK(cuda::DeviceLibrary* library, const EncodeParams& params, const TopKState& state,
                 void* stream) {
  if (!Valid(params) || state.k < 1) return Error::kInvalidArgument;
  const Error error = cuda::Fill({state.counts, params.tokens, 0}, stream);
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    TopKUpdateParams update;
    update.chunk = chunk;
    update.k = state.k;
    update.values = state.values + token * state.k;
    update.ids = state.ids + token * state.k;
    update.counts = state.counts + token;
    return cuda::TopKUpdate(update, stream);
  };
  ScratchParts parts(params.scratch);
  return EncodeChunks(library, params, TakeEncodeScratch(params, &parts), FirstColumns(params),
                      select, Nothing, stream);
}

Error EncodeAbove(cuda::DeviceLibrary* library, const EncodeParams& params, const float* lower,
                  const Slots& slots, void* stream) {
  if (!Valid(params) || slots.tokens != params.tokens) return Error::kInvalidArgument;
  const Error error = cuda::Fill({slots.counts, params.tokens, 0}, stream);
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    AppendAboveParams append;
    append.chunk = chunk;
    append.lower = lower;
    append.out = SlotsFrom(slots, token, chunk.tokens);
    return cuda::AppendAbove(append, stream);
  };
  ScratchParts parts(params.scratch);
  return EncodeChunks(library, params, TakeEncodeScratch(params, &parts), FirstColumns(params),
                      select, Nothing, stream);
}

Error EncodeLargest(cuda::DeviceLibrary* library, const EncodeParams& params,
                    const LargestParams& largest, void* stream) {
  if (!Valid(params, largest)) return Error::kInvalidArgument;
  const Error error = BeginLargest(largest, stream);
  if (error != Error::kOk) return error;
  const auto select = [&](const ChunkProducts& chunk, std::int64_t token) {
    AppendAboveParams append;
    append.chunk = chunk;
    append.floor = largest.floor;
    append.out = SlotsFrom(largest.slots, token, chunk.tokens);
    return cuda::AppendAbove(append, stream);
  };
  std::int64_t raised = 0;
  const auto between = [&](std::int64_t end) {
    if (!RaisesAt(params, end, &raised)) return Error::kOk;
    return Raise(largest, largest.slots.values, nullptr, stream);
  };
  ScratchParts parts(params.scratch);
  return EncodeChunks(library, params, TakeEncodeScratch(params, &parts),
                      FirstColumns(params, largest), select, between, stream);
}

}  // namespace sae::kernels::device
