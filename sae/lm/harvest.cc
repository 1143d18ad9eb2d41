#include "sae/lm/harvest.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <utility>

#include "sae/base/hash.h"
#include "sae/lm/document_choice.h"

namespace sae::lm {
namespace {

// Rows whose median norm is taken for a limit of the form "10x".
constexpr std::int64_t kCalibrationRows = 8192;
constexpr double kTopFraction = 0.001;
constexpr double kWarnShare = 0.1;

std::string Fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return text;
}

/// Rows on their way to the writer.
struct Rows {
  std::vector<float> activations, targets;
  std::vector<double> norms;
  std::vector<std::int32_t> token_ids, positions, documents;
  std::int64_t size() const { return static_cast<std::int64_t>(token_ids.size()); }
};

/// Row `from` of rows of `d` to place `to`.
void MoveRow(std::vector<float>& rows, std::size_t d, std::size_t from, std::size_t to) {
  std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(from * d), d,
              rows.begin() + static_cast<std::ptrdiff_t>(to * d));
}

class Harvester {
 public:
  Harvester(LanguageModel& model, const Tokenizer& tokenizer, const Corpus& corpus,
            const HarvestOptions& options, Clock& clock, Env& env)
      : model_(model),
        tokenizer_(tokenizer),
        corpus_(corpus),
        options_(options),
        clock_(clock),
        env_(env),
        packer_(options.packing, options.context, tokenizer.separator()) {}

  absl::StatusOr<HarvestReport> Run() {
    SAE_RETURN_IF_ERROR(Check());
    SAE_ASSIGN_OR_RETURN(
        choice_, ChooseDocuments(corpus_, tokenizer_, options_.tokens, options_.seed,
                                 !options_.shuffled, [this](std::int64_t done, std::int64_t total) {
                                   Progress("count", done, total);
                                   return !Stopped();
                                 }));
    SAE_RETURN_IF_ERROR(CreateWriter());
    const absl::Duration start = clock_.SinceBoot();
    for (const std::int32_t document : choice_.documents)
      SAE_RETURN_IF_ERROR(AddDocument(document));
    SAE_RETURN_IF_ERROR(RunPacked());
    SAE_RETURN_IF_ERROR(FlushPending());
    report_.run_time = clock_.SinceBoot() - start;
    Progress("run", choice_.tokens, choice_.tokens);
    return Finish();
  }

 private:
  bool HasTargets() const { return hooks_.size() > 1; }
  bool Stopped() const { return options_.stop && options_.stop(); }
  void Progress(const char* phase, std::int64_t done, std::int64_t total) const {
    if (options_.progress) options_.progress(phase, done, total);
  }

