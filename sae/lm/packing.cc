#include "sae/lm/packing.h"

#include <utility>

namespace sae::lm {

std::string PackingName(Packing packing) {
  switch (packing) {
    case Packing::kMask:
      return "mask";
    case Packing::kConcat:
      return "concat";
    case Packing::kNone:
      return "none";
  }
  return "";
}

absl::StatusOr<Packing> ParsePacking(const std::string& name) {
  for (const Packing packing : {Packing::kMask, Packing::kConcat, Packing::kNone}) {
    if (name == PackingName(packing)) return packing;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("packing \"", name, "\" is none of mask, concat, none"));
}

void PackedBatch::Clear() {
  batch.tokens.clear();
  batch.span_begins.clear();
  documents.clear();
  positions.clear();
}

Packer::Packer(Packing packing, std::int64_t context, std::int32_t separator)
    : packing_(packing), context_(context), separator_(separator) {}

void Packer::Push(std::int32_t token, std::int32_t document, std::int32_t position,
                  PackedBatch& out) {
  if (filled_ == 0) out.batch.StartSpan();
  out.batch.tokens.push_back(token);
  out.documents.push_back(document);
  out.positions.push_back(position);
  filled_ = (filled_ + 1) % context_;
}

void Packer::Add(std::int32_t document, std::span<const std::int32_t> ids, PackedBatch& out) {
  if (packing_ != Packing::kConcat) filled_ = 0;
  for (std::size_t i = 0; i < ids.size(); ++i)
    Push(ids[i], document, static_cast<std::int32_t>(i), out);
  if (packing_ == Packing::kConcat && separator_ >= 0) Push(separator_, document, -1, out);
}

PackedBatch TakeTail(PackedBatch& from, std::int64_t tokens) {
  PackedBatch tail;
  if (tokens == 0) return tail;
  const auto keep = static_cast<std::ptrdiff_t>(from.batch.size() - tokens);
  const auto move = [keep](std::vector<std::int32_t>& a, std::vector<std::int32_t>& b) {
    b.assign(a.begin() + keep, a.end());
    a.resize(static_cast<std::size_t>(keep));
  };
  move(from.batch.tokens, tail.batch.tokens);
  move(from.documents, tail.documents);
  move(from.positions, tail.positions);
  from.batch.span_begins.pop_back();
  tail.batch.span_begins = {0};
  return tail;
}

}  // namespace sae::lm
