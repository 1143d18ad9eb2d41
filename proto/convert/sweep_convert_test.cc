#include "proto/convert/sweep_convert.h"

#include <cmath>
#include <limits>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae {
namespace {
using ::testing::HasSubstr;

/// Names of all scalar fields, dotted, with their C++ type; '?' marks one that can be absent and is
/// "auto" then.
void Collect(const google::protobuf::Descriptor* message, const std::string& prefix,
             std::set<std::string>& out) {
  for (int i = 0; i < message->field_count(); ++i) {
    const auto* f = message->field(i);
    const std::string path = prefix + f->name();
    if (f->message_type() != nullptr) {
      Collect(f->message_type(), path + ".", out);
    } else {
      out.insert(path + ":" + f->cpp_type_name());
    }
  }
}

std::set<std::string> ConfigFields() {
  config::TrialConfig config;
  std::set<std::string> out;
  for (const config::Field& f : config::Fields(config)) {
    static const char* const kTypes[] = {"bool", "int64", "double", "string", "int64", "double"};
    out.insert(f.path + ":" + kTypes[f.pointer.index()]);
  }
  return out;
}

config::TrialConfig EveryFieldSet() {
  config::TrialConfig c;
  int i = 10;
  for (const config::Field& f : config::Fields(c)) {
    ++i;
    std::visit(
        [&](auto* p) {
          using T = std::remove_pointer_t<decltype(p)>;
          if constexpr (std::is_same_v<T, bool>)
            *p = true;
          else if constexpr (std::is_same_v<T, std::string>)
            *p = "v" + std::to_string(i);
          else
            *p = i;
        },
        f.pointer);
  }
  return c;
}

TEST(SweepConvert, TrialSpecAndTrialConfigHaveTheSameFields) {
  std::set<std::string> proto;
  Collect(saeloom::v1::TrialSpec::descriptor(), "", proto);
  EXPECT_EQ(proto, ConfigFields());
}

TEST(SweepConvert, AnAutoFieldCanBeAbsentInTheProto) {
  config::TrialConfig config;
  for (const config::Field& f : config::Fields(config)) {
    if (f.pointer.index() < 4) continue;
    const auto* message = saeloom::v1::TrialSpec::descriptor();
    std::string name = f.path;
    for (std::size_t dot; (dot = name.find('.')) != std::string::npos;
         name = name.substr(dot + 1)) {
      message = message->FindFieldByName(name.substr(0, dot))->message_type();
    }
    EXPECT_TRUE(message->FindFieldByName(name)->has_presence()) << f.path;
  }
}

TEST(SweepConvert, SweepSpecHasTheFieldsThatToProtoWrites) {
  std::set<std::string> names;
  const auto* d = saeloom::v1::SweepSpec::descriptor();
  for (int i = 0; i < d->field_count(); ++i) names.insert(d->field(i)->name());
  EXPECT_EQ(names,
            (std::set<std::string>{"name", "store", "store_hash", "store_d", "store_target_d",
                                   "trial", "parameters", "objective", "search", "max_concurrent",
                                   "pack", "labels", "queue", "priority", "topology", "retry",
                                   "checkpoints", "grace_seconds", "progress_timeout_seconds"}));
}

TEST(SweepConvert, SchedulingAndSearchSurvive) {
  config::SweepSpec spec;
  spec.search = "hyperband";
  spec.max_trials = 81;
  spec.search_seed = 3;
  spec.asha = {"promote", 1e9, 4e6, 3, 4, 2};
  spec.median_stop = {true, 1e6, 7};
  spec.labels = {{"model", "gpt2"}};
  spec.queue = "research";
  spec.priority = 50;
  spec.topology = "same-rack";
  spec.retry = {{{"NODE_LOST", "GPU_FAULT"}, -1, true}, {{"OOM_GPU"}, 0, false}};
  spec.checkpoints = {1, 2, 3};
  spec.grace_seconds = 0;
  spec.progress_timeout_seconds = 30;
  const auto back = FromProto(ToProto(spec));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->search, "hyperband");
  EXPECT_EQ(back->max_trials, 81);
  EXPECT_EQ(back->search_seed, 3);
  EXPECT_EQ(back->asha, spec.asha);
  EXPECT_EQ(back->median_stop, spec.median_stop);
  EXPECT_EQ(back->labels, spec.labels);
  EXPECT_EQ(back->queue, spec.queue);
  EXPECT_EQ(back->priority, spec.priority);
  EXPECT_EQ(back->topology, spec.topology);
  EXPECT_EQ(back->retry, spec.retry);
  EXPECT_EQ(back->checkpoints, spec.checkpoints);
  EXPECT_EQ(back->grace_seconds, 0);
  EXPECT_EQ(back->progress_timeout_seconds, 30);
}

