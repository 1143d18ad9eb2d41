#include "sae/data/row_codec.h"

#include <algorithm>

#include "sae/base/check.h"

namespace sae::data {
namespace {

constexpr std::uint32_t kExponent = 0x7f800000U;

std::int64_t FirstNotFinite(std::span<const float> values) {
  std::uint32_t any = 0;
  for (const float v : values) {
    any |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(v) & kExponent) == kExponent);
  }
  if (any == 0) return -1;
  const auto it = std::find_if(values.begin(), values.end(), [](float v) {
    return (std::bit_cast<std::uint32_t>(v) & kExponent) == kExponent;
  });
  return it - values.begin();
}

}  // namespace

std::int64_t EncodeValues(std::span<const float> values, DType dtype, std::byte* out) {
  if (values.empty()) return -1;  // memcpy wants addresses even for nothing
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, values.data(), values.size_bytes());
      return FirstNotFinite(values);
    case DType::kBf16: {
      std::int64_t bad = -1;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint16_t h = FloatToBf16(values[i]);
        if ((h & 0x7f80U) == 0x7f80U && bad < 0) bad = static_cast<std::int64_t>(i);
        std::memcpy(out + 2 * i, &h, 2);
      }
      return bad;
    }
    case DType::kF16: {
      std::int64_t bad = -1;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::uint16_t h = FloatToF16(values[i]);
        if ((h & 0x7c00U) == 0x7c00U && bad < 0) bad = static_cast<std::int64_t>(i);
        std::memcpy(out + 2 * i, &h, 2);
      }
      return bad;
    }
    default:
      SAE_CHECK_MSG(false, "dtype %d cannot be stored", static_cast<int>(dtype));
      return 0;
  }
}

std::int64_t DecodeValues(const std::byte* data, DType dtype, std::span<float> values) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(values.data(), data, values.size_bytes());
      break;
    case DType::kBf16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t h;
        std::memcpy(&h, data + 2 * i, 2);
        values[i] = Bf16ToFloat(h);
      }
      break;
    case DType::kF16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        std::uint16_t h;
        std::memcpy(&h, data + 2 * i, 2);
        values[i] = F16ToFloat(h);
      }
      break;
    default:
      SAE_CHECK_MSG(false, "dtype %d cannot be read as rows", static_cast<int>(dtype));
  }
  return FirstNotFinite(values);
}

}  // namespace sae::data
