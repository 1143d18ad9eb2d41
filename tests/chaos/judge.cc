// chaos_judge: reads what a history with real processes left behind - the coordinator's database,
// the trainers' event files, the ground truth of their processes, the clients' record, what
// watchers were shown - and judges it by the simulator's checker. Prints each breach; exits with 1
// when there is any.
//   chaos_judge DATABASE RUNS TRUTH OPERATIONS SLOTS [settled]

#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "server/core/retry_policy.h"
#include "server/sim/checker.h"
#include "server/store/sqlite_store.h"

namespace {

using nlohmann::json;
using sae::server::AttemptKey;
using sae::server::LogEvent;
using sae::server::sim::ClientOp;
using sae::server::sim::History;
using sae::server::sim::SeenEvent;
using sae::server::sim::Watch;
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

/// The lives of processes, each from its start to its end, or to its last sign of life when it was
/// killed: it may have lived a little longer. Two of one trial that live together have said so
/// themselves, too.
std::vector<std::string> ReadTruth(const std::string& truth, History& history) {
  std::vector<std::string> breaches;
  std::map<int, std::size_t> lives;  // by pid
  const auto at_of = [](const json& record) {
    return absl::Nanoseconds(record.at("at").get<std::int64_t>());
  };
  const auto lived_until = [&](const json& record) {
    const auto life = lives.find(record.at("pid"));
    if (life == lives.end()) return;
    absl::Duration& end = history.processes[life->second].end;
    end = std::max(end, at_of(record));
  };
  std::ifstream in(fs::path(truth) / "lives");
  for (std::string line; std::getline(in, line);) {
    const json life = json::parse(line);
    const AttemptKey key{life.at("sweep"), life.at("trial"), life.at("attempt")};
    if (life.at("what") == "end") {
      lived_until(life);
      continue;
    }
    if (life.at("what") == "double")
      breaches.push_back("I1: " + ToString(key) + " began while another attempt lived");
    lives[life.at("pid")] = history.processes.size();
    history.processes.push_back(
        {key, life.at("worker"), ToString(key), 1, at_of(life), at_of(life)});
  }
  std::ifstream signs(fs::path(truth) / "signs");
  for (std::string line; std::getline(signs, line);) lived_until(json::parse(line));
  return breaches;
}

/// What each kind of event looks like to a watcher; the others are notices.
std::string SeenAs(const std::string& kind) {
  static const std::map<std::string, std::string> seen = {{"sweep_created", "sweep_change"},
                                                          {"sweep_changed", "sweep_change"},
                                                          {"trial_retried", "trial_change"},
                                                          {"trial_cancelled", "trial_change"},
                                                          {"attempt_allocated", "trial_change"},
                                                          {"attempt_starting", "trial_change"},
                                                          {"attempt_running", "trial_change"},
                                                          {"attempt_ended", "trial_change"},
                                                          {"stop_requested", "trial_change"},
                                                          {"trial_resumed", "trial_change"},
                                                          {"trial_paused", "trial_change"},
                                                          {"rewound", "rewound"},
                                                          {"point", "point"},
                                                          {"search_decided", "decision"}};
  const auto it = seen.find(kind);
  return it == seen.end() ? "notice" : it->second;
}

/// As the log has it when it looks like that.
SeenEvent ReadSeen(const json& event, const std::map<std::int64_t, const LogEvent*>& log) {
  const json& number = event.at("seq");
  SeenEvent seen{
      number.is_string() ? std::stoll(number.get<std::string>()) : number.get<std::int64_t>(),
      "unknown", event.value("trial", "")};
  const auto in_log = log.find(seen.seq);
  const std::string kind = in_log == log.end() ? "" : KindOf(in_log->second->body);
  for (const char* form : {"trial_change", "sweep_change", "point", "rewound", "notice", "decision",
                           "counts", "resync"}) {
    if (event.contains(form)) seen.kind = SeenAs(kind) == form ? kind : form;
  }
  return seen;
}

/// What `saeloom events SWEEP --follow -o jsonl` has written to TRUTH/watch-N-SWEEP; a watcher that
/// is not cut short has seen all until the sweep ended.
std::vector<std::string> ReadWatches(const std::string& truth, History& history) {
  std::vector<std::string> breaches;
  for (const auto& entry : fs::directory_iterator(truth)) {
    const std::string name = entry.path().filename();
    if (name.rfind("watch-", 0) != 0) continue;
    Watch watch{name.substr(name.find('-', 6) + 1), {}};
    std::map<std::int64_t, const LogEvent*> log;
    std::int64_t last = 0;
    for (const LogEvent& e : history.log) {
      if (e.sweep != watch.sweep) continue;
      log[e.seq] = &e;
      const auto* changed = std::get_if<sae::server::SweepChanged>(&e.body);
      if (changed != nullptr && HasEnded(changed->state)) last = last == 0 ? e.seq : last;
    }
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);)
      watch.seen.push_back(ReadSeen(json::parse(line), log));
    if (history.settled && static_cast<std::int64_t>(watch.seen.size()) < last) {
      breaches.push_back("I8: " + name + " saw " + std::to_string(watch.seen.size()) + " of " +
                         std::to_string(last) + " events");
    }
    history.watches.push_back(std::move(watch));
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

std::size_t Seen(const History& history) {
  std::size_t seen = 0;
  for (const Watch& watch : history.watches) seen += watch.seen.size();
  return seen;
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
  for (std::string& breach : ReadWatches(argv[3], history)) breaches.push_back(std::move(breach));
  for (const auto& life : history.processes) history.slots[life.worker] = std::stoi(argv[5]);
  for (const std::string& breach : CheckAll(history)) breaches.push_back(breach);
  for (const std::string& breach : breaches) std::cout << breach << "\n";
  if (breaches.empty()) {
    std::cout << "no breach: " << history.log.size() << " events, " << history.processes.size()
              << " starts, " << history.operations.size() << " calls, " << Seen(history)
              << " events watched\n";
  }
  return breaches.empty() ? 0 : 1;
}
