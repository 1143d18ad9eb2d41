#!/usr/bin/env python3
"""One peer in a process of its own, started by train_step.py with the scratch environment's Python.

    worker.py LIBRARY[:OPTION] SHAPE_JSON [--store FOLDER] [--threads N] [--once]

Reads commands from stdin, one JSON object a line, and answers each with one line of JSON on stdout; what the library
prints goes to stderr. A command {"warmup": w, "steps": s, "probe": bool, "product": bool} lets the library's own
training loop take w + s steps; a step lasts from the moment it has its rows until it asks for the next ones. The loop
stays alive between commands. With --once it trains shape.steps steps on the store and answers with held-out figures.
"""
import argparse
import importlib
import json
import os
import sys
import time

REPLY = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import torch

from rows import gaussian, held_out, read_store
from shape import Shape


class Finished(Exception):
    """Ends a library's loop from inside its iterator."""


def memory_mib(key):
    with open("/proc/self/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith(key + ":"))


def product_ms(x, latents, repeats=3):
    """torch.mm of the encoder at this shape, the best of a few."""
    weight = torch.randn(x.shape[1], latents)
    out = torch.empty(len(x), latents)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(x, weight, out=out)
        times.append(1e3 * (time.perf_counter() - start))
    return sorted(times[1:])[repeats // 2]


class Turns:
    """The rows as an iterator that waits for a command whenever the steps of the last one are done."""

    def __init__(self, batches, peer, shape, import_mib):
        self.batches, self.peer, self.shape = batches, peer, shape
        self.import_mib, self.peak = import_mib, 0.0
        self.first = peer.decoder().detach().clone() if shape.lr > 1e-6 else None
        self.count = self.warmup = self.steps = 0
        self.command, self.times, self.start = None, [], None

    def __iter__(self):
        return self

    def __len__(self):
        return self.shape.steps

    def __next__(self):
        if self.start is not None:
            self.times.append(1e3 * (time.perf_counter() - self.start))
        if len(self.times) == self.warmup + self.steps:
            if self.command is not None:
                self.answer()
            else:  # made and calibrated
                print(json.dumps({"ready": True}), file=REPLY, flush=True)
            self.receive()
        x = self.batches[self.count % len(self.batches)]
        self.count += 1
        self.start = time.perf_counter()
        return x

    def receive(self):
        line = sys.stdin.readline()
        if not line:
            raise Finished
        self.command = json.loads(line)
        self.warmup, self.steps = self.command["warmup"], self.command["steps"]
        self.times, self.start = [], None

    def answer(self):
        reply = {"step_ms": self.times[self.warmup:], "import_mib": self.import_mib}
        if not self.peak:  # before anything of ours needs memory
            self.peak = memory_mib("VmHWM")
        reply["peak_mib"] = self.peak
        if self.command.get("probe"):
            reply["fvu"], reply["l0"] = held_out(self.peer, self.batches[0], len(self.batches[0]), training=True)
            if self.first is not None:
                reply["decoder_change"] = (self.peer.decoder().detach() - self.first).abs().max().item()
        if self.command.get("product"):
            reply["product_ms"] = product_ms(self.batches[0], self.shape.latents)
        print(json.dumps(reply), file=REPLY, flush=True)


class Epochs:
    """shape.steps batches of the rows, in written order first and in a new random order each further epoch."""

    def __init__(self, rows, shape):
        self.rows, self.shape = rows, shape

    def __len__(self):
        return self.shape.steps

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.shape.seed)
        order, at, batch = torch.arange(len(self.rows)), 0, self.shape.batch
        for _ in range(self.shape.steps):
            if at + batch > len(order):
                order, at = torch.randperm(len(self.rows), generator=generator), 0
            yield self.rows[order[at:at + batch]]
            at += batch


def train_once(peer, shape, store):
    rows, norm = read_store(store, limit=shape.steps * shape.batch)
    scale = peer.input_scale or norm
    rows *= scale
    start = time.perf_counter()
    peer.train(iter(Epochs(rows, shape)))
    seconds = time.perf_counter() - start
    fvu, l0 = held_out(peer, read_store(store, heldout=True)[0] * scale)
    print(json.dumps({"fvu": fvu, "l0": l0, "seconds": seconds, "peak_mib": memory_mib("VmHWM")}), file=REPLY, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    parser.add_argument("shape")
    parser.add_argument("--store")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = Shape.from_json(args.shape)
    library, _, option = args.library.partition(":")
    module = importlib.import_module("library_" + library)
    import_mib = memory_mib("VmRSS")
    peer = module.Peer(shape, option)
    if args.once:
        train_once(peer, shape, args.store)
        return
    rows = read_store(args.store, limit=2 * shape.batch)[0] if args.store else gaussian(2 * shape.batch, shape.width)
    peer.calibrate(rows[:shape.batch], shape.firing)
    try:
        peer.train(Turns(list(rows.split(shape.batch)), peer, shape, import_mib))
    except Finished:
        pass


main()
