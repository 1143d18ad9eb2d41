#pragma once
// The language of sae/kernels/device.h on the CPU: what a .cu file sees when g++ compiles it with
// SAELOOM_SIMT. One fiber plays one thread of a block; fibers switch in barriers and warp functions
// only. Nothing here may be used outside a kernel except SAELOOM_LAUNCH. C++17.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#include "sae/kernels/error.h"

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

namespace sae::simt {

/// Which thread of which block the running fiber plays.
struct ThreadView {
  dim3 thread, block, block_dim, grid_dim;
};
extern __thread const ThreadView* current_thread;

enum class WarpOp {
  kBarrier,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kAny,
  kAll,
  kMatchAny,
  kReduceAdd,
  kReduceMin,
  kReduceMax,
  kReduceMinSigned,
  kReduceMaxSigned,
};

/// Waits for all lanes of `mask`; gives the lane its result.
std::uint64_t WarpExchange(WarpOp op, unsigned mask, std::uint64_t value, int argument = 0,
                           int width = 32);
void Barrier(const char* file, int id);
void WarpBarrier(const char* file, int id);
/// The block's storage for the declaration that `key` stands for; the same for all its threads.
void* StaticShared(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
void* DynamicShared();

/// Enqueues body(), to be called once by each thread of each block, on `stream`.
kernels::Error Enqueue(const char* name, dim3 grid, dim3 block, std::size_t shared_bytes,
                       void* stream, std::function<void()> body);

template <class T>
struct Identity {
  using type = T;
};

template <class... P>
kernels::Error Launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block,
                      std::size_t shared_bytes, void* stream, typename Identity<P>::type... args) {
  static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel takes at most 4 KB of arguments");
  static_assert((std::is_trivially_copyable_v<P> && ...), "arguments are copied to the device");
  return Enqueue(
      name, grid, block, shared_bytes, stream,
      [kernel, arguments = std::tuple<P...>(args...)] { std::apply(kernel, arguments); });
}

template <class T>
std::uint64_t ToBits(T value) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "warp functions take 4 or 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  return bits;
}
template <class T>
T FromBits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

template <class T>
T AtomicUpdate(T* address, T operand, T (*combine)(T, T)) {
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  T wanted = combine(old, operand);
  while (!__atomic_compare_exchange_n(address, &old, wanted, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_RELAXED)) {
    wanted = combine(old, operand);
  }
  return old;
}

template <class T>
constexpr bool kAtomic =
    std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, unsigned long long>;

}  // namespace sae::simt

