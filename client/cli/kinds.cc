#include "client/cli/kinds.h"

#include <map>

#include "absl/strings/str_join.h"

#include "client/cli/names.h"
#include "client/cli/trial_view.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::Checkpoint;
using saeloom::v1::Queue;
using saeloom::v1::Sweep;
using saeloom::v1::Token;
using saeloom::v1::Trial;
using saeloom::v1::Worker;
using AuditEvent = saeloom::v1::ListAuditEventsResponse::AuditEvent;
constexpr auto kRight = Table::Align::kRight;

std::string Or(const std::string& text, const std::string& other = "-") {
  return text.empty() ? other : text;
}

std::string Labels(const Sweep& s) {
  const std::map<std::string, std::string> sorted(s.spec().labels().begin(),
                                                  s.spec().labels().end());
  return Or(absl::StrJoin(sorted, ",", absl::PairFormatter("=")));
}

std::string Took(const Sweep& s) {
  return s.has_end_time() && s.has_create_time()
             ? Span(ToTime(s.end_time()) - ToTime(s.create_time()))
             : "-";
}

std::string Search(const Sweep& s) {
  const auto* field = s.spec().search().GetDescriptor()->FindOneofByName("algorithm");
  const auto* set =
      s.spec().search().GetReflection()->GetOneofFieldDescriptor(s.spec().search(), field);
  return set == nullptr ? "grid" : set->name();
}

std::string FailureText(const Trial& t) {
  if (t.failure_class() == saeloom::v1::FAILURE_CLASS_UNSPECIFIED) return "-";
  const auto* value = saeloom::v1::FailureClass_descriptor()->FindValueByNumber(t.failure_class());
  return value == nullptr ? "-" : EnumName(value);
}

std::string Yes(bool x) { return x ? "yes" : "-"; }

}  // namespace

Kind<Sweep> SweepKind(absl::Time now) {
  return {
      "no sweeps yet: saeloom submit SPEC.yaml",
      [](const Sweep& s) { return BareName(s.name()); },
      {{"SWEEP", [](const Sweep& s) { return BareName(s.name()); }},
       {"STATE", [](const Sweep& s) { return StateText(s.state()); }},
       {"TRIALS", [](const Sweep& s) { return CountsText(s); }},
       {"AGE", [now](const Sweep& s) { return Ago(s.create_time(), now); }, kRight},
       {"TOOK", [](const Sweep& s) { return Took(s); }, kRight},
       {"OWNER", [](const Sweep& s) { return Or(s.owner()); }, {}, true},
       {"QUEUE", [](const Sweep& s) { return Or(s.spec().queue(), "default"); }, {}, true},
       {"PRIORITY", [](const Sweep& s) { return absl::StrCat(s.spec().priority()); }, kRight, true},
       {"SEARCH", [](const Sweep& s) { return Search(s); }, {}, true},
       {"BEST", [](const Sweep& s) { return Or(BareName(s.best_trial())); }, {}, true},
       {"LABELS", [](const Sweep& s) { return Labels(s); }, {}, true}}};
}

Kind<Trial> TrialKind() {
  const auto metric = [](const char* name) {
    return [name](const Trial& t) { return Number(MetricOf(t, name)); };
  };
  return {"no trial matches",
          [](const Trial& t) { return ShortName(t.name()); },
          {{"TRIAL", [](const Trial& t) { return BareName(t.name()); }},
           {"PARAMETERS", [](const Trial& t) { return ParameterText(t); }},
           {"STATE",
            [](const Trial& t) {
              return StateText(t.state()) +
                     (t.stopping().empty() ? "" : " (to " + t.stopping() + ")");
            }},
           {"ATTEMPT", [](const Trial& t) { return absl::StrCat(t.attempt()); }, kRight},
           {"STEP",
            [](const Trial& t) {
              return t.total_steps() > 0 ? absl::StrCat(t.step(), "/", t.total_steps())
                                         : absl::StrCat(t.step());
            },
            kRight},
           {"FVU", metric("heldout.fvu"), kRight},
           {"L0", metric("heldout.l0"), kRight},
           {"DEAD", [](const Trial& t) { return Percent(MetricOf(t, "heldout.dead_fraction")); },
            kRight},
           {"RUNG", [](const Trial& t) { return t.rung() > 0 ? absl::StrCat(t.rung()) : "-"; },
            kRight, true},
           {"CLASS", [](const Trial& t) { return FailureText(t); }, {}, true},
           {"DIRECTORY", [](const Trial& t) { return Or(t.directory()); }, {}, true},
           {"REASON", [](const Trial& t) { return t.reason(); }}}};
}

