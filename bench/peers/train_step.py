#!/usr/bin/env python3
"""Times a whole training step of other SAE libraries, through their own trainers, interleaved with step_bench.

    python3 bench/peers/train_step.py --python VENV/bin/peers-python --bench build/release/bin/step_bench
    python3 bench/peers/train_step.py ... --only topk,gated --rounds 5 -o json
    python3 bench/peers/train_step.py ... --quick            one round against the fastest peer of each architecture
    python3 bench/peers/train_step.py ... --check            small shapes: loss falls, L0 as asked, decoder moves
    python3 bench/peers/train_step.py ... --fvu --store STORE --trainer build/release/bin/saeloom-trainer

VENV is a scratch environment (tools/peers_env.sh VENV); nothing is installed here, and this file itself needs only
Python. Each peer lives in a process of its own, so peaks of memory are its own. Step_bench and the peer take turns, so
that a noisy machine disturbs both alike; a ratio is the median over rounds of the two neighbours. Rows are Gaussian, or those of --store; learning rates are 1e-9, so that every step does the
same work; biases or thresholds make k latents fire in the mean where the architecture does not fix that (half of the
latents in relu_l1_dense). "tuned" raises glibc's limits so that large buffers are kept instead of being unmapped.
"step/mm" of a peer is its step over torch.mm of the encoder in the same process and round.
"""
import argparse
import json
import os
import statistics
import sys

import held_out_fvu
from contenders import CASES, peers
from processes import Ours, Peer
from shape import Shape

TIMING = {"lr": 1e-9, "coefficient": 1e-9}


def say(text):
    print(text, file=sys.stderr, flush=True)


def shape_of(case, args, **more):
    return Shape(architecture=case.architecture, latents=args.latents, width=args.width, k=args.k, batch=args.batch,
                 share=0.5 if case.dense else 0.0, **more)


def programs_of(case, args):
    """step_bench's variants of this case; those it cannot run are left out, with a word."""
    out = {}
    for name, extra in case.ours:
        ours = Ours(args.bench, shape_of(case, args), args.threads, args.repeats, args.store, extra)
        why = ours.missing()
        if why:
            say(f"{case.name}, ours {name}: left out: {why}")
        else:
            out[name] = ours
    return out


def measure(case, args):
    shape, ours = shape_of(case, args, **TIMING), programs_of(case, args)
    runs = {name: [] for name in ours}
    summaries = []
    for name, library, environment in peers(case, args.tuned, args.quick, args.peers):
        worker, turns = Peer(args.python, library, shape, args.threads, environment, args.store), []
        for number in range(args.rounds):
            pair = {variant: program.run() for variant, program in ours.items()}
            turn = worker.turn(2 if number == 0 else 1, args.steps, probe=number + 1 == args.rounds)
            step = statistics.median(turn["step_ms"])
            rate = 1e3 * shape.batch / step
            turn.update(tokens_per_second=rate, over_product=step / turn["product_ms"],
                        ratio={v: run["tokens_per_second"] / rate for v, run in pair.items()})
            turns.append(turn)
            for variant, run in pair.items():
                runs[variant].append(run)
            rates = ", ".join(f"{v} {run['tokens_per_second']:.0f}" for v, run in pair.items())
            say(f"{case.name} round {number + 1}: {name} {rate:.0f} tokens/s; ours {rates or 'left out'}")
        worker.close()
        summaries.append(summary_of_peer(name, turns))
    return {"case": case.name, "wanted_l0": shape.firing * shape.latents,
            "ours": [summary_of_ours(name, values) for name, values in runs.items()], "peers": summaries}


def summary_of_ours(name, runs):
    return {"name": "ours " + name, "tokens_per_second": statistics.median(r["tokens_per_second"] for r in runs),
            "l0": runs[-1]["l0"], "peak_mib": max(r["peak_mib"] for r in runs), "report": runs[-1]["report"]}


def summary_of_peer(name, turns):
    def median(key):
        return statistics.median(t[key] for t in turns)
    ratios = {v: statistics.median(t["ratio"][v] for t in turns) for v in turns[0]["ratio"]}
    return {"name": name, "tokens_per_second": median("tokens_per_second"), "ratio": ratios,
            "over_product": median("over_product"), "product_ms": median("product_ms"), "l0": turns[-1]["l0"],
            "peak_mib": turns[0]["peak_mib"], "import_mib": turns[0]["import_mib"]}


