#include "client/cli/figure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

#include "client/cli/table.h"

namespace sae::cli {
namespace {

constexpr double kWidth = 760, kHeight = 480;
constexpr double kLeftMargin = 72, kRightMargin = 24, kTopMargin = 48, kBottomMargin = 60;
constexpr double kLegendLine = 16;
constexpr char kNote[] = "hollow: off its series' front";
constexpr double kLetter = 6.2, kLineHeight = 13;  // of the labels' font, in pixels

// Okabe and Ito's colours and two dark ones. Shape and dashes say the same, so that series are told
// apart in greyscale.
struct Style {
  const char* colour;
  const char* outline;  // a closed path around (0, 0); "" = a circle
  const char* dashes;   // of the front's line; "" = none
};
constexpr std::array<Style, 8> kStyles = {{
    {"#0072B2", "", ""},
    {"#D55E00", "M-4.5 -4.5 h9 v9 h-9 z", "7 3"},                           // square
    {"#009E73", "M0 -6 l6 6 l-6 6 l-6 -6 z", "2 2"},                        // diamond
    {"#CC79A7", "M0 -6 l6 10 l-12 0 z", "9 3 2 3"},                         // triangle
    {"#E69F00", "M0 6 l6 -10 l-12 0 z", "5 2 1 2 1 2"},                     // the other way
    {"#56B4E9", "M-2 -6 h4 v4 h4 v4 h-4 v4 h-4 v-4 h-4 v-4 h4 z", "12 4"},  // plus
    {"#222222",
     "M0 -6.5 l1.6 4.3 4.6 .2 -3.6 2.8 1.3 4.4 -3.9 -2.5 -3.9 2.5 1.3 -4.4 -3.6 -2.8 "
     "4.6 -.2 z",
     "1 3"},  // star
    {"#8C510A", "M-3 -6 l3 3 3 -3 3 3 -3 3 3 3 -3 3 -3 -3 -3 3 -3 -3 3 -3 -3 -3 z",
     "4 4"},  // cross
}};
/// Beyond eight the shapes shift against the colours.
Style StyleOf(std::size_t series) {
  const std::size_t n = kStyles.size();
  const Style& shape = kStyles[(series + series / n) % n];
  return {kStyles[series % n].colour, shape.outline, shape.dashes};
}

struct Box {
  double x = 0, y = 0, w = 0, h = 0;
  bool Overlaps(const Box& o) const {
    return x < o.x + o.w && o.x < x + w && y < o.y + o.h && o.y < y + h;
  }
};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string Marker(const Style& style, double x, double y, bool filled) {
  const std::string paint = absl::StrFormat("fill=\"%s\" stroke=\"%s\" stroke-width=\"1.6\"",
                                            filled ? style.colour : "white", style.colour);
  if (style.outline[0] == 0) {
    return absl::StrFormat("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" %s/>\n", x, y, paint);
  }
  return absl::StrFormat("<path transform=\"translate(%.1f %.1f)\" d=\"%s\" %s/>\n", x, y,
                         style.outline, paint);
}

std::string Text(double x, double y, const char* anchor, int size, const std::string& text,
                 const std::string& more = "") {
  return absl::StrFormat(
      "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\"%s>%s</text>\n", x, y, anchor,
      size, more, Escape(text));
}

class Figure {
 public:
  explicit Figure(const Results& results) : results_(results), series_(SeriesOf(results)) {
    PlaceLegend();
    std::vector<double> xs, ys;
    for (const ResultRow& r : results.rows) {
      if (!Shown(r)) continue;
      xs.push_back(r.l0);
      ys.push_back(r.fvu);
    }
    if (xs.empty()) return;
    const auto [x0, x1] = std::minmax_element(xs.begin(), xs.end());
    const auto [y0, y1] = std::minmax_element(ys.begin(), ys.end());
    x_low_ = *x0 / 1.25;
    x_high_ = *x1 * 1.25;
    y_ticks_ = LinearTicks(*y0, *y1, 6);
  }

  std::string Draw() {
    std::string out = absl::StrFormat(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 "
        "%.0f %.0f\" "
        "font-family=\"Helvetica, Arial, DejaVu Sans, sans-serif\" fill=\"#222\">\n<rect "
        "width=\"100%%\" "
        "height=\"100%%\" fill=\"white\"/>\n",
        kWidth, kHeight, kWidth, kHeight);
    out += Text(kLeftMargin, 24, "start", 15,
                absl::StrCat(results_.sweep, ": fraction of variance unexplained against sparsity"),
                " font-weight=\"bold\"");
    if (y_ticks_.empty())
      return out +
             Text(kWidth / 2, kHeight / 2, "middle", 13, "no trial has held-out metrics yet") +
             "</svg>\n";
    out += Axes();
    for (std::size_t i = 0; i < series_.size(); ++i) out += Series(series_[i], StyleOf(i));
    return out + Labels() + Legend() + "</svg>\n";
  }

 private:
  static bool Shown(const ResultRow& r) {
    return std::isfinite(r.l0) && std::isfinite(r.fvu) && r.l0 > 0;
  }
  double X(double l0) const {
    return kLeftMargin + (std::log(l0) - std::log(x_low_)) /
                             (std::log(x_high_) - std::log(x_low_)) *
                             (kWidth - kLeftMargin - kRightMargin);
  }
  double Y(double fvu) const {
    return top_ + (y_ticks_.back() - fvu) / (y_ticks_.back() - y_ticks_.front()) *
                      (kHeight - top_ - kBottomMargin);
  }

  std::string Axes() const {
    std::string out;
    for (const double t : y_ticks_) {
      absl::StrAppendFormat(
          &out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>\n",
          kLeftMargin, Y(t), kWidth - kRightMargin, Y(t));
      out += Text(kLeftMargin - 8, Y(t) + 4, "end", 12, absl::StrFormat("%.6g", t));
    }
    for (const double t : LogTicks(x_low_, x_high_)) {
      absl::StrAppendFormat(
          &out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>\n",
          X(t), top_, X(t), kHeight - kBottomMargin);
      out += Text(X(t), kHeight - kBottomMargin + 18, "middle", 12, absl::StrFormat("%.6g", t));
    }
    absl::StrAppendFormat(&out,
                          "<path d=\"M%.1f %.1f V%.1f H%.1f\" fill=\"none\" stroke=\"#555\"/>\n",
                          kLeftMargin, top_, kHeight - kBottomMargin, kWidth - kRightMargin);
    out += Text((kLeftMargin + kWidth - kRightMargin) / 2, kHeight - 16, "middle", 13,
                "L0: active latents per token, held-out rows (log scale)");
    const double middle = (top_ + kHeight - kBottomMargin) / 2;
    return out + Text(20, middle, "middle", 13, "FVU, held-out rows",
                      absl::StrFormat(" transform=\"rotate(-90 20 %.1f)\"", middle));
  }

  std::string Series(const std::string& series, const Style& style) {
    std::vector<FrontPoint> points;
    std::vector<const ResultRow*> rows;
    for (const ResultRow& r : results_.rows) {
      if (r.series != series || !Shown(r)) continue;
      points.push_back({r.l0, r.fvu});
      rows.push_back(&r);
    }
    const std::vector<std::size_t> front = ParetoFront(points);
    std::string line, marks;
    for (const std::size_t i : front)
      absl::StrAppendFormat(&line, "%s%.1f,%.1f", line.empty() ? "" : " ", X(points[i].l0),
                            Y(points[i].fvu));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double x = X(points[i].l0), y = Y(points[i].fvu);
      marks += Marker(style, x, y, std::find(front.begin(), front.end(), i) != front.end());
      taken_.push_back({x - 6, y - 6, 12, 12});
      labelled_.push_back({rows[i], x, y, style.colour});
    }
    return absl::StrFormat(
               "<polyline points=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\" "
               "stroke-dasharray=\"%s\"/>\n",
               line, style.colour, style.dashes[0] == 0 ? "none" : style.dashes) +
           marks;
  }

  /// Each label at the first of six places where it covers no marker and no other label; where
  /// there is none, the table tells.
  std::string Labels() {
    std::string out;
    for (const Labelled& l : labelled_) {
      std::string text = l.row->parameters;
      if (const std::size_t space = text.find(' '); space != std::string::npos)
        text = text.substr(space + 1);
      text = absl::StrReplaceAll(
          text, {{"l1_coefficient=", "λ="}, {"l0_coefficient=", "λ="}, {"target_l0=", "L0→"}});
      const double w = kLetter * DisplayWidth(text);
      const std::array<std::pair<double, double>, 6> places = {{{9, -6 - kLineHeight + 3},
                                                                {9, 4},
                                                                {-9 - w, -6 - kLineHeight + 3},
                                                                {-9 - w, 4},
                                                                {-w / 2, -10 - kLineHeight},
                                                                {-w / 2, 10}}};
      Box box;
      bool free = false;
      for (const auto& [dx, dy] : places) {
        box = {l.x + dx, l.y + dy, w, kLineHeight};
        const bool inside = box.x >= kLeftMargin && box.x + w <= kWidth - 4 && box.y >= top_ - 8 &&
                            box.y + box.h <= kHeight - kBottomMargin;
        free = inside && std::none_of(taken_.begin(), taken_.end(),
                                      [&](const Box& b) { return b.Overlaps(box); });
        if (free) break;
      }
      if (!free) continue;
      taken_.push_back(box);
      out += Text(box.x, box.y + kLineHeight - 3, "start", 11, text,
                  absl::StrCat(" fill=\"", l.colour, "\""));
    }
    return out;
  }

  /// Series from left to right, in as many lines as they need; the note ends the last one.
  void PlaceLegend() {
    double x = kLeftMargin;
    int line = 0;
    for (const std::string& name : series_) {
      const double w = 36 + 7.0 * DisplayWidth(name);
      if (x > kLeftMargin && x + w > kWidth - kRightMargin) {
        x = kLeftMargin;
        ++line;
      }
      legend_.push_back({x, 37.0 + kLegendLine * line});
      x += w;
    }
    if (x + kLetter * DisplayWidth(kNote) > kWidth - kRightMargin) ++line;
    note_y_ = 41.0 + kLegendLine * line;
    top_ = kTopMargin + kLegendLine * line;
  }

  std::string Legend() const {
    std::string out;
    for (std::size_t i = 0; i < series_.size(); ++i) {
      const auto& [x, y] = legend_[i];
      out += Marker(StyleOf(i), x + 6, y, true) + Text(x + 18, y + 4, "start", 12, series_[i]);
    }
    return out + Text(kWidth - kRightMargin, note_y_, "end", 11, kNote, " fill=\"#666\"");
  }

  struct Labelled {
    const ResultRow* row;
    double x, y;
    const char* colour;
  };
  const Results& results_;
  std::vector<std::string> series_;
  std::vector<std::pair<double, double>> legend_;  // where each series' mark stands
  double note_y_ = 0, top_ = kTopMargin;
  double x_low_ = 1, x_high_ = 10;
  std::vector<double> y_ticks_;
  std::vector<Box> taken_;
  std::vector<Labelled> labelled_;
};

}  // namespace

std::vector<double> LogTicks(double low, double high) {
  constexpr std::size_t kFewest = 3;
  std::vector<double> out;
  for (const std::vector<double>& digits :
       {std::vector<double>{1, 2, 5}, std::vector<double>{1, 1.5, 2, 3, 4, 5, 6, 7, 8}}) {
    out.clear();
    for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10) {
      for (const double m : digits) {
        if (m * decade >= low && m * decade <= high) out.push_back(m * decade);
      }
    }
    if (out.size() >= kFewest) break;
  }
  return out;
}

std::vector<double> LinearTicks(double low, double high, int count) {
  const double span = std::max(high - low, std::max(std::abs(high), 1e-6) * 0.1);
  const double raw = span / count;
  const double decade = std::pow(10, std::floor(std::log10(raw)));
  const double m = raw / decade;
  const double step = decade * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10);
  const auto first = static_cast<std::int64_t>(std::floor(low / step));
  const auto last = static_cast<std::int64_t>(std::ceil((low + span) / step));
  std::vector<double> out;
  for (std::int64_t i = first; i <= last; ++i) out.push_back(static_cast<double>(i) * step);
  return out;
}

std::string ParetoSvg(const Results& results) { return Figure(results).Draw(); }

}  // namespace sae::cli
