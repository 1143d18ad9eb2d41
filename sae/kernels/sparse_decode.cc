#include "sae/kernels/sparse_decode.h"

namespace sae::kernels {
namespace {

template <class T>
bool Valid(const SparseDecodeParams<T>& p) {
  if (p.tokens < 0 || p.d < 0) return false;
  if (p.tokens == 0 || p.d == 0) return true;
  // ids, values and decoder may be null where there are no entries at all.
  return p.indptr != nullptr && p.output != nullptr;
}

}  // namespace

template <class T>
Error SparseDecode(Device device, const SparseDecodeParams<T>& params, ThreadPool& pool,
                   void* stream) {
  if (!Valid(params)) return Error::kInvalidArgument;
  if (params.tokens == 0 || params.d == 0) return Error::kOk;
  switch (device) {
    case Device::kCpu:
      cpu::SparseDecode(params, pool);
      return Error::kOk;
    case Device::kCuda:
      return cuda::SparseDecode(params, stream);
  }
  return Error::kUnsupportedDevice;
}

template Error SparseDecode(Device, const SparseDecodeParams<float>&, ThreadPool&, void*);
template Error SparseDecode(Device, const SparseDecodeParams<double>&, ThreadPool&, void*);

}  // namespace sae::kernels