#define SAELOOM_KERNEL
#define SAELOOM_LAUNCH_BOUNDS(...)
#define SAELOOM_NO_INLINE __attribute__((noinline))
#define SAELOOM_DEVICE
#define SAELOOM_SHARED(type, name, count)                                           \
  static const char saeloom_key_##name = 0;                                         \
  type(&name)[count] = *reinterpret_cast<type(*)[count]>(::sae::simt::StaticShared( \
      &saeloom_key_##name, #name, sizeof(type) * static_cast<std::size_t>(count), alignof(type)))
#define SAELOOM_DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::sae::simt::DynamicShared())
#define SAELOOM_BARRIER(id) ::sae::simt::Barrier(__FILE__, id)
#define SAELOOM_WARP_BARRIER(id) ::sae::simt::WarpBarrier(__FILE__, id)
#define SAELOOM_UNROLL
#define SAELOOM_FORGET(word) static_cast<void>(word)
#define SAELOOM_NO_UNROLL
#define SAELOOM_LAUNCH(kernel, grid, block, ...) \
  ::sae::simt::Launch(#kernel, kernel, grid, block, __VA_ARGS__)

#define threadIdx (::sae::simt::current_thread->thread)
#define blockIdx (::sae::simt::current_thread->block)
#define blockDim (::sae::simt::current_thread->block_dim)
#define gridDim (::sae::simt::current_thread->grid_dim)

/// A store of all of T at once.
template <class T>
void __stcg(T* address, T value) {
  *address = value;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  return sae::simt::FromBits<T>(sae::simt::WarpExchange(sae::simt::WarpOp::kShuffle, mask,
                                                        sae::simt::ToBits(value), source, width));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return sae::simt::FromBits<T>(sae::simt::WarpExchange(sae::simt::WarpOp::kShuffleUp, mask,
                                                        sae::simt::ToBits(value),
                                                        static_cast<int>(delta), width));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return sae::simt::FromBits<T>(sae::simt::WarpExchange(sae::simt::WarpOp::kShuffleDown, mask,
                                                        sae::simt::ToBits(value),
                                                        static_cast<int>(delta), width));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return sae::simt::FromBits<T>(sae::simt::WarpExchange(sae::simt::WarpOp::kShuffleXor, mask,
                                                        sae::simt::ToBits(value), lanes, width));
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(
      sae::simt::WarpExchange(sae::simt::WarpOp::kBallot, mask, predicate != 0 ? 1U : 0U));
}
inline int __any_sync(unsigned mask, int predicate) {
  return static_cast<int>(
      sae::simt::WarpExchange(sae::simt::WarpOp::kAny, mask, predicate != 0 ? 1U : 0U));
}
inline int __all_sync(unsigned mask, int predicate) {
  return static_cast<int>(
      sae::simt::WarpExchange(sae::simt::WarpOp::kAll, mask, predicate != 0 ? 1U : 0U));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  return static_cast<unsigned>(
      sae::simt::WarpExchange(sae::simt::WarpOp::kMatchAny, mask, sae::simt::ToBits(value)));
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value) {
  return static_cast<unsigned>(sae::simt::WarpExchange(sae::simt::WarpOp::kReduceAdd, mask, value));
}
inline int __reduce_add_sync(unsigned mask, int value) {
  return static_cast<int>(__reduce_add_sync(mask, static_cast<unsigned>(value)));
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  return static_cast<unsigned>(sae::simt::WarpExchange(sae::simt::WarpOp::kReduceMin, mask, value));
}
inline int __reduce_min_sync(unsigned mask, int value) {
  return sae::simt::FromBits<int>(
      sae::simt::WarpExchange(sae::simt::WarpOp::kReduceMinSigned, mask, sae::simt::ToBits(value)));
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  return static_cast<unsigned>(sae::simt::WarpExchange(sae::simt::WarpOp::kReduceMax, mask, value));
}
inline int __reduce_max_sync(unsigned mask, int value) {
  return sae::simt::FromBits<int>(
      sae::simt::WarpExchange(sae::simt::WarpOp::kReduceMaxSigned, mask, sae::simt::ToBits(value)));
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x));
}
inline unsigned __brev(unsigned x) {
  x = ((x >> 1) & 0x55555555U) | ((x & 0x55555555U) << 1);
  x = ((x >> 2) & 0x33333333U) | ((x & 0x33333333U) << 2);
  x = ((x >> 4) & 0x0F0F0F0FU) | ((x & 0x0F0F0F0FU) << 4);
  return __builtin_bswap32(x);
}

template <class T, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicAdd(T* address, V value) {
  return __atomic_fetch_add(address, static_cast<T>(value), __ATOMIC_SEQ_CST);
}
inline float atomicAdd(float* address, float value) {
  auto* bits = reinterpret_cast<unsigned*>(address);
  unsigned old = __atomic_load_n(bits, __ATOMIC_RELAXED);
  for (;;) {
    const float sum = sae::simt::FromBits<float>(old) + value;
    const auto wanted = static_cast<unsigned>(sae::simt::ToBits(sum));
    if (__atomic_compare_exchange_n(bits, &old, wanted, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_RELAXED)) {
      return sae::simt::FromBits<float>(old);
    }
  }
}
template <class T, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicMax(T* address, V value) {
  return sae::simt::AtomicUpdate<T>(address, static_cast<T>(value),
                                    [](T a, T b) { return a < b ? b : a; });
}
template <class T, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicMin(T* address, V value) {
  return sae::simt::AtomicUpdate<T>(address, static_cast<T>(value),
                                    [](T a, T b) { return b < a ? b : a; });
}
template <class T, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicOr(T* address, V value) {
  return __atomic_fetch_or(address, static_cast<T>(value), __ATOMIC_SEQ_CST);
}
template <class T, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicAnd(T* address, V value) {
  return __atomic_fetch_and(address, static_cast<T>(value), __ATOMIC_SEQ_CST);
}
template <class T, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicExch(T* address, V value) {
  return __atomic_exchange_n(address, static_cast<T>(value), __ATOMIC_SEQ_CST);
}
template <class T, class C, class V>
std::enable_if_t<sae::simt::kAtomic<T>, T> atomicCAS(T* address, C compare, V value) {
  auto expected = static_cast<T>(compare);
  __atomic_compare_exchange_n(address, &expected, static_cast<T>(value), false, __ATOMIC_SEQ_CST,
                              __ATOMIC_SEQ_CST);
  return expected;
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T>
T __ldcs(const T* address) {
  return *address;
}
template <class T>
void __stcs(T* address, T value) {
  *address = value;
}

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(sae::simt::ToBits(x)); }
inline int __float_as_int(float x) { return static_cast<int>(__float_as_uint(x)); }
inline float __uint_as_float(unsigned x) { return sae::simt::FromBits<float>(x); }
inline float __int_as_float(int x) { return __uint_as_float(static_cast<unsigned>(x)); }
