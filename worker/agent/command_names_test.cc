#include "worker/agent/command_names.h"

#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace saeloom::agent {
namespace {
namespace v1 = saeloom::v1;

/// Fills the names of one kind of command.
using Fill = std::function<void(v1::Command&, const std::string& sweep, const std::string& trial,
                                const std::string& name)>;

const std::map<std::string, Fill>& Kinds() {
  const auto attempt = [](auto* m, const std::string& sweep, const std::string& trial) {
    m->set_sweep(sweep);
    m->set_trial(trial);
    m->set_attempt(1);
  };
  static const std::map<std::string, Fill> kinds = {
      {"start",
       [=](auto& c, auto& s, auto& t, auto&) {
         attempt(c.mutable_start(), s, t);
         attempt(c.mutable_start()->add_with(), s, t);
       }},
      {"stop", [=](auto& c, auto& s, auto& t, auto&) { attempt(c.mutable_stop(), s, t); }},
      {"logs", [=](auto& c, auto& s, auto& t, auto&) { attempt(c.mutable_logs(), s, t); }},
      {"prepare", [=](auto& c, auto& s, auto& t, auto&) { attempt(c.mutable_prepare(), s, t); }},
      {"release", [=](auto& c, auto& s, auto& t, auto&) { attempt(c.mutable_release(), s, t); }},
      {"keep",
       [](auto& c, auto& s, auto& t, auto& n) {
         c.mutable_keep()->set_sweep(s);
         c.mutable_keep()->set_trial(t);
         c.mutable_keep()->set_name(n);
       }},
      {"delete_checkpoints",
       [](auto& c, auto& s, auto& t, auto& n) {
         c.mutable_delete_checkpoints()->set_sweep(s);
         c.mutable_delete_checkpoints()->set_trial(t);
         c.mutable_delete_checkpoints()->add_names("step-1");
         c.mutable_delete_checkpoints()->add_names(n);
       }},
  };
  return kinds;
}

TEST(CommandNames, EveryKindOfCommandIsLookedAt) {
  const auto* kinds = v1::Command::descriptor()->oneof_decl(0);
  for (int i = 0; i < kinds->field_count(); ++i)
    EXPECT_TRUE(Kinds().contains(kinds->field(i)->name())) << kinds->field(i)->name();
}

TEST(CommandNames, OnlyNamesPass) {
  for (const auto& [kind, fill] : Kinds()) {
    SCOPED_TRACE(kind);
    v1::Command good;
    fill(good, "demo", "0003", "step-100");
    EXPECT_TRUE(CheckNames(good).ok()) << CheckNames(good);
    for (const std::string& bad : {std::string("../../etc"), std::string("/etc"), std::string(""),
                                   std::string("a/b"), std::string(".."), std::string("a\0b", 3)}) {
      v1::Command sweep, trial, name;
      fill(sweep, bad, "0003", "step-100");
      fill(trial, "demo", bad, "step-100");
      EXPECT_TRUE(absl::IsInvalidArgument(CheckNames(sweep))) << bad;
      EXPECT_TRUE(absl::IsInvalidArgument(CheckNames(trial))) << bad;
      if (kind != "keep" && kind != "delete_checkpoints") continue;
      fill(name, "demo", "0003", bad);
      EXPECT_TRUE(absl::IsInvalidArgument(CheckNames(name))) << bad;
    }
  }
}

TEST(CommandNames, WhatIsPackedAlongIsLookedAtToo) {
  v1::Command command;
  Kinds().at("start")(command, "demo", "0003", "");
  command.mutable_start()->mutable_with(0)->set_trial("../0004");
  EXPECT_FALSE(CheckNames(command).ok());
  command.mutable_start()->mutable_with(0)->set_trial("0004");
  command.mutable_start()->mutable_with(0)->set_attempt(0);
  EXPECT_FALSE(CheckNames(command).ok());
}

TEST(CommandNames, TheEndOfATailNeedsNone) {
  v1::Command command;
  command.mutable_logs()->set_request(7);
  command.mutable_logs()->set_cancel(true);
  EXPECT_TRUE(CheckNames(command).ok());
}

}  // namespace
}  // namespace saeloom::agent
