#include "tests/e2e/process_rig.h"

#include <csignal>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/data/store_create.h"

namespace saeloom::e2e {
namespace {
constexpr absl::Duration kPoll = absl::Milliseconds(20);
}

ProcessRig::ProcessRig() : mark_(absl::StrCat(kMark, "=", ::getpid(), ".", folder_.path())) {
  sae::data::SyntheticSpec spec;
  spec.options.d = kWidth;
  spec.options.features = 64;
  spec.rows = 6000;
  sae::data::StoreWriterOptions writer;
  writer.directory = store();
  writer.d = kWidth;
  const auto manifest = sae::data::CreateSyntheticStore(spec, writer);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
}

ProcessRig::~ProcessRig() {
  const auto left = [&] { return sae::SignalProcesses({.marks = {mark_}}, SIGKILL); };
  EXPECT_TRUE(WaitUntil([&] { return left() == 0; }));
}

bool ProcessRig::WaitUntil(const std::function<bool()>& condition) {
  const absl::Duration end = sae::RealClock().SinceBoot() + kHang;
  while (!condition()) {
    if (sae::RealClock().SinceBoot() > end) return false;
    sae::RealClock().SleepFor(kPoll);
  }
  return true;
}

std::string ProcessRig::Binary(const std::string& name) {
  const auto path = sae::FindSibling("", "--build-folder", name, sae::ExecutableDirectory());
  EXPECT_TRUE(path.ok()) << path.status();
  return path.ok() ? *path : "/bin/false";
}

void ProcessRig::Spawn(const std::string& name, std::vector<std::string> argv) {
  sae::ProcessSpec spec;
  spec.argv = std::move(argv);
  spec.output = folder_ / (name + ".log");
  spec.errors = spec.output;
  spec.environment[kMark] = mark_.substr(sizeof kMark);
  auto process = sae::Process::Spawn(spec);
  ASSERT_TRUE(process.ok()) << process.status();
  processes_[name] = *std::move(process);
}

std::string ProcessRig::AddressIn(const std::string& port_file) {
  EXPECT_TRUE(WaitUntil([&] { return sae::RealEnv().Exists(port_file); })) << Logs();
  const std::string text = sae::RealEnv().Read(port_file).value_or("{}");
  return nlohmann::json::parse(text).value("listen", "");
}

void ProcessRig::Kill(const std::string& process) {
  ASSERT_TRUE(processes_.at(process)->Signal(SIGKILL).ok());
  const auto exit = processes_.at(process)->Wait(kHang);
  ASSERT_TRUE(exit.ok() && exit->has_value());
}

void ProcessRig::Terminate(const std::string& process) {
  ASSERT_TRUE(processes_.at(process)->Signal(SIGTERM).ok());
  const auto exit = processes_.at(process)->Wait(kHang);
  ASSERT_TRUE(exit.ok() && exit->has_value()) << process << " does not end\n" << Logs();
  EXPECT_EQ((*exit)->ShellCode(), 0) << process << "\n" << Logs();
}

std::vector<sae::ProcessInfo> ProcessRig::Processes(const std::vector<std::string>& except) const {
  auto all = sae::FindProcesses({.marks = {mark_}});
  for (const std::string& name : except) {
    std::erase_if(all, [&](const auto& p) { return p.pid == PidOf(name); });
  }
  return all;
}

std::string ProcessRig::Logs() const {
  const auto run = sae::RunProcess(
      {.argv = {"/bin/sh", "-c", "tail -n 25 *.log runs/*/*/attempts/*/launcher.log 2>/dev/null"},
       .directory = folder_.path()},
      absl::Seconds(10));
  return run.ok() ? run->output : "";
}

}  // namespace saeloom::e2e
