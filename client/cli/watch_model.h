#pragma once
// What `watch` knows: a sweep's trials as its events tell them, and the texts that show them. A
// pure state machine over SweepEvents: time is an argument. Not thread-safe.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

#include "saeloom/v1/sweep_service.pb.h"

namespace sae::cli {

class WatchModel {
 public:
  struct Row {
    std::string id;
    std::string parameters;
    saeloom::v1::Trial::State state = saeloom::v1::Trial::STATE_PENDING;
    std::string reason;
    std::string worker;
    int attempt = 0;
    std::int64_t step = 0;
    std::int64_t tokens = 0;
    std::int64_t total_steps = 0;
    double total_tokens = 0;
    std::map<std::string, double> values;  ///< newest training values
    absl::Time last_line = absl::InfinitePast();
    absl::Time last_evaluation = absl::InfinitePast();
    double progress() const;
    double value(const std::string& name) const;
    absl::Duration left() const;  ///< InfiniteDuration when it cannot be told
  };
  struct Options {
    absl::Duration line_every = absl::Seconds(5);  ///< of one trial, in plain lines
    bool progress_lines = true;                    ///< plain lines for points
  };

  explicit WatchModel(std::string sweep) : WatchModel(std::move(sweep), Options()) {}
  WatchModel(std::string sweep, Options options) : sweep_(std::move(sweep)), options_(options) {}

  /// Names, parameters and sizes of the trials. Events up to `history_seq` are not news: their
  /// points give no lines.
  void SetTrials(const std::vector<saeloom::v1::Trial>& trials, std::int64_t history_seq);

  /// Takes one event; returns the lines that a log of the sweep should have because of it.
  std::vector<std::string> Apply(const saeloom::v1::SweepEvent& event, absl::Time now);

  /// One line a trial under a title, for redrawing in place. At most `height` lines of at most
  /// `width` columns; ended trials are left out first.
  std::vector<std::string> Frame(int width, int height) const;
  /// "demo  RUNNING  3/8 done, 2 running  left 2m10s".
  std::string Summary() const;

  const std::map<std::string, Row>& rows() const { return rows_; }
  std::int64_t last_seq() const { return last_seq_; }
  saeloom::v1::Sweep::State state() const { return state_; }

 private:
  Row& RowOf(const std::string& id);
  std::string Label(const Row& row) const;
  std::string PointLine(const Row& row) const;
  std::vector<std::string> ApplyPoint(Row& row, const saeloom::v1::SweepEvent& event,
                                      absl::Time now);
  std::vector<std::string> ApplyTrialChange(Row& row,
                                            const saeloom::v1::SweepEvent::TrialChange& change);
  absl::Duration Left() const;

  std::string sweep_;
  Options options_;
  std::map<std::string, Row> rows_;  ///< by id, which sorts by number
  std::int64_t last_seq_ = 0;
  std::int64_t history_seq_ = 0;
  saeloom::v1::Sweep::State state_ = saeloom::v1::Sweep::STATE_RUNNING;
};

}  // namespace sae::cli
