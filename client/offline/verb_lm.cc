// `lm info`, `lm tokenize`: look at a language model.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "client/offline/verb.h"
#include "sae/lm/corpus.h"
#include "sae/lm/hook.h"
#include "sae/lm/llama_config.h"
#include "sae/lm/tokenizer.h"

namespace sae::client {
namespace {

using Json = nlohmann::ordered_json;

struct LmFlags {
  std::string model, text, field = "text";
};

Json Information(const lm::GgufReader& gguf) {
  Json j;
  j["model"] = gguf.path();
  j["bytes"] = gguf.file().size();
  std::map<std::string, std::int64_t> types;
  std::int64_t parameters = 0;
  for (const lm::GgufTensor& tensor : gguf.tensors()) {
    ++types[lm::GgmlTypeName(tensor.type)];
    parameters += tensor.elements();
  }
  j["tensors"] = types;
  j["parameters"] = parameters;
  const auto config = lm::ReadLlamaConfig(gguf);
  if (config.ok()) {
    j["name"] = config->name;
    j["blocks"] = config->blocks;
    j["d"] = config->d;
    j["heads"] = config->heads;
    j["kv_heads"] = config->kv_heads;
    j["head_size"] = config->head_size;
    j["mlp"] = config->mlp;
    j["vocabulary"] = config->vocabulary;
    j["context"] = config->context;
    j["hooks"] = lm::HookNames(config->blocks);
  } else {
    j["forward_pass"] = Message(config.status());
  }
  const auto tokenizer = lm::Tokenizer::FromGguf(gguf);
  j["tokenizer"] =
      tokenizer.ok() ? absl::StrCat((*tokenizer)->size(), " tokens") : Message(tokenizer.status());
  return j;
}

absl::Status Info(const LmFlags& flags, const Invocation& invocation) {
  SAE_ASSIGN_OR_RETURN(const auto gguf, lm::GgufReader::Open(flags.model));
  const Json j = Information(*gguf);
  if (invocation.output == "json") {
    std::printf("%s\n", j.dump().c_str());
    return absl::OkStatus();
  }
  for (const auto& [key, value] : j.items()) {
    std::printf("%-12s %s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
  return absl::OkStatus();
}

absl::Status Tokenize(const LmFlags& flags) {
  SAE_ASSIGN_OR_RETURN(const auto gguf, lm::GgufReader::Open(flags.model));
  SAE_ASSIGN_OR_RETURN(const auto tokenizer, lm::Tokenizer::FromGguf(*gguf));
  SAE_ASSIGN_OR_RETURN(const auto corpus, lm::Corpus::Open(flags.text, flags.field));
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < corpus->size(); ++i) {
    SAE_ASSIGN_OR_RETURN(const std::string text, corpus->Text(i));
    ids.clear();
    tokenizer->EncodeInto(text, ids, nullptr);
    std::string line = "{\"ids\":[";
    for (std::size_t k = 0; k < ids.size(); ++k) absl::StrAppend(&line, k > 0 ? "," : "", ids[k]);
    line += "]}\n";
    if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size())
      return absl::InternalError("cannot write to standard output");
  }
  return absl::OkStatus();
}

}  // namespace

void AddLm(CLI::App& app, Invocation& invocation) {
  CLI::App* lm = app.add_subcommand("lm", "look at a language model (a GGUF file)");
  lm->require_subcommand(1);
  auto flags = std::make_shared<LmFlags>();

  CLI::App* info = lm->add_subcommand("info", "sizes, tensor types and hooks of a model");
  info->add_option("--model", flags->model, "GGUF file")->required();
  info->footer("Example:\n  saeloom lm info --model SmolLM2-135M-Instruct.Q4_1.gguf -o json");
  info->callback([flags, &invocation] { invocation.status = Info(*flags, invocation); });

  CLI::App* tokenize = lm->add_subcommand(
      "tokenize", "token ids of each document of a text, one JSON line a document");
  tokenize->add_option("--model", flags->model, "GGUF file")->required();
  tokenize
      ->add_option("--text", flags->text,
                   "plain text with blank lines between documents, or JSON lines")
      ->required();
  tokenize->add_option("--text-field", flags->field, "field of JSON lines that holds the text")
      ->capture_default_str();
  tokenize->footer(
      "Example:\n  saeloom lm tokenize --model M.gguf --text corpus.jsonl | head -1\n  "
      "{\"ids\":[504,1678,...]}");
  tokenize->callback([flags, &invocation] { invocation.status = Tokenize(*flags); });
}

}  // namespace sae::client
