#pragma once
// JSON Schema (draft 2020-12) of a sweep's file, for editors and other tools: what ParseSweepSpec
// takes, made from the same tables of keys and fields. A file that meets it may still be refused:
// what depends on several keys is for Validate. Pure.

#include <string>

namespace sae::config {

/// Pretty-printed, without a newline at its end.
std::string SweepSchema();

}  // namespace sae::config
