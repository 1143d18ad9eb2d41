#include "sae/comm/reduce.h"

#include <algorithm>
#include <type_traits>

namespace sae::comm {
namespace {

template <class T>
T Combine(T a, T b, ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      if constexpr (std::is_integral_v<T>) {
        using U = std::make_unsigned_t<T>;
        return static_cast<T>(static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
      } else {
        return a + b;
      }
    case ReduceOp::kMax:
      return std::max(a, b);
    case ReduceOp::kMin:
      return std::min(a, b);
  }
  return a;
}

template <class T>
void Reduce(void* accumulator, const void* next, std::int64_t count, ReduceOp op) {
  T* a = static_cast<T*>(accumulator);
  const T* b = static_cast<const T*>(next);
  if (op == ReduceOp::kSum) {  // the hot one: a loop that vectorises
    for (std::int64_t i = 0; i < count; ++i) a[i] = Combine(a[i], b[i], ReduceOp::kSum);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) a[i] = Combine(a[i], b[i], op);
}

template <class Widen, class Narrow>
void ReduceHalf(void* accumulator, const void* next, std::int64_t count, ReduceOp op,
                const Widen& widen, const Narrow& narrow) {
  auto* a = static_cast<std::uint16_t*>(accumulator);
  const auto* b = static_cast<const std::uint16_t*>(next);
  for (std::int64_t i = 0; i < count; ++i) a[i] = narrow(Combine(widen(a[i]), widen(b[i]), op));
}

}  // namespace

void ReduceInto(void* accumulator, const void* next, std::int64_t count, DType dtype, ReduceOp op) {
  switch (dtype) {
    case DType::kF32:
      return Reduce<float>(accumulator, next, count, op);
    case DType::kF64:
      return Reduce<double>(accumulator, next, count, op);
    case DType::kI32:
      return Reduce<std::int32_t>(accumulator, next, count, op);
    case DType::kI64:
      return Reduce<std::int64_t>(accumulator, next, count, op);
    case DType::kU8:
      return Reduce<std::uint8_t>(accumulator, next, count, op);
    case DType::kF16:
      return ReduceHalf(accumulator, next, count, op, F16ToFloat, FloatToF16);
    case DType::kBf16:
      return ReduceHalf(accumulator, next, count, op, Bf16ToFloat, FloatToBf16);
  }
}

}  // namespace sae::comm