  absl::Status Check() {
    const LlamaConfig& config = model_.config();
    const auto blocks = static_cast<int>(config.blocks);
    SAE_ASSIGN_OR_RETURN(const Hook hook, ParseHook(options_.hook, blocks));
    hooks_ = {hook};
    if (!options_.target_hook.empty()) {
      SAE_ASSIGN_OR_RETURN(const Hook target, ParseHook(options_.target_hook, blocks));
      if (target == hook) {
        return absl::InvalidArgumentError(absl::StrCat(
            "hook and target hook are both ", options_.hook,
            ": a transcoder predicts another place; leave the target hook out for an autoencoder"));
      }
      hooks_.push_back(target);
    }
    if (options_.context < 2 || options_.context > config.context) {
      return absl::InvalidArgumentError(absl::StrCat(
          "context ", options_.context, " is outside 2 to ", config.context, ", the model's"));
    }
    if (options_.tokens < 0 || options_.batch_tokens < 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tokens is ", options_.tokens, ", must be positive (or 0 for the whole corpus)"));
    }
    if (tokenizer_.size() > config.vocabulary) {
      return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", tokenizer_.size(),
                                                     " tokens, the model ", config.vocabulary));
    }
    return absl::OkStatus();
  }

  absl::Status CreateWriter() {
    data::StoreWriterOptions writer;
    writer.directory = options_.out;
    writer.d = model_.config().d;
    writer.target_d = HasTargets() ? model_.config().d : 0;
    writer.dtype = options_.dtype;
    writer.seed = options_.seed;
    writer.heldout_fraction = options_.heldout;
    writer.shuffled = options_.shuffled;
    writer.expected_rows = choice_.tokens;
    writer.expected_text_bytes = choice_.text_bytes;
    writer.source.kind = "harvest";
    writer.source.model = model_.config().name;
    writer.source.model_hash = options_.model_hash;
    writer.source.hook = options_.hook;
    writer.source.target_hook = options_.target_hook;
    writer.source.context = options_.context;
    writer.source.packing = PackingName(options_.packing);
    writer.source.compute = ComputeName(options_.compute);
    writer.source.notes["corpus"] = corpus_.path().substr(corpus_.path().rfind('/') + 1);
    writer.source.notes["corpus_hash"] = HashToText(Xxh3(corpus_.file()));
    writer.progress = [this](std::int64_t done, std::int64_t total) {
      Progress("write", done, total);
    };
    SAE_ASSIGN_OR_RETURN(writer_, data::StoreWriter::Create(std::move(writer), env_));
    return absl::OkStatus();
  }

  absl::Status AddDocument(std::int32_t document) {
    data::StoreText text;
    text.document = document;
    SAE_ASSIGN_OR_RETURN(text.text, corpus_.Text(document));
    tokenizer_.EncodeInto(text.text, text.token_ids, &text.token_ends);
    std::span<const std::int32_t> ids = text.token_ids;
    if (document == choice_.cut_document)
      ids = ids.first(static_cast<std::size_t>(choice_.cut_tokens));
    if (ids.empty()) return absl::OkStatus();
    ++report_.documents;
    report_.tokens += static_cast<std::int64_t>(ids.size());
    SAE_RETURN_IF_ERROR(writer_->AddText(text));
    packer_.Add(document, ids, packed_);
    if (packed_.batch.size() < options_.batch_tokens) return absl::OkStatus();
    // A context of `concat` that is not full yet stays for the next batch.
    PackedBatch rest;
    if (!packer_.AtBoundary()) rest = TakeTail(packed_, packer_.filled());
    SAE_RETURN_IF_ERROR(RunPacked());
    packed_ = std::move(rest);
    return absl::OkStatus();
  }

  /// Runs what is packed, in pieces of about `batch_tokens`, and empties it.
  absl::Status RunPacked() {
    const TokenBatch& all = packed_.batch;
    TokenBatch piece;
    for (std::int64_t span = 0; span < all.spans(); ++span) {
      const std::int64_t begin = all.span_begins[static_cast<std::size_t>(span)];
      const std::int64_t end = all.span_end(span);
      piece.StartSpan();
      piece.tokens.insert(piece.tokens.end(), all.tokens.begin() + begin, all.tokens.begin() + end);
      if (piece.size() < options_.batch_tokens && span + 1 < all.spans()) continue;
      SAE_RETURN_IF_ERROR(RunPiece(piece, end - piece.size()));
      piece = {};
    }
    packed_.Clear();
    return absl::OkStatus();
  }

  absl::Status RunPiece(const TokenBatch& piece, std::int64_t first) {
    if (Stopped())
      return absl::CancelledError(
          absl::StrCat("stopped after ", done_, " tokens; nothing is left at ", options_.out));
    const std::int64_t d = model_.config().d;
    std::vector<std::span<float>> out;
    activations_.resize(static_cast<std::size_t>(piece.size() * d));
    out.emplace_back(activations_);
    if (HasTargets()) {
      targets_.resize(activations_.size());
      out.emplace_back(targets_);
    }
    SAE_RETURN_IF_ERROR(model_.Run(piece, hooks_, out));
    Rows rows;
    std::size_t span = 0;
    for (std::int64_t t = 0; t < piece.size(); ++t) {
      const bool starts = span < piece.span_begins.size() && piece.span_begins[span] == t;
      if (starts) ++span;
      const auto at = static_cast<std::size_t>(first + t);
      const std::int32_t token = piece.tokens[static_cast<std::size_t>(t)];
      if (packed_.positions[at] < 0) ++report_.separators;
      if (packed_.positions[at] < 0 || tokenizer_.IsControl(token)) {
        ++dropped_["special_tokens"];
      } else if (starts && !options_.keep_first) {
        ++dropped_["position_0"];
      } else {
        const float* row = activations_.data() + t * d;
        rows.activations.insert(rows.activations.end(), row, row + d);
        if (HasTargets()) {
          const float* target = targets_.data() + t * d;
          rows.targets.insert(rows.targets.end(), target, target + d);
        }
        rows.norms.push_back(RowNorm(row, d));
        rows.token_ids.push_back(token);
        rows.positions.push_back(packed_.positions[at]);
        rows.documents.push_back(packed_.documents[at]);
      }
    }
    done_ += piece.size();
    Progress("run", std::min(done_, choice_.tokens), choice_.tokens);
    pending_rows_ += rows.size();
    pending_.push_back(std::move(rows));
    const bool calibrating =
        options_.drop_norm_above && options_.drop_norm_above->of_median && !limit_known_;
    return calibrating && pending_rows_ < kCalibrationRows ? absl::OkStatus() : FlushPending();
  }

  /// The norm beyond which rows are dropped: known at the latest when the first rows are written.
  void SetLimit() {
    if (limit_known_ || !options_.drop_norm_above) return;
    limit_known_ = true;
    limit_ = options_.drop_norm_above->value;
    if (!options_.drop_norm_above->of_median) return;
    std::vector<double> norms;
    for (const Rows& rows : pending_)
      norms.insert(norms.end(), rows.norms.begin(), rows.norms.end());
    if (norms.empty()) return;
    std::nth_element(norms.begin(), norms.begin() + static_cast<std::ptrdiff_t>(norms.size() / 2),
                     norms.end());
    limit_ *= norms[norms.size() / 2];
  }

  absl::Status FlushPending() {
    SetLimit();
    for (; !pending_.empty(); pending_.pop_front()) SAE_RETURN_IF_ERROR(Append(pending_.front()));
    pending_rows_ = 0;
    return absl::OkStatus();
  }

  absl::Status Append(Rows& rows) {
    const auto d = static_cast<std::size_t>(model_.config().d);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < rows.norms.size(); ++i) {
      if (limit_known_ && rows.norms[i] > limit_) {
        ++dropped_[LimitName()];
        continue;
      }
      report_.norms.Add(rows.norms[i]);
      if (kept != i) {
        MoveRow(rows.activations, d, i, kept);
        if (HasTargets()) MoveRow(rows.targets, d, i, kept);
        rows.token_ids[kept] = rows.token_ids[i];
        rows.positions[kept] = rows.positions[i];
        rows.documents[kept] = rows.documents[i];
      }
      ++kept;
    }
    if (kept == 0) return absl::OkStatus();
    return writer_->Append(
        {std::span<const float>(rows.activations).first(kept * d),
         std::span<const std::int32_t>(rows.token_ids).first(kept),
         std::span<const std::int32_t>(rows.positions).first(kept),
         std::span<const std::int32_t>(rows.documents).first(kept),
         std::span<const float>(rows.targets).first(HasTargets() ? kept * d : 0)});
  }

  std::string LimitName() const {
    return absl::StrCat("norm_above_", Fixed(options_.drop_norm_above->value),
                        options_.drop_norm_above->of_median ? "x" : "");
  }

  absl::StatusOr<HarvestReport> Finish() {
    if (writer_->rows() == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "all ", done_, " rows were dropped: documents of one token have none but their first"));
    }
    const NormStatistics& norms = report_.norms;
    report_.top_share = norms.TopShare(kTopFraction);
    // Of few rows the largest thousandth is a part of one, which says nothing.
    if (report_.top_share > kWarnShare && static_cast<double>(norms.count()) * kTopFraction >= 1) {
      report_.warning = absl::StrCat(
          "the largest 0.1% of rows hold ", Fixed(100 * report_.top_share),
          "% of the sum of squares (largest norm ", Fixed(norms.largest()), ", median ",
          Fixed(norms.Quantile(0.5)),
          "): means over the store will measure little else; consider --drop-norm-above 10x");
    }
    data::StoreOrigin& source = writer_->source();
    dropped_.emplace("position_0", 0);
    dropped_.emplace("special_tokens", 0);
    if (options_.drop_norm_above) dropped_.emplace(LimitName(), 0);
    source.dropped = dropped_;
    if (limit_known_) source.notes["norm_limit"] = Fixed(limit_);
    source.notes["documents"] = absl::StrCat(report_.documents, " of ", corpus_.size());
    source.notes["tokens"] = absl::StrCat(report_.tokens);
    source.notes["norm_median"] = Fixed(norms.Quantile(0.5));
    source.notes["norm_largest"] = Fixed(norms.largest());
    source.notes["norm_top_share"] = Fixed(report_.top_share);
    SAE_ASSIGN_OR_RETURN(report_.manifest, writer_->Finish());
    return std::move(report_);
  }

  LanguageModel& model_;
  const Tokenizer& tokenizer_;
  const Corpus& corpus_;
  const HarvestOptions& options_;
  Clock& clock_;
  Env& env_;
  Packer packer_;
  std::vector<Hook> hooks_;  ///< of the rows, and of their targets where they have any
  DocumentChoice choice_;
  std::unique_ptr<data::StoreWriter> writer_;
  PackedBatch packed_;
  std::vector<float> activations_, targets_;
  std::deque<Rows> pending_;  ///< not written yet, while the median norm is not known
  std::int64_t pending_rows_ = 0;
  bool limit_known_ = false;
  double limit_ = 0;
  std::int64_t done_ = 0;
  std::map<std::string, std::int64_t> dropped_;
  HarvestReport report_;
};

}  // namespace

absl::StatusOr<HarvestReport> Harvest(LanguageModel& model, const Tokenizer& tokenizer,
                                      const Corpus& corpus, const HarvestOptions& options,
                                      Clock& clock, Env& env) {
  return Harvester(model, tokenizer, corpus, options, clock, env).Run();
}

}  // namespace sae::lm