TEST(SweepConvert, TrialRoundTripKeepsEveryField) {
  const config::TrialConfig c = EveryFieldSet();
  const auto back = FromProto(ToProto(c));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(config::ToJson(*back), config::ToJson(c));
}

TEST(SweepConvert, AbsentIsTheDefaultAndAutoStaysAuto) {
  const auto c = FromProto(saeloom::v1::TrialSpec());
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(config::ToJson(*c), config::ToJson(config::TrialConfig()));
  const saeloom::v1::TrialSpec back = ToProto(*c);
  EXPECT_FALSE(back.train().has_lr());
  EXPECT_FALSE(back.sae().has_aux_k());
  EXPECT_EQ(back.train().batch(), 2048);
}

TEST(SweepConvert, AuxKOfZeroIsNotAuto) {
  config::TrialConfig c;
  c.sae.aux_k = 0;
  const auto back = FromProto(ToProto(c));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->sae.aux_k, std::optional<std::int64_t>(0));
}

config::SweepSpec Full() {
  using config::Parameter;
  config::SweepSpec s;
  s.name = "demo";
  s.store = "/data/store";
  s.store_hash = "xxh3:0123456789abcdef";
  s.store_d = 576;
  s.store_target_d = 320;
  s.trial = EveryFieldSet();
  s.parameters = {{{"sae.k", Parameter::Kind::kValues, {"8", "\"auto\"", "0.5", "true"}, 0, 0, 0},
                   {"train.lr", Parameter::Kind::kLogUniform, {}, 1e-5, 1e-3, 0}},
                  {{"train.seed",
                    Parameter::Kind::kIntUniform,
                    {},
                    1,
                    9,
                    2,
                    {{"sae.architecture", {"\"topk\""}}, {"sae.k", {"8", "16"}}}},
                   {"sae.aux_alpha", Parameter::Kind::kUniform, {}, 0, 1, 0.25}}};
  s.objective_metric = "heldout.l0";
  s.minimize = false;
  s.constraints = {{"heldout.fvu", "<=", 0.5}, {"heldout.gamma", ">", 1e-3}};
  s.search = "random";
  s.max_trials = 12;
  s.search_seed = 7;
  s.max_concurrent = 3;
  s.pack = 4;
  return s;
}

TEST(SweepConvert, SweepRoundTripKeepsEveryField) {
  const config::SweepSpec s = Full();
  const auto back = FromProto(ToProto(s));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(config::ToJson(*back), config::ToJson(s));
}

TEST(SweepConvert, ParameterWithoutAFormIsRefused) {
  saeloom::v1::SweepSpec proto;
  proto.add_parameters()->add_parameters()->set_path("sae.k");
  EXPECT_EQ(Message(FromProto(proto).status()),
            "parameters[0].parameters[0] (sae.k): needs one of values, uniform, log_uniform, "
            "int_uniform");
}

TEST(SweepConvert, DurationsAreAsFineAsTheirText) {
  auto proto = ToProto(config::SweepSpec());
  proto.set_grace_seconds(std::nextafter(120.0, 121.0));
  proto.set_progress_timeout_seconds(0.1);
  const auto spec = FromProto(proto);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->grace_seconds, 120.0);
  EXPECT_EQ(spec->progress_timeout_seconds, 0.1);
  proto.set_grace_seconds(std::numeric_limits<double>::quiet_NaN());
  EXPECT_FALSE(config::Validate(*FromProto(proto)).ok());
}

TEST(SweepConvert, ValuesThatAreNoScalarsAreRefused) {
  saeloom::v1::SweepSpec proto;
  auto* p = proto.add_parameters()->add_parameters();
  p->set_path("sae.k");
  p->mutable_values()->add_values()->set_number_value(8);
  p->mutable_values()->add_values()->mutable_list_value();
  EXPECT_THAT(Message(FromProto(proto).status()),
              HasSubstr("parameters[0].parameters[0].values[1]: needs a number"));
  p->mutable_values()->mutable_values(1)->set_number_value(std::numeric_limits<double>::infinity());
  EXPECT_THAT(Message(FromProto(proto).status()), HasSubstr("not finite"));
}

TEST(SweepConvert, BadConstraintNamesItsPlace) {
  saeloom::v1::SweepSpec proto;
  proto.mutable_objective()->add_constraints("heldout.l0 about 64");
  EXPECT_THAT(Message(FromProto(proto).status()), HasSubstr("objective.constraints[0]"));
}

TEST(SweepConvert, Names) {
  EXPECT_EQ(TrialName("s", "0001"), "projects/default/sweeps/s/trials/0001");
  EXPECT_EQ(BareName(TrialName("s", "0001")), "0001");
  EXPECT_EQ(BareName("demo"), "demo");
}

}  // namespace
}  // namespace sae
