#include "bench/coordinator/sim_agent.h"

#include <algorithm>
#include <chrono>

#include "proto/convert/channel_options.h"
#include "sae/base/clock.h"
#include "sae/base/hash.h"
#include "sae/config/events.h"

namespace sae::bench {
namespace {
namespace v1 = saeloom::v1;
using config::EventKind;

void SetDeadline(grpc::ClientContext& context, int seconds) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
}

std::string Line(std::int64_t seq, EventKind kind, std::int64_t step) {
  config::Event event;
  event.seq = seq;
  event.time = absl::ToDoubleSeconds(RealClock().Now() - absl::UnixEpoch());
  event.kind = kind;
  event.step = step;
  event.tokens = step * 4096;
  if (kind == EventKind::kMetrics) {
    event.values["train.loss"] = 1.0 / static_cast<double>(step + 1);
    event.values["train.l0"] = 32.5;
    event.values["train.tokens_per_second"] = 123456.7;
  }
  return config::ToJsonLine(event);
}

/// So that trials do not end all at once.
std::int64_t PointsOf(const std::string& trial, int mean) {
  return mean / 2 + static_cast<std::int64_t>(Xxh3(trial) % static_cast<std::uint64_t>(mean + 1));
}

}  // namespace

SimAgent::SimAgent(std::string id, AgentOptions options, AgentTotals& totals)
    : id_(std::move(id)),
      options_(std::move(options)),
      totals_(totals),
      stub_(v1::WorkerService::NewStub(
          grpc::CreateCustomChannel(options_.address, grpc::InsecureChannelCredentials(),
                                    ClientChannelArguments(ChannelUse::kControl)))),
      thread_([this] { Run(); }) {}

void SimAgent::Stop() {
  stopping_ = true;
  if (thread_.joinable()) thread_.join();
}

void SimAgent::Run() {
  while (!stopping_) {
    OneSession();
    if (!stopping_) RealClock().SleepFor(absl::Milliseconds(200));
  }
}

void SimAgent::OneSession() {
  v1::RegisterRequest request;
  request.set_worker_id(id_);
  request.set_incarnation("1");
  request.set_slots(options_.slots);
  request.set_runs_directory("/runs");
  request.set_runs_id("runs");
  {
    MutexLock lock(mu_);
    broken_ = false;
    for (const auto& [name, attempt] : attempts_) {
      auto* known = request.add_attempts();
      known->set_sweep(attempt.start.sweep());
      known->set_trial(attempt.start.trial());
      known->set_attempt(attempt.start.attempt());
      known->set_running(attempt.status_id == 0);
    }
  }
  grpc::ClientContext context;
  SetDeadline(context, 60);
  if (!stub_->Register(&context, request, &registered_).ok()) {
    ++totals_.errors;
    return;
  }
  grpc::ClientContext session_context;
  const auto session = stub_->Session(&session_context);
  std::thread reader([&] { Read(*session); });
  absl::Duration last = RealClock().SinceBoot(), beat;
  while (!stopping_) {
    const absl::Duration now = RealClock().SinceBoot();
    if (now - beat >= absl::Seconds(1)) {
      if (!Beat(*session)) break;
      beat = now;
    }
    std::map<std::string, Attempt> attempts;
    {
      MutexLock lock(mu_);
      if (broken_) break;
      attempts = attempts_;
    }
    bool good = true, ended = false;
    const auto live = std::count_if(attempts.begin(), attempts.end(),
                                    [](const auto& a) { return a.second.status_id == 0; });
    // Those that run report what the agent is to report, also while one is yet to be replaced.
    const double points = absl::ToDoubleSeconds(now - last) * options_.points_per_second /
                          static_cast<double>(std::max<std::ptrdiff_t>(1, live));
    for (auto& [name, attempt] : attempts) {
      if (attempt.status_id > 0) continue;
      good = Report(attempt, points) && good;
      if (attempt.step >= attempt.points) attempt.status_id = ++status_id_;
      ended = ended || attempt.status_id > 0;
      MutexLock lock(mu_);
      attempts_[name] = attempt;
    }
    if (!good) break;
    last = now;
    if (ended) beat = absl::ZeroDuration();
    RealClock().SleepFor(options_.report_every);
  }
  session_context.TryCancel();
  reader.join();
  session->Finish();
}

void SimAgent::Read(grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>& session) {
  v1::CoordinatorMessage message;
  while (session.Read(&message)) {
    MutexLock lock(mu_);
    for (const auto& command : message.commands()) {
      if (!command.has_start()) continue;
      const auto& start = command.start();
      attempts_.try_emplace(absl::StrCat(start.sweep(), "/", start.trial(), "/", start.attempt()),
                            Attempt{start, PointsOf(start.trial(), options_.points_per_trial)});
    }
    for (const std::int64_t ack : message.status_acks()) {
      const auto erased = std::erase_if(
          attempts_, [&](const auto& entry) { return entry.second.status_id == ack; });
      totals_.trials += static_cast<std::int64_t>(erased);
    }
  }
  MutexLock lock(mu_);
  broken_ = true;
}

bool SimAgent::Beat(grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>& session) {
  v1::WorkerMessage message;
  message.set_worker_id(id_);
  message.set_incarnation("1");
  message.set_epoch(registered_.epoch());
  message.set_heartbeat(++heartbeat_);
  MutexLock lock(mu_);
  int used = 0;
  for (const auto& [name, attempt] : attempts_) {
    used += attempt.status_id == 0 ? 1 : 0;
    if (attempt.status_id == 0) continue;
    auto* status = message.add_statuses();
    status->set_sweep(attempt.start.sweep());
    status->set_trial(attempt.start.trial());
    status->set_attempt(attempt.start.attempt());
    status->set_state(v1::AttemptStatus::STATE_ENDED);
    status->set_verdict("finished");
    status->set_status_id(attempt.status_id);
  }
  message.set_free_slots(options_.slots - used);
  return session.Write(message);
}

bool SimAgent::Report(Attempt& attempt, double points) {
  attempt.credit += points;
  v1::ReportBatchRequest request;
  request.set_worker_id(id_);
  request.set_incarnation("1");
  request.set_epoch(registered_.epoch());
  request.set_sweep(attempt.start.sweep());
  request.set_trial(attempt.start.trial());
  request.set_attempt(attempt.start.attempt());
  request.set_first_seq(attempt.seq + 1);
  std::int64_t seq = attempt.seq, step = attempt.step;
  if (seq == 0) request.add_lines(Line(++seq, EventKind::kStarted, 0));
  for (; attempt.credit >= 1 && step < attempt.points; --attempt.credit)
    request.add_lines(Line(++seq, EventKind::kMetrics, ++step));
  if (step >= attempt.points) request.add_lines(Line(++seq, EventKind::kFinished, step));
  if (request.lines_size() == 0) return true;
  grpc::ClientContext context;
  SetDeadline(context, 60);
  v1::ReportBatchResponse response;
  const absl::Duration begin = RealClock().SinceBoot();
  if (!stub_->ReportBatch(&context, request, &response).ok()) {
    ++totals_.errors;
    return false;
  }
  totals_.report.Add(RealClock().SinceBoot() - begin);
  totals_.lines += seq - attempt.seq;
  attempt.seq = seq;
  attempt.step = step;
  return true;
}

}  // namespace sae::bench
