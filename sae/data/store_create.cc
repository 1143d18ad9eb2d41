#include "sae/data/store_create.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "sae/base/npy.h"
#include "sae/base/safetensors.h"

namespace sae::data {
namespace {

bool IsFloating(DType t) {
  return t == DType::kF32 || t == DType::kF64 || t == DType::kF16 || t == DType::kBf16;
}

/// An opened file, and the matrix and columns in it. Views live as long as the readers.
struct ImportSource {
  std::unique_ptr<NpyReader> npy;
  std::unique_ptr<SafetensorsReader> safetensors;
  TensorView matrix, targets;
  std::int64_t rows = 0, d = 0, target_d = 0;
  std::vector<std::int32_t> token_ids, positions, documents;
};

/// The tensor to import when the user named none.
absl::StatusOr<std::string> ChooseTensor(const SafetensorsReader& reader) {
  if (reader.tensors().contains("activations")) return std::string("activations");
  std::vector<std::string> names;
  for (const auto& [name, view] : reader.tensors()) {
    if (IsFloating(view.dtype) && view.shape.size() >= 2) names.push_back(name);
  }
  if (names.size() == 1) return names[0];
  std::string list;
  for (const auto& name : names) absl::StrAppend(&list, list.empty() ? "" : ", ", name);
  return absl::InvalidArgumentError(
      absl::StrCat(reader.path(), " holds ", names.size(), " matrices of floating values",
                   names.empty() ? "" : " (" + list + "): name one with --tensor"));
}

absl::Status ReadImportColumn(const SafetensorsReader& reader, const std::string& name,
                              std::int64_t rows, std::vector<std::int32_t>& out) {
  const auto it = reader.tensors().find(name);
  if (it == reader.tensors().end()) return absl::OkStatus();
  const TensorView& view = it->second;
  if (view.elements() != rows || (view.dtype != DType::kI32 && view.dtype != DType::kI64)) {
    return absl::InvalidArgumentError(absl::StrCat(reader.path(), ": tensor '", name, "' must be ",
                                                   rows, " values of I32 or I64"));
  }
  out.resize(static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i) {
    if (view.dtype == DType::kI32) {
      std::memcpy(&out[static_cast<std::size_t>(i)], view.data.data() + 4 * i, 4);
      continue;
    }
    std::int64_t wide = 0;
    std::memcpy(&wide, view.data.data() + 8 * i, 8);
    if (wide != static_cast<std::int32_t>(wide)) {
      return absl::InvalidArgumentError(absl::StrCat(reader.path(), ": tensor '", name, "' value ",
                                                     wide, " at row ", i, " does not fit I32"));
    }
    out[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(wide);
  }
  return absl::OkStatus();
}

absl::Status OpenSafetensors(const ImportOptions& options, ImportSource& source) {
  SAE_ASSIGN_OR_RETURN(source.safetensors, SafetensorsReader::Open(options.from));
  std::string name = options.tensor;
  if (name.empty()) {
    SAE_ASSIGN_OR_RETURN(name, ChooseTensor(*source.safetensors));
  }
  SAE_ASSIGN_OR_RETURN(source.matrix, source.safetensors->Get(name));
  return absl::OkStatus();
}

absl::Status CheckMatrix(const std::string& path, ImportSource& source) {
  const auto& shape = source.matrix.shape;
  if (!IsFloating(source.matrix.dtype) || (shape.size() != 2 && shape.size() != 3)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path,
        ": activations must be a floating matrix [rows, d] or [contexts, tokens, d], this has ",
        shape.size(), " dimensions", IsFloating(source.matrix.dtype) ? "" : " of integers"));
  }
  source.d = shape.back();
  source.rows = source.d == 0 ? 0 : source.matrix.elements() / source.d;
  if (source.rows == 0)
    return absl::InvalidArgumentError(absl::StrCat(path, ": the matrix has no values"));
  return absl::OkStatus();
}

absl::Status OpenTargets(const ImportOptions& options, ImportSource& source) {
  SAE_ASSIGN_OR_RETURN(source.targets, source.safetensors->Get(options.targets));
  const auto& shape = source.targets.shape;
  const bool matrix = IsFloating(source.targets.dtype) &&
                      (shape.size() == 2 || shape.size() == 3) && shape.back() > 0;
  if (!matrix || source.targets.elements() / shape.back() != source.rows) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.from, ": the targets, tensor '", options.targets, "', must be ",
                     source.rows, " rows of floating values, as many as the activations"));
  }
  source.target_d = shape.back();
  return absl::OkStatus();
}

