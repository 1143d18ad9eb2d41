#!/usr/bin/env python3
"""Times transformers' forward pass up to a block, interleaved with harvest_bench on the same shapes.

    VENV/bin/python bench/peers/harvest_transformers.py --model M.gguf --bench build/release/bin/harvest_bench

Needs torch, transformers and gguf in an environment of its own (tools/peers_env.sh), none of the project's.
Rounds alternate (ours, theirs, a bare torch.mm), so that a shared machine disturbs all alike; medians and the
ratio of each round are printed. Float32, scaled-dot-product attention, no output layer.
"""
import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import time

import torch
from transformers import AutoModelForCausalLM


def load(path, blocks):
    """The first `blocks` blocks of the model, without the final norm and the output layer."""
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, attn_implementation="sdpa")
    body = model.model
    body.layers = body.layers[:blocks]
    body.norm = torch.nn.Identity()
    return body.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bench", required=True, help="harvest_bench")
    parser.add_argument("--hook", default="blocks.8.hook_resid_post")
    parser.add_argument("--compute", default="f32", help="of ours; theirs is float32")
    parser.add_argument("--contexts", type=int, default=8)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    blocks = int(re.fullmatch(r"blocks\.(\d+)\.hook_resid_post", args.hook).group(1)) + 1
    model = load(args.model, blocks)
    tokens = torch.randint(0, model.config.vocab_size, (args.contexts, args.context))
    count = tokens.numel()
    a, b = torch.randn(count, 576), torch.randn(576, 3072)

    def theirs():
        start = time.perf_counter()
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=False)
        return count / (time.perf_counter() - start)

    def product():
        start = time.perf_counter()
        for _ in range(10):
            torch.mm(a, b)
        return 10 * 2 * count * 576 * 3072 / (time.perf_counter() - start) / 1e9

    command = [args.bench, "--model", args.model, "--hook", args.hook, "--compute", args.compute, "--contexts", str(args.contexts),
               "--context", str(args.context), "--threads", str(args.threads), "--rounds", "3", "--json"]
    theirs()
    rounds = []
    for number in range(args.rounds):
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rates = [theirs() for _ in range(3)]
        rounds.append((ours["tokens_per_second"], statistics.median(rates), product(), ours))
        print(f"round {number + 1}: ours {rounds[-1][0]:.0f}, transformers {rounds[-1][1]:.0f} tokens/s, "
              f"ratio {rounds[-1][0] / rounds[-1][1]:.2f}; torch.mm {rounds[-1][2]:.0f}, ours' GEMM "
              f"{max(ours['sgemm_gflops'], ours['packed_gflops']):.0f} GFLOP/s", flush=True)
    ratio = statistics.median(r[0] / r[1] for r in rounds)
    print(f"median: ours {statistics.median(r[0] for r in rounds):.0f}, transformers {statistics.median(r[1] for r in rounds):.0f} "
          f"tokens/s, ratio {ratio:.2f}; peak memory {rounds[-1][3]['peak_mib']:.0f} and "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


main()
