#pragma once
// What is fuzzed: each target takes any bytes, gives them to one parser, and checks what the parser promises of what it
// accepts (it can be written and read back as the same). A broken promise aborts; so does whatever a sanitizer finds.
// Used by the libFuzzer programs and by the test that replays the corpus. Thread-safe but for Gguf and Safetensors,
// which write one variable of the process.

#include <string>
#include <vector>

namespace sae::fuzz {

struct Target {
  const char* name;
  void (*run)(const std::string& bytes);
  /// Inputs to begin from, made by our own writers; the folder corpus/NAME has more.
  std::vector<std::string> (*seeds)();
};

void SweepYaml(const std::string& bytes);
void SweepProto(const std::string& bytes);
void Gguf(const std::string& bytes);
void Safetensors(const std::string& bytes);
void Manifests(const std::string& bytes);
void Events(const std::string& bytes);
void EventLog(const std::string& bytes);

std::vector<std::string> SweepYamlSeeds();
std::vector<std::string> SweepProtoSeeds();
std::vector<std::string> GgufSeeds();
std::vector<std::string> SafetensorsSeeds();
std::vector<std::string> ManifestSeeds();
std::vector<std::string> EventSeeds();
std::vector<std::string> EventLogSeeds();

inline constexpr Target kTargets[] = {
    {"sweep_yaml", SweepYaml, SweepYamlSeeds},
    {"sweep_proto", SweepProto, SweepProtoSeeds},
    {"gguf", Gguf, GgufSeeds},
    {"safetensors", Safetensors, SafetensorsSeeds},
    {"manifest", Manifests, ManifestSeeds},
    {"events", Events, EventSeeds},
    {"event_log", EventLog, EventLogSeeds},
};

}  // namespace sae::fuzz
