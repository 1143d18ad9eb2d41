#include "sae/data/text_file.h"

#include <nlohmann/json.hpp>
#include <zstd.h>

#include "sae/data/hashed_file.h"
#include "sae/data/raw_file.h"

namespace sae::data {
namespace {
using Json = nlohmann::ordered_json;
constexpr int kLevel = 3;

struct FreeStream {
  void operator()(ZSTD_CStream* s) const { ZSTD_freeCStream(s); }
  void operator()(ZSTD_DStream* s) const { ZSTD_freeDStream(s); }
};

absl::StatusOr<StoreText> ParseLine(const std::string& line) {
  const Json j = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!j.is_object()) return absl::DataLossError("not a JSON object");
  StoreText t;
  try {
    t.document = j.at("document").get<std::int32_t>();
    t.text = j.at("text").get<std::string>();
    t.token_ids = j.value("tokens", std::vector<std::int32_t>{});
    t.token_ends = j.value("token_ends", std::vector<std::int32_t>{});
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(error.what());
  }
  return t;
}

}  // namespace

class TextWriter::Impl {
 public:
  explicit Impl(std::unique_ptr<HashedFile> file)
      : file_(std::move(file)), stream_(ZSTD_createCStream()), out_(ZSTD_CStreamOutSize()) {
    ZSTD_initCStream(stream_.get(), kLevel);
  }

  absl::Status Add(const StoreText& t) {
    if (!t.token_ends.empty() && t.token_ends.size() != t.token_ids.size()) {
      return absl::InvalidArgumentError(absl::StrCat("text of document ", t.document, " has ",
                                                     t.token_ids.size(), " tokens and ",
                                                     t.token_ends.size(), " token ends"));
    }
    Json j = {{"document", t.document}, {"text", t.text}, {"tokens", t.token_ids}};
    if (!t.token_ends.empty()) j["token_ends"] = t.token_ends;
    ++count_;
    return Compress(j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
                    ZSTD_e_continue);
  }

  absl::StatusOr<StoreShard> Finish() {
    SAE_RETURN_IF_ERROR(Compress("", ZSTD_e_end));
    SAE_RETURN_IF_ERROR(file_->Finish());
    return StoreShard{"", count_, file_->bytes(), file_->hash()};
  }

 private:
  absl::Status Compress(const std::string& text, ZSTD_EndDirective mode) {
    ZSTD_inBuffer in{text.data(), text.size(), 0};
    for (bool done = false; !done;) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const std::size_t left = ZSTD_compressStream2(stream_.get(), &out, &in, mode);
      if (ZSTD_isError(left) != 0U) {
        return absl::InternalError(absl::StrCat("zstd: ", ZSTD_getErrorName(left)));
      }
      SAE_RETURN_IF_ERROR(file_->Append({out_.data(), out.pos}));
      done = mode == ZSTD_e_end ? left == 0 : in.pos == in.size;
    }
    return absl::OkStatus();
  }

  std::unique_ptr<HashedFile> file_;
  std::unique_ptr<ZSTD_CStream, FreeStream> stream_;
  std::vector<std::byte> out_;
  std::int64_t count_ = 0;
};

absl::StatusOr<std::unique_ptr<TextWriter>> TextWriter::Create(Env& env, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(auto file, HashedFile::Create(env, path));
  return std::unique_ptr<TextWriter>(new TextWriter(std::make_unique<Impl>(std::move(file))));
}

TextWriter::TextWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TextWriter::~TextWriter() = default;
absl::Status TextWriter::Add(const StoreText& text) { return impl_->Add(text); }
absl::StatusOr<StoreShard> TextWriter::Finish() { return impl_->Finish(); }

absl::Status ReadTexts(const std::string& path, const std::function<bool(StoreText)>& visit) {
  SAE_ASSIGN_OR_RETURN(const RawFile file, RawFile::Open(path));
  const std::unique_ptr<ZSTD_DStream, FreeStream> stream(ZSTD_createDStream());
  ZSTD_initDStream(stream.get());
  std::vector<std::byte> in_buffer(ZSTD_DStreamInSize());
  std::vector<char> out_buffer(ZSTD_DStreamOutSize());
  std::string line;
  std::int64_t number = 1;
  std::size_t hint = 1;
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(
        absl::StrCat(path, ": line ", number, ": ", what, ": the file is damaged"));
  };
  for (std::int64_t offset = 0; offset < file.size();) {
    const auto n =
        std::min<std::int64_t>(file.size() - offset, static_cast<std::int64_t>(in_buffer.size()));
    SAE_RETURN_IF_ERROR(file.ReadAt(offset, {in_buffer.data(), static_cast<std::size_t>(n)}));
    offset += n;
    ZSTD_inBuffer in{in_buffer.data(), static_cast<std::size_t>(n), 0};
    bool more = true;
    while (in.pos < in.size || more) {
      ZSTD_outBuffer out{out_buffer.data(), out_buffer.size(), 0};
      hint = ZSTD_decompressStream(stream.get(), &out, &in);
      if (ZSTD_isError(hint) != 0U) return damaged(ZSTD_getErrorName(hint));
      more = out.pos == out.size;  // a full buffer: the decoder may hold more
      for (std::size_t i = 0; i < out.pos; ++i) {
        if (out_buffer[i] != '\n') {
          line.push_back(out_buffer[i]);
          continue;
        }
        absl::StatusOr<StoreText> text = ParseLine(line);
        if (!text.ok()) return damaged(Message(text.status()));
        line.clear();
        ++number;
        if (!visit(*std::move(text))) return absl::OkStatus();
      }
      if (hint == 0 && in.pos == in.size) break;
    }
  }
  // A whole frame ends with hint 0; anything else means that its end is missing.
  if (hint != 0 || !line.empty()) return damaged("cut short");
  return absl::OkStatus();
}

}  // namespace sae::data
