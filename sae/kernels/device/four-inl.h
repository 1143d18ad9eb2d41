#pragma once
// Four neighbouring elements in one access. For kernels alone.

#include <cstring>

#include "sae/kernels/device.h"

namespace sae::kernels::cuda {

/// Adjacent elements, for one load.
template <class T, int kCount>
struct alignas(kCount * sizeof(T)) Pack {
  T of[kCount];
};
template <class T>
using Four = Pack<T, 4>;

SAELOOM_HOST_DEVICE inline bool Aligned(const void* address, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(address) % bytes == 0;
}

template <std::size_t kBytes>
struct WordOf;
template <>
struct WordOf<4> {
  using type = unsigned;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = float4;
};
template <class T>
using Word = typename WordOf<sizeof(Four<T>)>::type;

/// `at` is aligned to four elements.
template <class T>
SAELOOM_DEVICE inline Four<T> LoadFour(const T* at) {
  const Word<T> word = *reinterpret_cast<const Word<T>*>(at);
  Four<T> out;
  std::memcpy(&out, &word, sizeof out);
  return out;
}
/// For what is read and written once: it is the first to leave the cache, so that what others read
/// again stays there.
template <class T>
SAELOOM_DEVICE inline Four<T> LoadFourOnce(const T* at) {
  const Word<T> word = __ldcs(reinterpret_cast<const Word<T>*>(at));
  Four<T> out;
  std::memcpy(&out, &word, sizeof out);
  return out;
}
template <class T>
SAELOOM_DEVICE inline void StoreFourOnce(T* at, const Four<T>& value) {
  Word<T> word;
  std::memcpy(&word, &value, sizeof word);
  __stcs(reinterpret_cast<Word<T>*>(at), word);
}

}  // namespace sae::kernels::cuda
