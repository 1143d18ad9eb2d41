#pragma once
// Data for the communicator suite: small integers, exact in every element type, and the expected
// results by plain arithmetic that shares nothing with the backends.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "sae/base/dtype.h"
#include "sae/base/status.h"
#include "sae/comm/communicator.h"

namespace sae::comm::contract {

using Bytes = std::vector<unsigned char>;

template <class T, DType D>
struct Plain {
  using Type = T;
  static constexpr DType kDType = D;
  static T From(int value) { return static_cast<T>(value); }
};
struct F32 : Plain<float, DType::kF32> {
  static constexpr const char* kName = "f32";
};
struct F64 : Plain<double, DType::kF64> {
  static constexpr const char* kName = "f64";
};
struct I32 : Plain<std::int32_t, DType::kI32> {
  static constexpr const char* kName = "i32";
};
struct I64 : Plain<std::int64_t, DType::kI64> {
  static constexpr const char* kName = "i64";
};
struct U8 : Plain<std::uint8_t, DType::kU8> {
  static constexpr const char* kName = "u8";
};
struct F16 {
  using Type = std::uint16_t;
  static constexpr DType kDType = DType::kF16;
  static constexpr const char* kName = "f16";
  static Type From(int value) { return FloatToF16(static_cast<float>(value)); }
};
struct Bf16 {
  using Type = std::uint16_t;
  static constexpr DType kDType = DType::kBf16;
  static constexpr const char* kName = "bf16";
  static Type From(int value) { return FloatToBf16(static_cast<float>(value)); }
};

template <class F>
absl::Status ForEveryType(const F& f) {
  SAE_RETURN_IF_ERROR(f(F32{}));
  SAE_RETURN_IF_ERROR(f(F64{}));
  SAE_RETURN_IF_ERROR(f(I32{}));
  SAE_RETURN_IF_ERROR(f(I64{}));
  SAE_RETURN_IF_ERROR(f(U8{}));
  SAE_RETURN_IF_ERROR(f(F16{}));
  return f(Bf16{});
}

/// Element i of rank r: 0..15, so that sums over 8 ranks stay exact even in 8 bits.
inline int ValueOf(int rank, std::int64_t i) {
  return static_cast<int>((static_cast<std::uint64_t>(i) * 2654435761U +
                           static_cast<std::uint64_t>(rank) * 40503U) >>
                          7) &
         15;
}

template <class E>
Bytes Pack(const std::vector<int>& values) {
  Bytes out(values.size() * sizeof(typename E::Type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const typename E::Type value = E::From(values[i]);
    std::memcpy(out.data() + i * sizeof(value), &value, sizeof(value));
  }
  return out;
}

template <class E>
Bytes Fill(int rank, std::int64_t count) {
  std::vector<int> values;
  for (std::int64_t i = 0; i < count; ++i) values.push_back(ValueOf(rank, i));
  return Pack<E>(values);
}

/// Elements [first, first + count) reduced over all ranks.
template <class E>
Bytes Reduced(int ranks, std::int64_t count, std::int64_t first, ReduceOp op) {
  std::vector<int> values;
  for (std::int64_t i = first; i < first + count; ++i) {
    int value = ValueOf(0, i);
    for (int r = 1; r < ranks; ++r) {
      const int next = ValueOf(r, i);
      value = op == ReduceOp::kSum   ? value + next
              : op == ReduceOp::kMax ? std::max(value, next)
                                     : std::min(value, next);
    }
    values.push_back(value);
  }
  return Pack<E>(values);
}

inline absl::Status Expect(const Bytes& expected, const Bytes& actual, const std::string& what) {
  if (expected == actual) return absl::OkStatus();
  const auto at =
      std::mismatch(expected.begin(), expected.end(), actual.begin()).first - expected.begin();
  return absl::InternalError(absl::StrCat(what, ": first wrong byte ", at));
}

}  // namespace sae::comm::contract
