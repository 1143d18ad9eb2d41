#!/usr/bin/env python3
"""Trains relu_l1, gated and jumprelu towards requested L0 on a store, on their defaults, and checks what comes out.

    python3 bench/target_l0.py --store runs/demo/store --trainer build/release/bin/saeloom-trainer

For every architecture, target and seed: held-out L0 must be within 10% of the target, and the sparsity coefficient must
move by less than 10% in the last tenth of the steps. Prints a table; exit code 1 where a row misses.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile


def train(args, folder, architecture, target, seed, extra):
    sae = {"architecture": architecture, "latents": args.latents, "target_l0": target, **extra}
    run = {
        "store": os.path.abspath(args.store),
        "trial": {"ranks": 1, "sae": sae,
                  "train": {"tokens": args.tokens, "batch": args.batch, "seed": seed, "checkpoint_every_seconds": 0}},
        "run": {"directory": folder, "threads": args.threads},
    }
    path = os.path.join(folder, "run.json")
    with open(path, "w") as out:
        json.dump(run, out)
    done = subprocess.run([args.trainer, "--config", path], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{architecture} target {target} seed {seed}: the trainer ended with {done.returncode}\n{done.stderr[-2000:]}")
    with open(os.path.join(folder, "events.jsonl")) as lines:
        return [json.loads(line) for line in lines]


def judge(events, target, total):
    heldout = events[-1]["values"]
    late = [e["values"]["sparsity_coefficient"] for e in events
            if e["kind"] == "metrics" and e["tokens"] >= 0.9 * total]
    moved = max(late) / min(late) - 1 if late else 0.0
    off = heldout["heldout.l0"] / target - 1
    return heldout, off, moved, abs(off) <= 0.10 and moved <= 0.10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True)
    parser.add_argument("--trainer", required=True)
    parser.add_argument("--architectures", default="relu_l1,gated,jumprelu,jumprelu:raw")
    parser.add_argument("--targets", default="8,32,128")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--latents", type=int, default=2048)
    parser.add_argument("--tokens", type=float, default=1e6)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.trainer = os.path.abspath(args.trainer)
    print(f"n={args.latents}, {args.tokens:g} tokens, batch {args.batch}")
    print(f"{'architecture':14s} {'target':>6s} {'seed':>4s} {'L0':>8s} {'off':>7s} {'moved':>7s} {'FVU':>7s} {'dead':>6s}")
    missed = 0
    for name in args.architectures.split(","):
        architecture, _, parameter = name.partition(":")
        extra = {"threshold_parameter": parameter} if parameter else {}
        for target in map(float, args.targets.split(",")):
            for seed in map(int, args.seeds.split(",")):
                with tempfile.TemporaryDirectory() as folder:
                    events = train(args, folder, architecture, target, seed, extra)
                heldout, off, moved, good = judge(events, target, args.tokens)
                missed += not good
                print(f"{name:14s} {target:6g} {seed:4d} {heldout['heldout.l0']:8.2f} {off:+7.1%} {moved:7.1%} "
                      f"{heldout['heldout.fvu']:7.4f} {heldout['heldout.dead_fraction']:6.1%}{'' if good else '  missed'}", flush=True)
    print(f"{missed} missed" if missed else "all within 10% and at rest")
    return 1 if missed else 0


sys.exit(main())
