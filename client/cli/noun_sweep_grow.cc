// `saeloom sweep fork|add|pareto`.

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "client/cli/await.h"
#include "client/cli/kinds.h"
#include "client/cli/names.h"
#include "client/cli/spec_file.h"
#include "client/cli/sweep_text.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::SweepService;
using saeloom::v1::Trial;

struct ForkOptions {
  std::string source;
  std::string file;
  std::string name;
  double tokens = 0;
};

absl::Status Fork(const ForkOptions& options, Session& session) {
  saeloom::v1::ForkSweepRequest request;
  const auto checkpoint = CheckpointResource(options.source);
  if (checkpoint.ok()) {
    request.set_source(*checkpoint);
  } else {
    SAE_ASSIGN_OR_RETURN(*request.mutable_source(), TrialResource(options.source));
  }
  request.set_name(options.name);
  request.set_tokens(options.tokens);
  if (!options.file.empty()) {
    SAE_ASSIGN_OR_RETURN(config::SweepSpec spec, LoadSpec(options.file, session.world));
    if (!options.name.empty()) spec.name = options.name;
    SAE_RETURN_IF_ERROR(ReadStoreManifest(spec, session.world));
    if (const absl::Status s = config::Validate(spec); !s.ok()) return Annotate(s, options.file);
    *request.mutable_spec() = ToProto(spec);
  } else if (options.name.empty()) {
    return absl::InvalidArgumentError("--name: the fork needs a name, or a file with -f");
  }
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto sweep,
                       api->Mutate(&SweepService::StubInterface::ForkSweep, request));
  PrintChanged(session, sweep, BareName(sweep.name()), SweepLine(sweep));
  return session.wait ? AwaitSweep(session, *api, sweep.name()) : absl::OkStatus();
}

/// A JSON scalar, or text where it is none.
google::protobuf::Value ToValue(const std::string& text) {
  google::protobuf::Value out;
  const auto j = nlohmann::json::parse(text, nullptr, false);
  if (j.is_number()) {
    out.set_number_value(j.get<double>());
  } else if (j.is_boolean()) {
    out.set_bool_value(j.get<bool>());
  } else {
    out.set_string_value(j.is_string() ? j.get<std::string>() : text);
  }
  return out;
}

struct PointOptions {
  std::string sweep;
  std::string file;
  std::vector<std::string> values;
  std::int64_t draws = 0;
};

absl::StatusOr<saeloom::v1::AddPointsRequest> MakeRequest(const PointOptions& options,
                                                          const World& world) {
  saeloom::v1::AddPointsRequest request;
  request.set_parent(SweepName(BareName(options.sweep)));
  request.set_draws(options.draws);
  if (!options.file.empty()) {
    SAE_ASSIGN_OR_RETURN(const config::SweepSpec spec, LoadSpec(options.file, world));
    *request.mutable_parameters() = ToProto(spec).parameters();
  }
  SAE_ASSIGN_OR_RETURN(const auto values, ParsePairs(options.values, "--values"));
  if (!values.empty()) {
    auto& set = *request.add_parameters();
    for (const auto& [path, list] : values) {
      auto& parameter = *set.add_parameters();
      parameter.set_path(path);
      for (const auto value : absl::StrSplit(list, ','))
        *parameter.mutable_values()->add_values() = ToValue(std::string(value));
    }
  }
  if (request.parameters().empty() && options.draws < 1) {
    return absl::InvalidArgumentError(
        "nothing to add: give --values PATH=V1,V2, a file with -f, or --draws N");
  }
  return request;
}

absl::Status AddPoints(const PointOptions& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto request, MakeRequest(options, session.world));
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto response,
                       api->Mutate(&SweepService::StubInterface::AddPoints, request));
  const std::string sweep = BareName(options.sweep);
  if (session.names()) {
    for (const std::string& t : response.trials())
      Print(session, absl::StrCat(sweep, "/", BareName(t), "\n"));
  } else {
    std::string text = absl::StrCat("sweep ", sweep, ": ", response.trials_size(), " trials more");
    if (!response.trials().empty()) {
      absl::StrAppend(&text, ", ", BareName(response.trials(0)), " to ",
                      BareName(response.trials(response.trials_size() - 1)));
    }
    if (response.skipped() > 0) absl::StrAppend(&text, "; ", response.skipped(), " were there");
    PrintChanged(session, response, "", text);
  }
  return session.wait ? AwaitSweep(session, *api, options.sweep) : absl::OkStatus();
}

