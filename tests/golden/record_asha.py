#!/usr/bin/env python3
"""Records what plain asynchronous successive halving decides: python3 record_asha.py > asha.jsonl

Two references, on synthetic curves: the stopping form (a trial that reaches a rung is entered in its sorted list and
goes on when its place is below max(int(n / eta), 1); as Determined's asha_stopping), and the promoting form of the
paper (on a free slot, from the top rung down, the best of the first int(n / eta) of a rung that was not promoted yet;
else a new trial). Needs Python alone.

A line a seed and mode: {"mode", "seed", "trials", "eta", "rungs", "steps"}. A step of "stop" is
[trial, rung, value, decision]; of "promote" also [trial, rung, null, "promote" | "start"], what a free slot takes, and
[null, null, null, "idle"]. Rungs count from 1.
"""
import bisect
import heapq
import json
import math
import random

ETA, RUNGS, SEEDS, TRIALS, SLOTS = 4, 5, 40, 256, 16
TOP = ETA ** (RUNGS - 1)
LEVELS = [max(int(TOP / ETA ** (RUNGS - 1 - i)), 1) for i in range(RUNGS)]


def curve(rng):
    """A noisy loss as a function of time."""
    floor, speed = rng.gauss(1.0, 0.25), math.exp(rng.gauss(0, 0.6))
    # Nine digits, so that what is written is what was compared.
    return lambda t: float("%.9g" % (floor + 1.5 * math.exp(-speed * t ** 0.5 / 4) + rng.gauss(0, 0.02)))


def stopping(seed):
    rng, queue, made, steps = random.Random(seed), [], 0, []
    lists = [[] for _ in LEVELS]

    def start(now):
        nonlocal made
        heapq.heappush(queue, (now + LEVELS[0], made, 0))
        curves.append(curve(rng))
        made += 1

    curves = []
    for _ in range(SLOTS):
        start(0)
    while queue:
        now, trial, rung = heapq.heappop(queue)
        value = curves[trial](LEVELS[rung])
        place = bisect.bisect_left(lists[rung], value)
        lists[rung].insert(place, value)
        go_on = rung + 1 < RUNGS and place < max(int(len(lists[rung]) / ETA), 1)
        steps.append([trial, rung + 1, value, "continue" if go_on else "stop"])
        if go_on:
            heapq.heappush(queue, (now + LEVELS[rung + 1] - LEVELS[rung], trial, rung + 1))
        elif made < TRIALS:
            start(now)
    return steps


def promoting(seed):
    rng, queue, made, steps = random.Random(seed), [], 0, []
    rungs, promoted, curves = [{} for _ in LEVELS], [set() for _ in LEVELS], []

    def job():
        nonlocal made
        for rung in range(RUNGS - 2, -1, -1):
            best = sorted((value, trial) for trial, value in rungs[rung].items())[: int(len(rungs[rung]) / ETA)]
            for _, trial in best:
                if trial not in promoted[rung]:
                    promoted[rung].add(trial)
                    return trial, rung + 1, "promote"
        if made < TRIALS:
            curves.append(curve(rng))
            made += 1
            return made - 1, 0, "start"
        return None

    def fill(now):
        free = 0
        for _ in range(idle):
            found = job()
            if found is None:
                steps.append([None, None, None, "idle"])
                free += 1
                continue
            trial, rung, what = found
            steps.append([trial, rung + 1, None, what])
            heapq.heappush(queue, (now + LEVELS[rung] - (LEVELS[rung - 1] if rung else 0), trial, rung))
        return free

    idle = SLOTS
    idle = fill(0)
    while queue:
        now, trial, rung = heapq.heappop(queue)
        value = curves[trial](LEVELS[rung])
        rungs[rung][trial] = value
        steps.append([trial, rung + 1, value, "pause" if rung + 1 < RUNGS else "stop"])
        idle += 1
        idle = fill(now)
    return steps


def main():
    for seed in range(SEEDS):
        for mode, run in (("stop", stopping), ("promote", promoting)):
            line = {"mode": mode, "seed": seed, "trials": TRIALS, "eta": ETA, "rungs": LEVELS, "steps": run(seed)}
            print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main()