Kind<Checkpoint> CheckpointKind(absl::Time now) {
  return {
      "no checkpoints yet",
      [](const Checkpoint& c) { return ShortName(c.resource()); },
      {{"CHECKPOINT", [](const Checkpoint& c) { return Or(ShortName(c.resource()), c.name()); }},
       {"STEP", [](const Checkpoint& c) { return absl::StrCat(c.step()); }, kRight},
       {"TOKENS", [](const Checkpoint& c) { return Count(static_cast<double>(c.tokens())); },
        kRight},
       {"VALUE", [](const Checkpoint& c) { return c.has_value() ? Number(c.value()) : "-"; },
        kRight},
       {"AGE", [now](const Checkpoint& c) { return Ago(c.create_time(), now); }, kRight},
       {"PROTECTED", [](const Checkpoint& c) { return Yes(c.protected_()); }},
       {"KEPT", [](const Checkpoint& c) { return Yes(c.kept()); }},
       {"ATTEMPT", [](const Checkpoint& c) { return absl::StrCat(c.attempt()); }, kRight, true},
       {"SIZE",
        [](const Checkpoint& c) {
          return c.bytes() > 0 ? Bytes(static_cast<double>(c.bytes())) : "-";
        },
        kRight, true},
       {"PATH", [](const Checkpoint& c) { return Or(c.path()); }, {}, true},
       {"REASON", [](const Checkpoint& c) { return c.reason(); }}}};
}

Kind<Worker> WorkerKind(absl::Time now) {
  return {"no workers have registered: start saeloom-worker, or use saeloom up",
          [](const Worker& w) { return w.id(); },
          {{"WORKER", [](const Worker& w) { return w.id(); }},
           {"STATE", [](const Worker& w) { return w.state(); }},
           {"SLOTS", [](const Worker& w) { return absl::StrCat(w.slots()); }, kRight},
           {"FREE", [](const Worker& w) { return absl::StrCat(w.free_slots()); }, kRight},
           {"HEARD",
            [now](const Worker& w) {
              return w.has_last_heartbeat() ? Ago(w.last_heartbeat(), now) + " ago" : "-";
            },
            kRight},
           {"METRICS", [](const Worker& w) { return w.address(); }},
           {"RUNS", [](const Worker& w) { return w.runs_id(); }},
           {"GPUS", [](const Worker& w) { return absl::StrCat(w.gpus()); }, kRight, true},
           {"MEMORY", [](const Worker& w) { return Bytes(static_cast<double>(w.memory_bytes())); },
            kRight, true},
           {"RACK", [](const Worker& w) { return Or(w.rack()); }, {}, true},
           {"VERSION", [](const Worker& w) { return Or(w.version()); }, {}, true},
           {"FAILURES", [](const Worker& w) { return absl::StrCat(w.recent_failures()); }, kRight,
            true},
           {"REASON", [](const Worker& w) { return w.reason(); }, {}, true},
           {"ATTEMPTS",
            [](const Worker& w) { return Or(absl::StrJoin(w.attempts(), ",")); },
            {},
            true}}};
}

Kind<Queue> QueueKind() {
  return {
      "no queues",
      [](const Queue& q) { return q.name(); },
      {{"QUEUE", [](const Queue& q) { return q.name(); }},
       {"QUOTA",
        [](const Queue& q) { return q.quota_slots() > 0 ? absl::StrCat(q.quota_slots()) : "none"; },
        kRight},
       {"WEIGHT", [](const Queue& q) { return Number(q.weight() > 0 ? q.weight() : 1); }, kRight},
       {"USED", [](const Queue& q) { return absl::StrCat(q.used_slots()); }, kRight},
       {"PENDING", [](const Queue& q) { return absl::StrCat(q.pending_trials()); }, kRight}}};
}

Kind<Token> TokenKind(absl::Time now) {
  return {"no tokens: saeloom token create PRINCIPAL --role submitter",
          [](const Token& t) { return t.id(); },
          {{"TOKEN", [](const Token& t) { return t.id(); }},
           {"PRINCIPAL", [](const Token& t) { return t.principal(); }},
           {"ROLE", [](const Token& t) { return t.role(); }},
           {"AGE", [now](const Token& t) { return Ago(t.create_time(), now); }, kRight},
           {"LEFT",
            [now](const Token& t) {
              if (t.revoked()) return std::string("revoked");
              if (!t.has_expire_time()) return std::string("-");
              const absl::Duration left = ToTime(t.expire_time()) - now;
              return left <= absl::ZeroDuration() ? std::string("expired") : Span(left);
            },
            kRight},
           {"USED",
            [now](const Token& t) {
              return t.has_last_used_time() ? Ago(t.last_used_time(), now) + " ago" : "never";
            },
            kRight},
           {"NOTE", [](const Token& t) { return t.note(); }}}};
}

Kind<AuditEvent> AuditKind(absl::Time now) {
  return {"no audited call matches",
          [](const AuditEvent& e) { return absl::StrCat(e.id()); },
          {{"ID", [](const AuditEvent& e) { return absl::StrCat(e.id()); }, kRight},
           {"AGE", [now](const AuditEvent& e) { return Ago(e.time(), now); }, kRight},
           {"PRINCIPAL", [](const AuditEvent& e) { return e.principal(); }},
           {"ROLE", [](const AuditEvent& e) { return e.role(); }},
           {"METHOD", [](const AuditEvent& e) { return e.method(); }},
           {"RESOURCE", [](const AuditEvent& e) { return Or(ShortName(e.resource())); }},
           {"CODE", [](const AuditEvent& e) { return e.code(); }},
           {"PEER", [](const AuditEvent& e) { return Or(e.peer()); }, {}, true},
           {"REQUEST", [](const AuditEvent& e) { return Or(e.request_id()); }, {}, true}}};
}

}  // namespace sae::cli
