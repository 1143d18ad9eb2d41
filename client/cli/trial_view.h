#pragma once
// Short forms of trials for tables, shared by the verbs. Pure.

#include <string>
#include <vector>

#include "saeloom/v1/sweep.pb.h"

namespace sae::cli {

/// "topk k=32": architecture, then the values that vary in the sweep, without their sections.
std::string ParameterText(const saeloom::v1::Trial& trial);
/// What a trial is compared as: its architecture, and the variant that changes it:
/// "topk", "relu_l1/lp", "jumprelu/tanh", "topk/multi", "topk/transcoder", "topk/skip".
std::string SeriesText(const saeloom::v1::Trial& trial);
std::string StateText(saeloom::v1::Trial::State state);
std::string StateText(saeloom::v1::Sweep::State state);
bool Ended(saeloom::v1::Trial::State state);
/// NaN when the trial has no such metric.
double MetricOf(const saeloom::v1::Trial& trial, const std::string& metric);
/// "2/8 done, 1 failed" from a sweep's counts.
std::string CountsText(const saeloom::v1::Sweep& sweep);

}  // namespace sae::cli
