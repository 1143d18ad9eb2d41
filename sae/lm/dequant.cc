#include "sae/lm/dequant.h"

#include <cstring>

#include "sae/base/dtype.h"

namespace sae::lm {
namespace {

using Byte = std::uint8_t;

float Half(const Byte* p) {
  std::uint16_t bits;
  std::memcpy(&bits, p, 2);
  return F16ToFloat(bits);
}

std::uint32_t Word(const Byte* p) {
  std::uint32_t bits;
  std::memcpy(&bits, p, 4);
  return bits;
}

void BlockF32(const Byte* b, float* y) { std::memcpy(y, b, 4); }
void BlockF16(const Byte* b, float* y) { *y = Half(b); }
void BlockBf16(const Byte* b, float* y) {
  std::uint16_t bits;
  std::memcpy(&bits, b, 2);
  *y = Bf16ToFloat(bits);
}

// 32 values: d, 16 bytes of two nibbles; low nibbles are values 0-15, high ones 16-31.
void BlockQ4_0(const Byte* b, float* y) {
  const float d = Half(b);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((b[2 + j] & 0xF) - 8) * d;
    y[j + 16] = static_cast<float>((b[2 + j] >> 4) - 8) * d;
  }
}

// As Q4_0, with a minimum m: x = q d + m.
void BlockQ4_1(const Byte* b, float* y) {
  const float d = Half(b);
  const float m = Half(b + 2);
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(b[4 + j] & 0xF) * d + m;
    y[j + 16] = static_cast<float>(b[4 + j] >> 4) * d + m;
  }
}

// d, 32 fifth bits, nibbles.
void BlockQ5_0(const Byte* b, float* y) {
  const float d = Half(b);
  const std::uint32_t high = Word(b + 2);
  for (int j = 0; j < 16; ++j) {
    const int h0 = static_cast<int>(((high >> j) << 4) & 0x10U);
    const int h1 = static_cast<int>((high >> (j + 12)) & 0x10U);
    y[j] = static_cast<float>(((b[6 + j] & 0xF) | h0) - 16) * d;
    y[j + 16] = static_cast<float>(((b[6 + j] >> 4) | h1) - 16) * d;
  }
}

void BlockQ5_1(const Byte* b, float* y) {
  const float d = Half(b);
  const float m = Half(b + 2);
  const std::uint32_t high = Word(b + 4);
  for (int j = 0; j < 16; ++j) {
    const int h0 = static_cast<int>(((high >> j) << 4) & 0x10U);
    const int h1 = static_cast<int>((high >> (j + 12)) & 0x10U);
    y[j] = static_cast<float>((b[8 + j] & 0xF) | h0) * d + m;
    y[j + 16] = static_cast<float>((b[8 + j] >> 4) | h1) * d + m;
  }
}

void BlockQ8_0(const Byte* b, float* y) {
  const float d = Half(b);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(static_cast<std::int8_t>(b[2 + j])) * d;
}

// Super-blocks of 256 values in 8 groups of 32, each with a 6-bit scale and minimum packed in 12
// bytes.
struct ScaleMin {
  float scale, min;
};
ScaleMin GroupScale(int group, const Byte* q) {
  if (group < 4) {
    return {static_cast<float>(q[group] & 63), static_cast<float>(q[group + 4] & 63)};
  }
  return {static_cast<float>((q[group + 4] & 0xF) | ((q[group - 4] >> 6) << 4)),
          static_cast<float>((q[group + 4] >> 4) | ((q[group] >> 6) << 4))};
}

void BlockQ4_K(const Byte* b, float* y) {
  const float d = Half(b);
  const float dmin = Half(b + 2);
  const Byte* q = b + 16;
  for (int group = 0; group < 8; group += 2, q += 32) {
    const ScaleMin low = GroupScale(group, b + 4);
    const ScaleMin high = GroupScale(group + 1, b + 4);
    const float d1 = d * low.scale, m1 = dmin * low.min;
    const float d2 = d * high.scale, m2 = dmin * high.min;
    for (int l = 0; l < 32; ++l) *y++ = d1 * static_cast<float>(q[l] & 0xF) - m1;
    for (int l = 0; l < 32; ++l) *y++ = d2 * static_cast<float>(q[l] >> 4) - m2;
  }
}

void BlockQ5_K(const Byte* b, float* y) {
  const float d = Half(b);
  const float dmin = Half(b + 2);
  const Byte* high = b + 16;  // bit g of byte l: the fifth bit of value l of group g
  const Byte* q = b + 48;
  for (int group = 0; group < 8; group += 2, q += 32) {
    const ScaleMin s1 = GroupScale(group, b + 4);
    const ScaleMin s2 = GroupScale(group + 1, b + 4);
    const float d1 = d * s1.scale, m1 = dmin * s1.min;
    const float d2 = d * s2.scale, m2 = dmin * s2.min;
    for (int l = 0; l < 32; ++l) {
      *y++ = d1 * static_cast<float>((q[l] & 0xF) + ((high[l] >> group) & 1) * 16) - m1;
    }
    for (int l = 0; l < 32; ++l) {
      *y++ = d2 * static_cast<float>((q[l] >> 4) + ((high[l] >> (group + 1)) & 1) * 16) - m2;
    }
  }
}