/// The trial's columns with the metrics that were asked for in place of the usual three.
Kind<Trial> ParetoKind(const std::vector<std::string>& metrics) {
  Kind<Trial> kind = TrialKind();
  kind.none = "no trial has all these metrics and meets the constraints";
  kind.columns.resize(3);  // TRIAL PARAMETERS STATE
  for (const std::string& m : metrics) {
    const std::string name = m.empty() || m[0] != '-' ? m : m.substr(1);
    kind.columns.push_back({name,
                            [name](const Trial& t) {
                              const auto it = t.metrics().find(name);
                              return it == t.metrics().end() ? "-" : Number(it->second);
                            },
                            Table::Align::kRight});
  }
  return kind;
}

void AddPareto(CLI::App& noun, Session& session) {
  struct Options {
    std::string sweep;
    std::vector<std::string> metrics = {"heldout.fvu", "heldout.l0"};
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(noun, session, "pareto",
              "trials that no other beats in every metric, with the objective's constraints met",
              {"% demo", "% demo --metric heldout.fvu --metric heldout.dead_fraction",
               "% demo --metric=heldout.fvu --metric=-heldout.cosine -o json"},
              {.watch = true, .names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  AddRepeated(verb, "--metric", options->metrics,
              "smaller is better, with - in front larger is; several times "
              "(heldout.fvu and heldout.l0)");
  OnRun(verb, session, [options, &session] {
    return Show(session, [options, &session](Api& api) -> absl::StatusOr<std::string> {
      saeloom::v1::GetParetoRequest request;
      request.set_parent(SweepName(BareName(options->sweep)));
      for (const std::string& m : options->metrics) request.add_metrics(m);
      SAE_ASSIGN_OR_RETURN(const auto response,
                           api.Call(&saeloom::v1::TrialService::StubInterface::GetPareto, request));
      return ListText(session, ParetoKind(options->metrics), response.trials());
    });
  });
}

}  // namespace

void AddSweepGrow(CLI::App& noun, Session& session) {
  const Takes takes = {.wait = true, .change = true, .names = true};
  auto fork = std::make_shared<ForkOptions>();
  CLI::App* verb = AddVerb(
      noun, session, "fork", "a new sweep whose trials begin from a checkpoint of a trial",
      {"% demo/0003 --name longer --tokens 1e6", "% demo/0003 -f examples/demo.yaml --name tuned",
       "% demo/0003/step-000000000244 --name again"},
      takes);
  verb->add_option("trial", fork->source,
                   "SWEEP/TRIAL (its newest checkpoint) or SWEEP/TRIAL/CHECKPOINT")
      ->required();
  verb->add_option("-f,--file", fork->file,
                   "YAML file of the new sweep; without one, the trial alone");
  verb->add_option("--name", fork->name, "of the new sweep; without it, the file's");
  verb->add_option("--tokens", fork->tokens, "train.tokens of the new trial; else as the old one");
  OnRun(verb, session, [fork, &session] { return Fork(*fork, session); });

  auto points = std::make_shared<PointOptions>();
  CLI::App* add =
      AddVerb(noun, session, "add", "more points of the same sweep; those that exist are skipped",
              {"% demo --values sae.k=24,48", "% demo --values sae.k=24 --values train.seed=1,2,3",
               "% demo --draws 20 --wait", "% demo -f examples/demo.yaml"},
              takes);
  add->add_option("sweep", points->sweep, "name of the sweep")->required();
  CLI::Option* values =
      AddRepeated(add, "--values", points->values, "PATH=V1,V2; several make a grid");
  CLI::Option* draws =
      add->add_option("--draws", points->draws, "so many more of a random or asha search");
  CLI::Option* file =
      add->add_option("-f,--file", points->file, "the `parameters` of this sweep's YAML file");
  draws->excludes(values)->excludes(file);
  OnRun(add, session, [points, &session] { return AddPoints(*points, session); });

  AddPareto(noun, session);
}

}  // namespace sae::cli
