// Parsers of text and messages: sweeps, events, manifests, the coordinator's log.
#include <cstdio>
#include <cstdlib>

#include <google/protobuf/stubs/logging.h>

#include "proto/convert/sweep_convert.h"
#include "sae/checkpoint/manifest.h"
#include "sae/config/events.h"
#include "sae/config/sweep_spec.h"
#include "sae/config/yaml.h"
#include "sae/data/store_manifest.h"
#include "server/core/events.h"
#include "tests/fuzz/targets.h"

namespace sae::fuzz {
namespace {

void Promise(bool kept, const char* what, const std::string& detail) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n%s\n", what, detail.c_str());
  std::abort();
}

/// Whether a look at each trial takes long here (a million of them: 16 s); the first ten thousand go through the same
/// code.
bool IsLarge(const config::SweepSpec& spec) {
  return absl::IsCancelled(config::ForEachTrial(spec, [](std::size_t i, const config::TrialPoint&) {
    return i < 10'000 ? absl::OkStatus() : absl::CancelledError();
  }));
}

/// What ParseSweepSpec accepts is the same after ToJson; Validate only judges.
void CheckSpec(const config::SweepSpec& spec) {
  const std::string json = config::ToJson(spec);
  const auto back = config::ParseSweepSpec(json);
  Promise(back.ok(), "a sweep's JSON cannot be read back",
          std::string(back.status().message()) + "\n" + json);
  Promise(config::ToJson(*back) == json, "a sweep changed by being written and read", json);
  if (IsLarge(spec) || !config::Validate(spec).ok()) return;
  const auto over = FromProto(ToProto(spec));
  Promise(over.ok(), "a valid sweep does not survive the API", json);
  Promise(config::ToJson(*over) == json, "a valid sweep changed on its way through the API",
          json + "\n" + config::ToJson(*over));
}

}  // namespace

void SweepYaml(const std::string& bytes) {
  const auto json = config::YamlToJson(bytes, "sweep.yaml");
  if (!json.ok()) return;
  const auto spec = config::ParseSweepSpec(*json);
  if (spec.ok()) CheckSpec(*spec);
}

void SweepProto(const std::string& bytes) {
  saeloom::v1::SweepSpec proto;
  const google::protobuf::LogSilencer quiet;  // of texts that are not UTF-8
  if (!proto.ParseFromString(bytes)) return;
  const auto spec = FromProto(proto);
  if (!spec.ok() || IsLarge(*spec) || !config::Validate(*spec).ok()) return;
  CheckSpec(*spec);
}

void Manifests(const std::string& bytes) {
  if (const auto m = checkpoint::ParseManifest(bytes); m.ok()) {
    const std::string json = checkpoint::ToJson(*m);
    const auto back = checkpoint::ParseManifest(json);
    Promise(back.ok(), "a checkpoint's manifest cannot be read back", json);
    Promise(checkpoint::ToJson(*back) == json, "a checkpoint's manifest changed", json);
  }
  if (const auto m = data::ManifestFromJson(bytes, "manifest.json"); m.ok()) {
    const std::string json = data::ManifestToJson(*m);
    const auto back = data::ManifestFromJson(json, "manifest.json");
    Promise(back.ok(), "a store's manifest cannot be read back", json);
    Promise(data::ManifestToJson(*back) == json, "a store's manifest changed", json);
  }
}

void Events(const std::string& bytes) {
  const auto event = config::ParseEvent(bytes);
  if (!event.ok()) return;
  const std::string line = config::ToJsonLine(*event);
  const auto back = config::ParseEvent(line);
  Promise(back.ok(), "an event cannot be read back", line);
  Promise(config::ToJsonLine(*back) == line, "an event changed", line);
}

/// The kind, a newline, the body.
void EventLog(const std::string& bytes) {
  const std::size_t end = bytes.find('\n');
  if (end == std::string::npos) return;
  const std::string kind = bytes.substr(0, end);
  const auto body = server::ParseBody(kind, bytes.substr(end + 1));
  if (!body.ok()) return;
  Promise(server::KindOf(*body) == kind, "an event of the log changed its kind", bytes);
  const std::string json = server::BodyToJson(*body);
  const auto back = server::ParseBody(kind, json);
  Promise(back.ok(), "an event of the log cannot be read back", json);
  Promise(server::BodyToJson(*back) == json, "an event of the log changed", json);
}

std::vector<std::string> SweepYamlSeeds() {
  return {R"(apiVersion: saeloom/v1
name: demo
store: /data/store
trial:
  ranks: 2
  sae: {architecture: topk, latents: 2048, aux_k: 64}
  train: {tokens: 5e5, batch: 2048, lr: auto, seed: 0}
parameters:
  - sae.k: {values: [8, 16, "32"]}
    train.lr: {logUniform: {min: 1e-5, max: 1e-3}}
  - sae.architecture: {values: [relu_l1]}
    sae.l1_coefficient: {uniform: {min: 1, max: 3, step: 0.5}}
objective: {metric: heldout.fvu, goal: minimize, constraints: ["heldout.l0 <= 64"]}
search: {random: {maxTrials: 9, seed: 4}}
maxConcurrent: 3
pack: off
)",
          "apiVersion: saeloom/v1\nname: s\nstore: {path: /s, hash: \"xxh3:00\", d: 4}\n"
          "parameters: {train.seed: {intUniform: {min: 0, max: 9, step: 3}}}\n",
          "&a [*a, {b: !!str 1, 'c': \"\\u00e9\"}]\n---\n...\n"};
}

std::vector<std::string> SweepProtoSeeds() {
  std::vector<std::string> out;
  for (const std::string& yaml : SweepYamlSeeds()) {
    const auto json = config::YamlToJson(yaml, "seed");
    if (!json.ok()) continue;
    const auto spec = config::ParseSweepSpec(*json);
    if (spec.ok()) out.push_back(ToProto(*spec).SerializeAsString());
  }
  return out;
}

std::vector<std::string> ManifestSeeds() {
  checkpoint::Manifest checkpoint;
  data::StoreManifest store;
  return {checkpoint::ToJson(checkpoint), data::ManifestToJson(store)};
}

std::vector<std::string> EventSeeds() {
  std::vector<std::string> out;
  for (int kind = 0; kind <= static_cast<int>(config::EventKind::kFailed); ++kind) {
    config::Event event;
    event.seq = kind + 1;
    event.time = 1.75e9;
    event.kind = static_cast<config::EventKind>(kind);
    event.step = 10;
    event.tokens = 20480;
    event.values = {{"train.loss", 0.5}, {"heldout.l0", 31.5}};
    event.message = "a \"message\"";
    event.checkpoint = "step-000000000010";
    out.push_back(config::ToJsonLine(event));
  }
  return out;
}

std::vector<std::string> EventLogSeeds() {
  server::AttemptEnded ended;
  ended.attempt = 1;
  ended.outcome = "failed";
  ended.next = server::TrialState::kPending;
  ended.log_tail = {"line"};
  const std::vector<server::Body> bodies = {
      server::SweepCreated{R"({"name":"s"})", {{{"sae.k", "8"}}}},
      server::AttemptAllocated{1, "w", "r", "/r", 4, "", {{"w", 2}, {"v", 2}}, "t"},
      ended,
      server::SearchReport{1, 10, 1000, 0.5, true},
      server::Point{1, 2, 3, true, {{"heldout.fvu", 0.25}}}};
  std::vector<std::string> out;
  for (const server::Body& body : bodies)
    out.push_back(server::KindOf(body) + "\n" + server::BodyToJson(body));
  return out;
}

}  // namespace sae::fuzz
