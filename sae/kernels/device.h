#pragma once
// What a .cu file is written in: the only header it includes beside its quartet header. nvcc
// compiles the file for the GPU; with -DSAELOOM_SIMT g++ compiles the same file as C++17 for the
// executor in tests/simt, which runs every kernel on the CPU. C++17.
//
//   SAELOOM_KERNEL void Name(args)       a kernel; SAELOOM_LAUNCH_BOUNDS(n) may follow the macro,
//                                        or (n, blocks that a multiprocessor shall hold at once)
//   SAELOOM_DEVICE, SAELOOM_HOST_DEVICE  functions called by kernels
//   SAELOOM_NO_INLINE                    between SAELOOM_DEVICE and the type: what is rarely
//                                        called, so that it costs the caller no registers
//   SAELOOM_LAUNCH(kernel, grid, block, shared_bytes, stream, args...) -> Error
//       grid and block: an integer or dim3; a template kernel in parentheses; enqueues and returns.
//       A grid without blocks is kOk and does nothing. More than 48 KB of shared memory, static
//       arrays included, needs no further call.
//   SAELOOM_SHARED(type, name, count)    static shared array: at most 48 KB a block in all
//   SAELOOM_DYNAMIC_SHARED(type, name)   `type* name`: the launch's shared_bytes, 16-byte aligned
//   SAELOOM_BARRIER(id)                  __syncthreads; the id (an integer literal) is unique in
//   its
//                                        file: the mutation tests delete barriers by it. All
//                                        threads of the block must come: none may have returned
//   SAELOOM_WARP_BARRIER(id)             __syncwarp over all 32 lanes
//   SAELOOM_UNROLL                       before a loop: unroll it whole, so that the arrays that it
//                                        indexes lie in registers
//   SAELOOM_NO_UNROLL                    before a loop: never unroll it
//   SAELOOM_FORGET(word)                 what was computed from this 32-bit integer variable is
//                                        computed anew from here on, not kept in registers
//
// Beside these: threadIdx, blockIdx, blockDim, gridDim; __shfl_sync, __shfl_up_sync,
// __shfl_down_sync, __shfl_xor_sync, __ballot_sync, __any_sync, __all_sync, __match_any_sync,
// __reduce_add_sync, __reduce_min_sync, __reduce_max_sync (32-bit), each with an explicit mask that
// names exactly the lanes that call it; __popc, __popcll, __ffs, __ffsll, __clz, __clzll, __brev;
// atomicAdd (int, unsigned, unsigned long long, float: never for gradients), atomicMax, atomicMin,
// atomicCAS, atomicOr, atomicAnd, atomicExch; __ldcs, __stcs; __threadfence; __fmaf_rn, __fma_rn,
// __fadd_rn, __fsub_rn, __fmul_rn, __fdiv_rn, __fsqrt_rn; __float_as_uint, __uint_as_float,
// __float_as_int, __int_as_float; float2, float4, int2, int4, uint2, uint4 with make_*; __stcg;
// cmath; bf16.h.
// Floating point is never contracted: write __fmaf_rn where one rounding is meant. A kernel's
// arguments are trivially copyable, 4 KB in all. Blocks of at most 1024 threads, a multiple of 32
// where warp functions are used. No block waits for another.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "sae/kernels/bf16.h"
#include "sae/kernels/error.h"

#if defined(SAELOOM_SIMT)
#include "simt_device.h"
#else

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define SAELOOM_KERNEL __global__
#define SAELOOM_LAUNCH_BOUNDS(...) __launch_bounds__(__VA_ARGS__)
#define SAELOOM_NO_INLINE __noinline__
#define SAELOOM_DEVICE __device__
#define SAELOOM_SHARED(type, name, count) __shared__ type name[count]
#define SAELOOM_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char saeloom_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(saeloom_dynamic_shared)
#define SAELOOM_BARRIER(id) __syncthreads()
#define SAELOOM_WARP_BARRIER(id) __syncwarp()
#define SAELOOM_UNROLL _Pragma("unroll")
#define SAELOOM_NO_UNROLL _Pragma("unroll 1")
#if defined(__CUDA_ARCH__)
#define SAELOOM_FORGET(word) asm volatile("" : "+r"(word))
#else
#define SAELOOM_FORGET(word) static_cast<void>(word)
#endif
#define SAELOOM_LAUNCH(kernel, grid, block, ...) \
  ::sae::kernels::cuda::LaunchKernel(kernel, grid, block, __VA_ARGS__)

namespace sae::kernels::cuda {

template <class T>
struct Identity {
  using type = T;
};

/// Lets `function` have this much dynamic shared memory. Beyond 48 KB together with its static
/// arrays a kernel must ask; it asks for all there is, so that no launch of another size, thread or
/// graph takes back what this one needs.
inline bool AllowShared(const void* function, std::size_t shared_bytes) {
  cudaFuncAttributes of{};
  if (cudaFuncGetAttributes(&of, function) != cudaSuccess) return false;
  if (of.sharedSizeBytes + shared_bytes <= 48 * 1024) return true;
  int device = 0, most = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) ==
             cudaSuccess &&
         cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(of.sharedSizeBytes)) == cudaSuccess;
}

template <class... P>
Error LaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared_bytes,
                   void* stream, typename Identity<P>::type... args) {
  static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel takes at most 4 KB of arguments");
  static_assert((std::is_trivially_copyable_v<P> && ...), "arguments are copied to the device");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return Error::kOk;
  const void* function = reinterpret_cast<const void*>(kernel);
  void* pointers[] = {static_cast<void*>(&args)..., nullptr};
  if ((shared_bytes == 0 || AllowShared(function, shared_bytes)) &&
      cudaLaunchKernel(function, grid, block, pointers, shared_bytes,
                       static_cast<cudaStream_t>(stream)) == cudaSuccess) {
    return Error::kOk;
  }
  cudaGetLastError();  // else the next launch of a library would report it again
  return Error::kLaunchFailed;
}

}  // namespace sae::kernels::cuda

#endif  // SAELOOM_SIMT
