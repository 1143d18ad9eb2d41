#!/usr/bin/env python3
"""Includes point down only: reads every `#include "..."` of the tree and compares it with the table below.

Also refuses, outside sae/base: the wall clock, sleeping and random_device (they are injected); and anywhere:
nlohmann/json or torch/torch.h in a header. Prints each breach with the rule; exit 1 if there is any.
"""
import os
import re
import sys

BASE, CONFIG = {"sae/base"}, {"sae/base", "sae/config"}
LOW = CONFIG | {"sae/kernels", "sae/comm"}
API = CONFIG | {"proto"}
MIDDLE = {"sae/model", "sae/optim", "sae/data", "sae/lm", "sae/checkpoint", "sae/eval"}
ALLOWED = {
    "sae/base": set(),
    "sae/config": BASE,
    "sae/kernels": CONFIG,
    "sae/comm": CONFIG,
    "sae/model": LOW,
    "sae/optim": LOW | {"sae/model"},
    "sae/data": LOW,
    "sae/checkpoint": LOW | {"sae/model", "sae/optim"},
    "sae/lm": LOW | {"sae/data", "sae/model"},
    "sae/eval": LOW | {"sae/model", "sae/data", "sae/checkpoint", "sae/lm"},
    "sae/train": LOW | MIDDLE,
    "proto": CONFIG,
    "server": API,
    "worker/agent": API | {"worker/rsh"},
    "worker/rsh": API,
    "client/cli": API,
    "worker/trainer": LOW | MIDDLE | {"sae/train"},
    "client/offline": LOW | MIDDLE | {"sae/train"},
}
INJECTED = re.compile(r"\b(absl::Now\(|absl::SleepFor\(|std::random_device|sleep_for\(|system_clock::now)")
IN_HEADERS = re.compile(r'#include [<"](nlohmann/json\.hpp|torch/torch\.h|ATen/ATen\.h)')


def layer_of(path):
    best = ""
    for layer in ALLOWED:
        if path.startswith(layer + "/") and len(layer) > len(best):
            best = layer
    return best


def breaches(root):
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in ("build", "third_party", ".git", "runs", ".saeloom")]
        for name in files:
            if not name.endswith((".h", ".cc", ".cu", ".cpp")):
                continue
            path = os.path.relpath(os.path.join(folder, name), root)
            layer = layer_of(path)
            is_test = "_test." in name or path.startswith(("tests/", "bench/")) or "/testing/" in path
            with open(os.path.join(root, path), encoding="utf-8") as source:
                for number, line in enumerate(source, 1):
                    where = f"{path}:{number}"
                    include = re.match(r'\s*#include "([^"]+)"', line)
                    target = layer_of(include.group(1)) if include else ""
                    if layer and target and target != layer and target not in ALLOWED[layer]:
                        # Tests may use what the test harness of a higher layer offers, never the product.
                        if not (is_test and not path.startswith("sae/")):
                            yield f"{where}: {layer} may not include {target}: {line.strip()}"
                    if name.endswith(".h") and IN_HEADERS.search(line) and "pch" not in name:
                        yield f"{where}: heavy header in a header: {line.strip()}"
                    if layer and layer != "sae/base" and not is_test and INJECTED.search(line):
                        yield f"{where}: time and randomness are injected: {line.strip()}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    found = list(breaches(root))
    for line in found:
        print(line)
    print(f"check_layers: {len(found)} breaches")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
