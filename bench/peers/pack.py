#!/usr/bin/env python3
"""Eight TopK trials in one gang and one after the other (pack_bench), in turns with dictionary_learning's list of trainers.

    python3 bench/peers/pack.py --python VENV/bin/peers-python --bench build/release/bin/pack_bench [--rounds 3]

Milliseconds a trial and step; a ratio is the median over rounds of neighbours in time.
"""
import argparse
import json
import os
import statistics

from processes import Peer, run_measured
from shape import Shape


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="of the scratch environment: VENV/bin/peers-python")
    parser.add_argument("--bench", required=True, help="pack_bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latents", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    shape = Shape(latents=args.latents, k=16)
    worker = Peer(os.path.abspath(args.python), "dictionary_learning:list", shape, args.threads, {})
    rows = []
    for number in range(args.rounds):
        text, _ = run_measured([args.bench, "--latents", str(args.latents), "--threads", str(args.threads), "--rounds", "2",
                                "--steps", "3", "--json"])
        ours = json.loads(text)
        turn = worker.turn(1 if number == 0 else 0, 2, product=False)
        ours["list_ms"] = statistics.median(turn["step_ms"]) / 8
        rows.append(ours)
    worker.close()

    def median(value):
        return statistics.median(value(r) for r in rows)
    print(f"gang {median(lambda r: r['gang_ms']):.1f}  alone {median(lambda r: r['alone_ms']):.1f}  "
          f"list of trainers {median(lambda r: r['list_ms']):.1f} ms; alone/gang {median(lambda r: r['ratio']):.3f}  "
          f"list/gang {median(lambda r: r['list_ms'] / r['gang_ms']):.2f}")


main()