// 256 values: 128 bytes of low nibbles, 64 bytes of high bit pairs, 16 signed scales, d.
void BlockQ6_K(const Byte* b, float* y) {
  const Byte* low = b;
  const Byte* high = b + 128;
  const Byte* scales = b + 192;
  const float d = Half(b + 208);
  for (int half = 0; half < 2; ++half, y += 128, low += 64, high += 32, scales += 8) {
    for (int l = 0; l < 32; ++l) {
      const int q[4] = {(low[l] & 0xF) | ((high[l] & 3) << 4),
                        (low[l + 32] & 0xF) | (((high[l] >> 2) & 3) << 4),
                        (low[l] >> 4) | (((high[l] >> 4) & 3) << 4),
                        (low[l + 32] >> 4) | (((high[l] >> 6) & 3) << 4)};
      for (int k = 0; k < 4; ++k) {
        const auto scale = static_cast<std::int8_t>(scales[l / 16 + 2 * k]);
        y[l + 32 * k] = d * static_cast<float>(scale) * static_cast<float>(q[k] - 32);
      }
    }
  }
}

using BlockFunction = void (*)(const Byte*, float*);

BlockFunction FunctionOf(GgmlType type) {
  switch (type) {
    case GgmlType::kF32:
      return BlockF32;
    case GgmlType::kF16:
      return BlockF16;
    case GgmlType::kBF16:
      return BlockBf16;
    case GgmlType::kQ4_0:
      return BlockQ4_0;
    case GgmlType::kQ4_1:
      return BlockQ4_1;
    case GgmlType::kQ5_0:
      return BlockQ5_0;
    case GgmlType::kQ5_1:
      return BlockQ5_1;
    case GgmlType::kQ8_0:
      return BlockQ8_0;
    case GgmlType::kQ4_K:
      return BlockQ4_K;
    case GgmlType::kQ5_K:
      return BlockQ5_K;
    case GgmlType::kQ6_K:
      return BlockQ6_K;
    default:
      return nullptr;
  }
}

constexpr struct {
  GgmlType type;
  GgmlTypeInfo info;
} kTypes[] = {
    {GgmlType::kF32, {"F32", 1, 4}},
    {GgmlType::kF16, {"F16", 1, 2}},
    {GgmlType::kQ4_0, {"Q4_0", 32, 18}},
    {GgmlType::kQ4_1, {"Q4_1", 32, 20}},
    {GgmlType::kQ5_0, {"Q5_0", 32, 22}},
    {GgmlType::kQ5_1, {"Q5_1", 32, 24}},
    {GgmlType::kQ8_0, {"Q8_0", 32, 34}},
    {GgmlType::kQ8_1, {"Q8_1", 32, 36}},
    {GgmlType::kQ2_K, {"Q2_K", 256, 84}},
    {GgmlType::kQ3_K, {"Q3_K", 256, 110}},
    {GgmlType::kQ4_K, {"Q4_K", 256, 144}},
    {GgmlType::kQ5_K, {"Q5_K", 256, 176}},
    {GgmlType::kQ6_K, {"Q6_K", 256, 210}},
    {GgmlType::kQ8_K, {"Q8_K", 256, 292}},
    {GgmlType::kIQ2_XXS, {"IQ2_XXS", 256, 66}},
    {GgmlType::kIQ2_XS, {"IQ2_XS", 256, 74}},
    {GgmlType::kIQ3_XXS, {"IQ3_XXS", 256, 98}},
    {GgmlType::kIQ1_S, {"IQ1_S", 256, 50}},
    {GgmlType::kIQ4_NL, {"IQ4_NL", 32, 18}},
    {GgmlType::kIQ3_S, {"IQ3_S", 256, 110}},
    {GgmlType::kIQ2_S, {"IQ2_S", 256, 82}},
    {GgmlType::kIQ4_XS, {"IQ4_XS", 256, 136}},
    {GgmlType::kI8, {"I8", 1, 1}},
    {GgmlType::kI16, {"I16", 1, 2}},
    {GgmlType::kI32, {"I32", 1, 4}},
    {GgmlType::kI64, {"I64", 1, 8}},
    {GgmlType::kF64, {"F64", 1, 8}},
    {GgmlType::kIQ1_M, {"IQ1_M", 256, 56}},
    {GgmlType::kBF16, {"BF16", 1, 2}},
    {GgmlType::kTQ1_0, {"TQ1_0", 256, 54}},
    {GgmlType::kTQ2_0, {"TQ2_0", 256, 66}},
    {GgmlType::kMXFP4, {"MXFP4", 32, 17}},
};

}  // namespace

const GgmlTypeInfo* InfoOf(GgmlType type) {
  for (const auto& entry : kTypes) {
    if (entry.type == type) return &entry.info;
  }
  return nullptr;
}

std::string GgmlTypeName(GgmlType type) {
  const GgmlTypeInfo* info = InfoOf(type);
  return info != nullptr ? info->name : absl::StrCat("type ", static_cast<std::uint32_t>(type));
}

bool CanDequantise(GgmlType type) { return FunctionOf(type) != nullptr; }

absl::Status Dequantise(GgmlType type, std::span<const std::byte> raw, std::span<float> out) {
  const BlockFunction block = FunctionOf(type);
  if (block == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("quantisation ", GgmlTypeName(type),
                     " is not supported; convert the model to one of F32 F16 BF16 Q8_0 Q4_0 Q4_1 "
                     "Q5_0 Q5_1 Q4_K Q5_K Q6_K"));
  }
  const GgmlTypeInfo& info = *InfoOf(type);
  const auto values = static_cast<std::int64_t>(out.size());
  const auto bytes = static_cast<std::int64_t>(raw.size());
  if (values % info.block_values != 0 || bytes != values / info.block_values * info.block_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(info.name, ": ", bytes, " bytes do not hold ",
                                                   values, " values in blocks of ",
                                                   info.block_values));
  }
  const auto* p = reinterpret_cast<const Byte*>(raw.data());
  for (float* y = out.data(); y != out.data() + values;
       y += info.block_values, p += info.block_bytes) {
    block(p, y);
  }
  return absl::OkStatus();
}

}  // namespace sae::lm
