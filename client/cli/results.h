#pragma once
// The result table of a sweep: held-out metrics of each trial, the Pareto front, the best trial by
// the sweep's objective, series (architectures and their variants) compared at equal L0, and what
// AuxK is worth. Pure
// functions.

#include <string>
#include <vector>

#include "client/cli/front.h"
#include "saeloom/v1/sweep.pb.h"

namespace sae::cli {

struct ResultRow {
  std::string trial;
  std::string parameters;
  std::string architecture;
  std::string series;  ///< SeriesText: what is drawn and compared as one
  std::string state;
  double fvu = 0, explained_variance = 0, l0 = 0, dead_fraction = 0, gamma = 0,
         tokens_per_second = 0;
  double objective = 0;
  bool transcoder = false;  ///< its FVU is of the targets: not comparable with an autoencoder's
  bool feasible = false;    ///< has ended well, with a finite objective that meets every constraint
  bool on_front = false;
  bool aux_off = false;  ///< topk, batchtopk or matryoshka with aux_k 0
};

/// Two series at equal L0.
struct SeriesPair {
  std::string a, b;
  std::vector<FrontPoint> front_a, front_b;
  Comparison comparison;
};

/// Two trials that differ in aux_k alone, one of them with it off.
struct AuxPair {
  std::size_t with = 0, without = 0;  ///< rows
};

struct Results {
  std::string sweep;
  std::string objective;  ///< "smallest heldout.fvu with heldout.l0 <= 64"
  std::vector<ResultRow> rows;
  int best = -1;  ///< row, or -1
  std::vector<SeriesPair> pairs;
  std::vector<AuxPair> aux;
};

Results CollectResults(const saeloom::v1::Sweep& sweep,
                       const std::vector<saeloom::v1::Trial>& trials);
std::string ResultsText(const Results& results);
std::string ResultsJson(const Results& results);

/// The series of a sweep: the plainest architecture, which the others are compared with, comes
/// last.
std::vector<std::string> SeriesOf(const Results& results);
/// The Pareto front of one series, by rising L0.
std::vector<FrontPoint> FrontOf(const Results& results, const std::string& series);

}  // namespace sae::cli