absl::StatusOr<ImportSource> OpenSource(const ImportOptions& options) {
  ImportSource source;
  const bool is_npy = options.from.ends_with(".npy");
  if (!is_npy && !options.from.ends_with(".safetensors")) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot import '", options.from, "': it must end in .npy or .safetensors"));
  }
  if (is_npy) {
    if (!options.tensor.empty() || !options.targets.empty())
      return absl::InvalidArgumentError(
          "--tensor and --targets are for .safetensors files; a .npy file holds one array");
    SAE_ASSIGN_OR_RETURN(source.npy, NpyReader::Open(options.from));
    source.matrix = source.npy->view();
  } else {
    SAE_RETURN_IF_ERROR(OpenSafetensors(options, source));
  }
  SAE_RETURN_IF_ERROR(CheckMatrix(options.from, source));
  if (is_npy) return source;
  if (!options.targets.empty()) {
    SAE_RETURN_IF_ERROR(OpenTargets(options, source));
  }
  SAE_RETURN_IF_ERROR(
      ReadImportColumn(*source.safetensors, "token_ids", source.rows, source.token_ids));
  SAE_RETURN_IF_ERROR(
      ReadImportColumn(*source.safetensors, "positions", source.rows, source.positions));
  SAE_RETURN_IF_ERROR(
      ReadImportColumn(*source.safetensors, "documents", source.rows, source.documents));
  if (source.token_ids.empty() != source.positions.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.from, ": token_ids and positions go together, it has only one of them"));
  }
  return source;
}

/// Values [first, first + out.size()) of a view as float32.
void CopyFloats(const TensorView& view, std::int64_t first, std::span<float> out) {
  const std::byte* data = view.data.data() + first * SizeOf(view.dtype);
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (view.dtype == DType::kF32) {
      std::memcpy(&out[i], data + 4 * i, 4);
    } else if (view.dtype == DType::kF64) {
      double v;
      std::memcpy(&v, data + 8 * i, 8);
      out[i] = static_cast<float>(v);
    } else {
      std::uint16_t h;
      std::memcpy(&h, data + 2 * i, 2);
      out[i] = view.dtype == DType::kF16 ? F16ToFloat(h) : Bf16ToFloat(h);
    }
  }
}

std::span<const std::int32_t> Part(const std::vector<std::int32_t>& column, std::int64_t first,
                                   std::int64_t n) {
  if (column.empty()) return {};
  return std::span(column).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(n));
}

}  // namespace

absl::StatusOr<StoreManifest> ImportStore(ImportOptions options, Env& env) {
  SAE_ASSIGN_OR_RETURN(const ImportSource source, OpenSource(options));
  options.writer.d = source.d;
  options.writer.target_d = source.target_d;
  options.writer.expected_rows = source.rows;
  options.writer.source.kind = "import";
  options.writer.source.model = options.from;
  SAE_ASSIGN_OR_RETURN(auto writer, StoreWriter::Create(options.writer, env));
  const std::int64_t block = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / source.d);
  std::vector<float> rows, targets;
  for (std::int64_t first = 0; first < source.rows; first += block) {
    const std::int64_t n = std::min(block, source.rows - first);
    targets.resize(static_cast<std::size_t>(n * source.target_d));
    if (source.target_d > 0) CopyFloats(source.targets, first * source.target_d, targets);
    rows.resize(static_cast<std::size_t>(n * source.d));
    CopyFloats(source.matrix, first * source.d, rows);
    const absl::Status status =
        writer->Append({rows, Part(source.token_ids, first, n), Part(source.positions, first, n),
                        Part(source.documents, first, n), targets});
    if (!status.ok()) return Annotate(status, ToAbsl(options.from));
    if (options.progress) options.progress(first + n, source.rows);
  }
  return writer->Finish();
}

absl::StatusOr<StoreManifest> CreateSyntheticStore(const SyntheticSpec& spec,
                                                   StoreWriterOptions options, Env& env) {
  SAE_ASSIGN_OR_RETURN(const auto source, SyntheticSource::Create(spec.options));
  const SyntheticOptions& o = spec.options;
  options.d = o.d;
  options.expected_rows = spec.rows;
  options.source.kind = "synthetic";
  options.source.notes["generator"] = ToText(spec);
  SAE_ASSIGN_OR_RETURN(auto writer, StoreWriter::Create(options, env));
  std::vector<float> rows;
  for (std::int64_t first = 0; first < spec.rows; first += 1024) {
    rows.resize(static_cast<std::size_t>(std::min<std::int64_t>(1024, spec.rows - first) * o.d));
    SAE_RETURN_IF_ERROR(source->Next(rows));
    SAE_RETURN_IF_ERROR(writer->Append({rows, {}, {}, {}}));
  }
  const auto& dictionary = source->dictionary();
  const auto& bias = source->bias();
  const auto& probabilities = source->probabilities();
  SAE_RETURN_IF_ERROR(writer->AddTensors(
      "dictionary.safetensors",
      {{"features", DType::kF32, {o.features, o.d}, AsBytes(dictionary.data(), dictionary.size())},
       {"bias", DType::kF32, {o.d}, AsBytes(bias.data(), bias.size())},
       {"probabilities",
        DType::kF64,
        {o.features},
        AsBytes(probabilities.data(), probabilities.size())}}));
  return writer->Finish();
}

}  // namespace sae::data
