// chaos_judge: reads what a history with real processes left behind - the coordinator's database,
// the trainers' event files, the ground truth of their processes, the clients' record - and judges
// it by the simulator's checker. Prints each breach; exits with 1 when there is any.
//   chaos_judge DATABASE RUNS TRUTH OPERATIONS SLOTS [settled]

#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "server/core/retry_policy.h"
#include "server/sim/checker.h"
#include "server/store/sqlite_store.h"

namespace {

using nlohmann::json;
using sae::server::AttemptKey;
using sae::server::sim::ClientOp;
using sae::server::sim::History;
namespace fs = std::filesystem;

absl::Status ReadDatabase(const std::string& path, History& history) {
  SAE_ASSIGN_OR_RETURN(const auto store, sae::server::SqliteStore::Open(path));
  SAE_RETURN_IF_ERROR(store->Replay([&](sae::server::LogEvent event) {
    history.log.push_back(std::move(event));
    return absl::OkStatus();
  }));
  SAE_ASSIGN_OR_RETURN(const auto heads, store->Heads());
  for (const auto& [sweep, head] : heads) {
    SAE_ASSIGN_OR_RETURN(const auto events, store->Read(sweep, 0, 1'000'000));
    for (const auto& event : events) {
      if (event.telemetry()) history.log.push_back(event);
    }
  }
  SAE_ASSIGN_OR_RETURN(const auto acknowledged, store->AllAcknowledged());
  for (const auto& a : acknowledged)
    history.acknowledged.push_back({{a.sweep, a.trial, a.attempt}, a.seq});
  return absl::OkStatus();
}

void ReadEvents(const std::string& runs, History& history) {
  for (const auto& entry : fs::recursive_directory_iterator(runs)) {
    if (entry.path().filename() != "events.jsonl") continue;
    const fs::path attempt = entry.path().parent_path();
    const fs::path trial = attempt.parent_path().parent_path();
    const AttemptKey key{trial.parent_path().filename(), trial.filename(),
                         std::stoi(attempt.filename())};
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) history.lines[key].push_back(line);
  }
}

/// Two of one trial that live together have said so themselves; the ends of those that were killed
/// are not known, so each counts as an instant here.
std::vector<std::string> ReadTruth(const std::string& truth, History& history) {
  std::vector<std::string> breaches;
  std::ifstream in(fs::path(truth) / "lives");
  for (std::string line; std::getline(in, line);) {
    const json life = json::parse(line);
    const AttemptKey key{life.at("sweep"), life.at("trial"), life.at("attempt")};
    if (life.at("what") == "end") continue;
    if (life.at("what") == "double")
      breaches.push_back("I1: " + ToString(key) + " began while another attempt lived");
    const absl::Duration at = absl::Nanoseconds(life.at("at").get<std::int64_t>());
    history.processes.push_back({key, life.at("worker"), ToString(key), 1, at, at});
  }
  return breaches;
}

void ReadOperations(const std::string& path, History& history) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const json record = json::parse(line);
    ClientOp op;
    const std::string kind = record.at("kind");
    op.kind = kind == "submit"   ? ClientOp::Kind::kSubmit
              : kind == "cancel" ? ClientOp::Kind::kCancel
              : kind == "retry"  ? ClientOp::Kind::kRetry
                                 : ClientOp::Kind::kOther;
    op.sweep = record.at("sweep");
    op.request_id = record.value("request_id", "");
    op.points = record.value("points", std::size_t{0});
    const std::string outcome = record.at("outcome");
    op.outcome = outcome == "ok"        ? ClientOp::Outcome::kOk
                 : outcome == "refused" ? ClientOp::Outcome::kRefused
                                        : ClientOp::Outcome::kUnknown;
    history.operations.push_back(std::move(op));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::cerr << "usage: chaos_judge DATABASE RUNS TRUTH OPERATIONS SLOTS [settled]\n";
    return 2;
  }
  History history;
  const sae::server::RetryPolicy policy;  // that of a coordinator without flags
  history.trial_attempts = policy.trial_attempts;
  history.worker_attempts = policy.worker_attempts;
  history.settled = argc > 6;
  if (const absl::Status status = ReadDatabase(argv[1], history); !status.ok()) {
    std::cout << "the database cannot be read: " << status << "\n";
    return 1;
  }
  ReadEvents(argv[2], history);
  std::vector<std::string> breaches = ReadTruth(argv[3], history);
  ReadOperations(argv[4], history);
  for (const auto& life : history.processes) history.slots[life.worker] = std::stoi(argv[5]);
  for (const std::string& breach : CheckAll(history)) breaches.push_back(breach);
  for (const std::string& breach : breaches) std::cout << breach << "\n";
  if (breaches.empty()) {
    std::cout << "no breach: " << history.log.size() << " events, " << history.processes.size()
              << " starts, " << history.operations.size() << " calls\n";
  }
  return breaches.empty() ? 0 : 1;
}
