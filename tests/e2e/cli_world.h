#pragma once
// A service as people meet it: a coordinator with TLS, a worker that shows a certificate, tokens
// that an admin has made with the command line, and people who run `saeloom` as a process in a home
// of their own, with a context that names the coordinator. All tests of the program share one
// world; each leaves the worker without work. Main thread only.

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "proto/transport/testing/test_ca.h"
#include "tests/e2e/process_rig.h"
#include "tests/e2e/verb_table.h"

namespace saeloom::e2e {

struct CliRun {
  int code = -1;  ///< as a shell shows it; -1: it did not end
  std::string out, err;
  /// Of standard output; a failed test and null when it is no JSON.
  nlohmann::json json() const;
  std::vector<nlohmann::json> lines() const;  ///< of -o jsonl
  /// The object that a machine form puts on standard error: {code, message, exit_code, ...}.
  nlohmann::json error() const;
};

/// One that goes on until it is interrupted, or by itself.
class CliProcess {
 public:
  CliProcess(std::unique_ptr<sae::Process> process, std::string out, std::string err)
      : process_(std::move(process)), out_(std::move(out)), err_(std::move(err)) {}
  std::string out() const { return sae::RealEnv().Read(out_).value_or(""); }
  std::string err() const { return sae::RealEnv().Read(err_).value_or(""); }
  bool Prints(const std::string& text) const;  ///< waits for it
  int Interrupt();                             ///< Ctrl-C, then its exit code
  int Wait();                                  ///< its exit code, -1 when it does not end

 private:
  std::unique_ptr<sae::Process> process_;
  std::string out_, err_;
};

using Arguments = std::vector<std::string>;
using Variables = std::map<std::string, std::string>;

class CliWorld : public ProcessRig {
 public:
  /// People: admin, olga (operator), sam and tom (submitters), vera (viewer), and nobody, who has
  /// the CA of the coordinator but no token.
  CliWorld();
  /// Ends it in good order; fails when something is left.
  void Close();

  const std::string& address() const { return address_; }
  /// Of a second coordinator, without TLS and without workers.
  const std::string& plain_address() const { return plain_address_; }
  /// Path of a program of this build.
  static std::string Program(const std::string& name) { return Binary(name); }
  std::string ca() const { return folder_ / "tls/coordinator/ca.pem"; }
  std::string other_ca() const { return folder_ / "other-ca.pem"; }
  std::string token(const std::string& person) const { return home("admin") + "/" + person; }
  std::string home(const std::string& person) const { return folder_ / ("home/" + person); }
  /// The worker's id, "one-xxxxxx".
  const std::string& worker() const { return worker_; }

  CliRun Run(const std::string& person, const Arguments& args, const Variables& variables = {});
  /// In a shell that finds `saeloom` in its PATH.
  CliRun Shell(const std::string& person, const Arguments& argv);
  std::unique_ptr<CliProcess> Start(const std::string& person, const Arguments& args);
  /// Of what goes on by itself, once it has done its part.
  void NoteDone(const Arguments& args) { verbs_->NoteDone(args); }

  /// Writes a sweep's file: trials of TopK over `k`, `steps` steps of 128 tokens each, and the
  /// lines `more`. Short ones report every step. Returns its path.
  std::string Spec(const std::string& name, const std::string& k, std::int64_t steps,
                   const std::string& more = "", int ranks = 1);

  const VerbTable& verbs() const { return *verbs_; }

  /// Set by main().
  static inline CliWorld* current = nullptr;

 private:
  sae::ProcessSpec SpecOf(const std::string& person, const Arguments& argv,
                          const Variables& variables) const;
  void AddPerson(const std::string& person, const std::string& role);

  sae::testing::TestCa ca_;
  std::string address_, plain_address_, worker_;
  std::unique_ptr<VerbTable> verbs_;
  int runs_ = 0;
};

class CliTest : public ::testing::Test {
 protected:
  CliWorld& world() { return *CliWorld::current; }
  CliRun Run(const std::string& person, const Arguments& args, const Variables& variables = {}) {
    return world().Run(person, args, variables);
  }
  /// It must succeed.
  CliRun Ok(const std::string& person, const Arguments& args);
  nlohmann::json Json(const std::string& person, Arguments args);  ///< the same with -o json
  /// It must fail so; returns the error object.
  nlohmann::json Fails(const std::string& person, Arguments args, int exit_code,
                       const std::string& code);

  std::string StateOf(const std::string& name);  ///< of a sweep, or of SWEEP/TRIAL
  bool Becomes(const std::string& name, const std::string& state);
  /// Waits until it runs and has reported a step beyond `step`.
  bool IsUnderWay(const std::string& trial, std::int64_t step = 0);
  /// Nothing runs any more.
  void ExpectIdle();
};

}  // namespace saeloom::e2e
