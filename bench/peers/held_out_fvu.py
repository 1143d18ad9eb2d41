"""Held-out FVU at equal tokens: our trainer and the peers on the same store, each with its own learning rate.

Where k sets the sparsity, ours is the best of --lr-factors, as a peer's best row is. Where a penalty does, the peer goes
first and ours is then held at the L0 that it reached (sae.target_l0), for FVU at different L0 says nothing.
"""
import dataclasses
import json
import os
import subprocess
import sys
import tempfile

from contenders import peers
from processes import Peer
from shape import Shape

PENALISED = ("jumprelu", "gated", "relu_l1")


def add_arguments(parser):
    parser.add_argument("--trainer", help="--fvu: saeloom-trainer")
    parser.add_argument("--tokens", type=float, default=1e6, help="--fvu: tokens to train on")
    parser.add_argument("--fvu-latents", type=int, default=2048, help="--fvu: latents")
    parser.add_argument("--lr-factors", default="1", help="--fvu: own learning rates times each of these, as 1,3")
    parser.add_argument("--fvu-batch", type=int, default=2048, help="--fvu: tokens of a batch")


def say(text):
    print(text, file=sys.stderr, flush=True)


def ours(args, architecture, target_l0=None, factor=1.0):
    train = {"tokens": args.tokens, "batch": args.fvu_batch}
    if factor != 1:
        train["lr"] = factor * 2e-4 / (args.fvu_latents / 2**14) ** 0.5  # times what `auto` is
    sae = {"architecture": architecture, "latents": args.fvu_latents}
    sae.update({"target_l0": target_l0} if target_l0 else {"k": args.k})
    with tempfile.TemporaryDirectory() as folder:
        config = {"store": os.path.abspath(args.store),
                  "trial": {"ranks": 1, "sae": sae, "train": train},
                  "run": {"directory": folder, "threads": args.threads}}
        path = os.path.join(folder, "run.json")
        with open(path, "w", encoding="utf-8") as f:
            json.dump(config, f)
        done = subprocess.run([args.trainer, "--config", path], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{args.trainer} ended with {done.returncode}: {done.stderr[-2000:]}")
        with open(os.path.join(folder, "events.jsonl"), encoding="utf-8") as f:
            last = [json.loads(line) for line in f][-1]
    assert last["kind"] == "finished", last
    return {"fvu": last["values"]["heldout.fvu"], "l0": last["values"]["heldout.l0"], "tokens": last["tokens"], "lr_factor": factor}


def width_of(store):
    with open(os.path.join(store, "manifest.json"), encoding="utf-8") as f:
        return json.load(f)["d"]


def run_case(case, args):
    architecture, rows = case.architecture, []
    shape = Shape(architecture=architecture, latents=args.fvu_latents, width=width_of(args.store), k=args.k,
                  batch=args.fvu_batch, steps=int(args.tokens // args.fvu_batch),
                  target_l0=args.k if architecture == "jumprelu" else 0.0)
    factors = [float(factor) for factor in args.lr_factors.split(",")]
    common = None
    if architecture not in PENALISED:
        mine = [ours(args, architecture, factor=factor) for factor in factors]
        for one in mine:
            say(f"{case.name}: ours, lr x{one['lr_factor']:g}: FVU {one['fvu']:.4f} at L0 {one['l0']:.1f}")
        common = min(mine, key=lambda one: one["fvu"])
    trials = [(name, library, factor) for name, library, _ in peers(case, quick=args.quick, wanted=args.peers)
              for factor in factors]
    for name, library, factor in trials:
        worker = Peer(args.python, library, dataclasses.replace(shape, lr_factor=factor), args.threads, {}, args.store, once=True)
        row = {"name": name if factor == 1 else f"{name} lr x{factor:g}", **worker.reply()}
        worker.close()
        row["ours"] = common or (ours(args, architecture, row["l0"]) if 1 <= row["l0"] <= args.fvu_latents / 2 else None)
        rows.append(row)
        say(f"{case.name}: {row['name']} FVU {row['fvu']:.4f} at L0 {row['l0']:.1f} in {row['seconds']:.0f} s; ours "
            + (f"{row['ours']['fvu']:.4f} at {row['ours']['l0']:.1f}" if row["ours"] else "not run"))
    return {"case": case.name, "tokens": shape.steps * shape.batch, "peers": rows}


def run(args):
    return [run_case(case, args) for case in args.cases if not case.dense]


def table(results):
    lines = [f"{'case':12} {'peer':24} {'its FVU':>9} {'its L0':>8} {'our FVU':>9} {'our L0':>8} {'ours/its':>9}"]
    for result in results:
        for row in sorted(result["peers"], key=lambda r: r["fvu"]):
            mine = row["ours"]
            tail = f"{mine['fvu']:9.4f} {mine['l0']:8.1f} {mine['fvu'] / row['fvu']:9.3f}" if mine else "  its L0 is out of range"
            lines.append(f"{result['case']:12} {row['name']:24} {row['fvu']:9.4f} {row['l0']:8.1f} {tail}")
    return "\n".join(lines)