def table(results):
    lines = [f"{'case':14} {'program':28} {'tokens/s':>9} {'ours/it':>8} {'certified/it':>13} {'step/mm':>8} {'peak MiB':>9} {'L0':>8}"]
    for result in results:
        for row in result["ours"] + sorted(result["peers"], key=lambda p: -p["tokens_per_second"]):
            ratio = row.get("ratio", {})
            cells = [f"{ratio[v]:.2f}" if v in ratio else "" for v in ("float32", "certified")]
            over = f"{row['over_product']:.2f}" if "over_product" in row else ""
            l0 = f"{row['l0']:.1f}" if row["l0"] is not None else ""
            lines.append(f"{result['case']:14} {row['name']:28} {row['tokens_per_second']:9.0f} {cells[0]:>8} {cells[1]:>13} "
                         f"{over:>8} {row['peak_mib']:9.0f} {l0:>8}")
    return "\n".join(lines)


def check(case, args):
    """Small runs: at the timing settings L0 is as wanted; with a real learning rate the error falls, W_dec moves."""
    failures = 0
    for name, library, environment in peers(case, wanted=args.peers):
        frozen = shape_of(case, args, **TIMING)
        moving = shape_of(case, args, lr=1e-3, coefficient=1e-6)
        replies = {}
        for key, shape, steps in (("frozen", frozen, 4), ("moving", moving, 40)):
            worker = Peer(args.python, library, shape, args.threads, environment, args.store)
            first = worker.turn(1, 1, probe=True, product=False)
            replies[key] = first, worker.turn(0, steps, probe=True, product=False)
            worker.close()
        wanted = frozen.firing * frozen.latents
        l0 = replies["frozen"][1]["l0"]
        before, after = (r["fvu"] for r in replies["moving"])
        change = replies["moving"][1]["decoder_change"]
        ok = abs(l0 / wanted - 1) < 0.05 and after < 0.95 * before and change > 1e-3
        failures += not ok
        print(f"{case.name:14} {name:24} L0 {l0:7.2f} of {wanted:g}; FVU {before:.4f} -> {after:.4f} in 40 steps; decoder "
              f"moved {change:.4f}: {'PASS' if ok else 'FAIL'}", flush=True)
    return failures


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="of the scratch environment: VENV/bin/peers-python")
    parser.add_argument("--bench", help="step_bench")
    parser.add_argument("--only", default="", help="cases: " + ",".join(c.name for c in CASES))
    parser.add_argument("--peers", default="", help="libraries: sparsify,saelens,overcomplete,dictionary_learning; default all")
    parser.add_argument("--latents", type=int, default=16384)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--store", help="take rows from this activation store instead of Gaussian ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a peer in a round, after one not timed")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of step_bench in a run")
    parser.add_argument("--tuned", choices=("none", "sparsify", "all"), default="sparsify")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--fvu", action="store_true", help="held-out FVU at equal tokens instead of times")
    held_out_fvu.add_arguments(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    args = parser.parse_args()
    names = [c.name for c in CASES]
    only = args.only.split(",") if args.only else names
    for name in only:
        if name not in names:
            parser.error(f"--only: no case {name}; there are {', '.join(names)}")
    args.cases = [c for c in CASES if c.name in only]
    if args.quick:
        args.rounds, args.steps = 1, 2
    if args.check:
        args.latents, args.width, args.k, args.batch = 512, args.width if args.store else 64, 8, 256
    elif args.fvu:
        if not (args.store and args.trainer):
            parser.error("--fvu needs --store and --trainer")
    elif not args.bench:
        parser.error("--bench is needed to time ours")
    return args


def main():
    args = parse()
    args.python = os.path.abspath(args.python)
    if args.check:
        sys.exit(1 if sum(check(case, args) for case in args.cases) else 0)
    if args.fvu:
        results = held_out_fvu.run(args)
        text = held_out_fvu.table(results)
    else:
        results = [measure(case, args) for case in args.cases]
        text = table(results)
    shape = {key: getattr(args, key) for key in ("latents", "width", "k", "batch", "threads", "rounds", "store")}
    print(json.dumps({"shape": shape, "results": results}, indent=1) if args.output == "json" else text)


if __name__ == "__main__":
    main()
