#include "sae/data/latent_examples.h"

#include <algorithm>
#include <map>
#include <set>

namespace sae::data {
namespace {

constexpr std::int64_t kBlockRows = 2048;
constexpr std::int64_t kAliveRows = 10;

struct Firing {
  float value;
  std::int64_t row;
  std::int32_t document, position, token_id;
};

/// Firings of one latent.
struct Found {
  std::vector<Firing> firings;
};

struct Columns {
  std::vector<std::int32_t> documents, positions,
      token_ids;  ///< of one block; empty where there are none
};

absl::Status ReadColumns(const ActivationStore& store, Split split, std::int64_t first,
                         std::int64_t n, Columns& c) {
  const auto read = [&](const char* name, std::vector<std::int32_t>& out) {
    out.resize(static_cast<std::size_t>(n));
    return store.ReadColumn(split, name, first, out);
  };
  if (store.manifest().has_tokens) {
    SAE_RETURN_IF_ERROR(read("positions", c.positions));
    SAE_RETURN_IF_ERROR(read("token_ids", c.token_ids));
  }
  return store.manifest().has_documents ? read("documents", c.documents) : absl::OkStatus();
}

/// Encodes rows [0, rows) in blocks; emit gets (row in the split, latent, value).
absl::Status Scan(
    const ActivationStore& store, Split split, std::int64_t rows, const EncodeRows& encode,
    const std::function<absl::Status(std::int64_t first, std::int64_t n)>& begin_block,
    const EmitCode& emit, const std::function<void(std::int64_t)>& done) {
  std::vector<float> block;
  for (std::int64_t first = 0; first < rows; first += kBlockRows) {
    const std::int64_t n = std::min(kBlockRows, rows - first);
    block.resize(static_cast<std::size_t>(n * store.d()));
    SAE_RETURN_IF_ERROR(store.ReadRows(split, first, block));
    SAE_RETURN_IF_ERROR(begin_block(first, n));
    SAE_RETURN_IF_ERROR(encode(block, [&](std::int64_t row, std::int64_t latent, float value) {
      emit(first + row, latent, value);
    }));
    done(first + n);
  }
  return absl::OkStatus();
}

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

/// Byte offset of the start of token `i`, moved back to the start of its character.
std::size_t CharacterStart(const StoreText& t, std::int64_t i) {
  const std::int64_t n = static_cast<std::int64_t>(t.token_ends.size());
  std::size_t at = i <= 0 ? 0
                          : static_cast<std::size_t>(std::max(
                                0, t.token_ends[static_cast<std::size_t>(std::min(i, n) - 1)]));
  at = std::min(at, t.text.size());
  while (at > 0 && at < t.text.size() && IsContinuation(t.text[at])) --at;
  return at;
}

void FillText(const StoreText& t, const LatentExampleOptions& options, LatentExample& example) {
  if (example.position < 0 || example.position >= static_cast<std::int64_t>(t.token_ends.size()))
    return;
  const std::int64_t p = example.position;
  const std::size_t start = CharacterStart(t, p),
                    from = CharacterStart(t, p - options.tokens_before);
  std::size_t end = CharacterStart(t, p + 1);
  if (end == start && end < t.text.size()) {  // the token is a part of one character: show it whole
    ++end;
    while (end < t.text.size() && IsContinuation(t.text[end])) ++end;
  }
  const std::size_t to = std::max(end, CharacterStart(t, p + 1 + options.tokens_after));
  example.before = t.text.substr(from, start - from);
  example.peak = t.text.substr(start, end - start);
  example.after = t.text.substr(end, to - end);
}

/// The best firing of each document, best first, at most `top`.
std::vector<LatentExample> BestExamples(const std::vector<Firing>& firings, std::int64_t top) {
  std::vector<const Firing*> order;
  order.reserve(firings.size());
  for (const Firing& f : firings) order.push_back(&f);
  std::sort(order.begin(), order.end(), [](const Firing* a, const Firing* b) {
    return a->value != b->value ? a->value > b->value : a->row < b->row;
  });
  std::vector<LatentExample> examples;
  std::set<std::int32_t> documents;
  for (const Firing* f : order) {
    if (static_cast<std::int64_t>(examples.size()) == top) break;
    if (f->document >= 0 && !documents.insert(f->document).second) continue;
    LatentExample e;
    e.value = f->value;
    e.row = f->row;
    e.document = f->document;
    e.position = f->position;
    e.token_id = f->token_id;
    examples.push_back(std::move(e));
  }
  for (LatentExample& e : examples) {
    for (const Firing& f : firings) {
      if (e.document >= 0 && f.document == e.document) e.active.push_back({f.position, f.value});
    }
    std::sort(e.active.begin(), e.active.end(),
              [](const auto& a, const auto& b) { return a.position < b.position; });
  }
  return examples;
}

LatentReport Summarise(std::int64_t latent, const Found& found, std::int64_t rows,
                       std::int64_t top) {
  LatentReport report;
  report.latent = latent;
  report.fired = static_cast<std::int64_t>(found.firings.size());
  report.density = static_cast<double>(report.fired) / static_cast<double>(rows);
  double sum = 0;
  for (const Firing& f : found.firings) {
    sum += f.value;
    report.max = std::max(report.max, f.value);
  }
  if (report.fired > 0) report.mean_when_active = sum / static_cast<double>(report.fired);
  report.examples = BestExamples(found.firings, top);
  return report;
}

absl::Status AddTexts(const ActivationStore& store, const LatentExampleOptions& options,
                      LatentReports& reports) {
  std::multimap<std::int32_t, LatentExample*> wanted;
  for (LatentReport& report : reports.latents) {
    for (LatentExample& e : report.examples) {
      if (e.document >= 0) wanted.emplace(e.document, &e);
    }
  }
  if (wanted.empty() || store.manifest().texts.file.empty()) return absl::OkStatus();
  std::set<std::int32_t> missing;
  for (const auto& [document, example] : wanted) missing.insert(document);
  return store.ReadTexts([&](const StoreText& text) {
    const auto [begin, end] = wanted.equal_range(text.document);
    for (auto it = begin; it != end; ++it) FillText(text, options, *it->second);
    missing.erase(text.document);
    return !missing.empty();
  });
}

absl::Status CheckLatents(const LatentExampleOptions& options, std::int64_t latents,
                          std::int64_t rows) {
  if (rows == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the store has no ", options.split == Split::kHeldout ? "held-out" : "training", " rows"));
  }
  if (options.latents.empty() && options.count < 1)
    return absl::InvalidArgumentError(absl::StrCat("count ", options.count, " must be at least 1"));
  if (options.top < 1)
    return absl::InvalidArgumentError(absl::StrCat("top ", options.top, " must be at least 1"));
  for (const std::int64_t latent : options.latents) {
    if (latent < 0 || latent >= latents) {
      return absl::InvalidArgumentError(
          absl::StrCat("latent ", latent, " is not in 0 to ", latents - 1));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::int64_t> MiddlingLatents(const std::vector<std::int64_t>& fired,
                                          std::int64_t count) {
  std::vector<std::int64_t> alive;
  for (const std::int64_t least : {kAliveRows, std::int64_t{1}}) {
    alive.clear();
    for (std::size_t i = 0; i < fired.size(); ++i) {
      if (fired[i] >= least) alive.push_back(static_cast<std::int64_t>(i));
    }
    if (static_cast<std::int64_t>(alive.size()) >= count) break;
  }
  std::sort(alive.begin(), alive.end(), [&](std::int64_t a, std::int64_t b) {
    const auto fa = fired[static_cast<std::size_t>(a)], fb = fired[static_cast<std::size_t>(b)];
    return fa != fb ? fa < fb : a < b;
  });
  const auto n = static_cast<std::int64_t>(alive.size());
  if (n <= count) return alive;
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < count; ++i) {
    // 0.25 + 0.5 (i + 0.5) / count, over a common denominator; ranks may repeat where n is small.
    std::int64_t rank = n * (count + 2 * i + 1) / (4 * count);
    while (std::find(chosen.begin(), chosen.end(), alive[static_cast<std::size_t>(rank)]) !=
           chosen.end())
      rank = (rank + 1) % n;
    chosen.push_back(alive[static_cast<std::size_t>(rank)]);
  }
  return chosen;
}

absl::StatusOr<LatentReports> FindLatentExamples(
    const ActivationStore& store, std::int64_t latents, const LatentExampleOptions& options,
    const EncodeRows& encode, const std::function<void(std::int64_t, std::int64_t)>& progress) {
  LatentReports reports;
  const std::int64_t all = store.rows(options.split);
  reports.rows = options.max_rows > 0 ? std::min(options.max_rows, all) : all;
  SAE_RETURN_IF_ERROR(CheckLatents(options, latents, reports.rows));
  std::vector<std::int64_t> chosen = options.latents;
  const std::int64_t scans = chosen.empty() ? 2 : 1;
  std::int64_t before = 0;
  const auto done = [&](std::int64_t rows) {
    if (progress) progress(before + rows, scans * reports.rows);
  };
  if (chosen.empty()) {
    std::vector<std::int64_t> fired(static_cast<std::size_t>(latents), 0);
    SAE_RETURN_IF_ERROR(Scan(
        store, options.split, reports.rows, encode, [](auto, auto) { return absl::OkStatus(); },
        [&](std::int64_t, std::int64_t latent, float) {
          ++fired[static_cast<std::size_t>(latent)];
        },
        done));
    chosen = MiddlingLatents(fired, options.count);
    before = reports.rows;
    if (chosen.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("no latent fired on any of ", reports.rows,
                       " rows: is this SAE of another model or hook?"));
    }
  }
  std::map<std::int64_t, Found> found;
  for (const std::int64_t latent : chosen) found[latent];
  Columns columns;
  std::int64_t block_first = 0;
  const auto at = [](const std::vector<std::int32_t>& column, std::int64_t i) {
    return column.empty() ? -1 : column[static_cast<std::size_t>(i)];
  };
  SAE_RETURN_IF_ERROR(Scan(
      store, options.split, reports.rows, encode,
      [&](std::int64_t first, std::int64_t n) {
        block_first = first;
        return ReadColumns(store, options.split, first, n, columns);
      },
      [&](std::int64_t row, std::int64_t latent, float value) {
        const auto it = found.find(latent);
        if (it == found.end()) return;
        const std::int64_t i = row - block_first;
        it->second.firings.push_back({value, row, at(columns.documents, i),
                                      at(columns.positions, i), at(columns.token_ids, i)});
      },
      done));
  for (const std::int64_t latent : chosen)
    reports.latents.push_back(Summarise(latent, found[latent], reports.rows, options.top));
  SAE_RETURN_IF_ERROR(AddTexts(store, options, reports));
  return reports;
}

}  // namespace sae::data
