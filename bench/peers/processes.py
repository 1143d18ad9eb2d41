"""Runs step_bench and peer workers as processes of their own, each with its own peak of memory."""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def run_measured(command, environment=None):
    """(stdout, peak resident MiB) of a program that must succeed."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        text = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}\nended with {process.returncode}: {errors.read()[-2000:]}{text[-2000:]}")
    return text, usage.ru_maxrss / 1024


class Ours:
    """step_bench with the arguments of one case; every run is a fresh process."""

    def __init__(self, bench, shape, threads, repeats, store=None, extra=()):
        self.options = subprocess.run([bench, "--help"], capture_output=True, text=True, check=True).stdout
        self.command = [bench, "--only", shape.architecture, "--shape",
                        f"{shape.latents},{shape.width},{shape.k},{shape.batch}", "--threads", str(threads),
                        "--repeats", str(repeats), "--output", "json"]
        if shape.architecture in ("jumprelu", "gated", "relu_l1"):
            self.command += ["--l0", f"{shape.firing * shape.latents:g}"]
        self.command += ["--store", store] if store else []
        self.command += list(extra)

    def missing(self):
        """Why this step_bench cannot run the case, or ''."""
        for word in self.command:
            if word.startswith("--") and not re.search(re.escape(word) + r"\b", self.options):
                return f"step_bench has no {word}"
        return ""

    def run(self):
        """Its peak is the process's, unless step_bench reports the step's alone as peak_mib."""
        text, peak = run_measured(self.command)
        report = json.loads(text)[0]
        return {"tokens_per_second": report["tokens_per_second"], "peak_mib": report.get("peak_mib", peak),
                "l0": report["train.l0"], "report": report}


class Peer:
    """A worker that stays alive between turns, so that only the first one pays for its start. Answers come in JSON."""

    def __init__(self, python, library, shape, threads, environment, store=None, once=False):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), PYTHONDONTWRITEBYTECODE="1",
                   TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", WANDB_MODE="disabled", **environment)
        command = [python, os.path.join(HERE, "worker.py"), library, shape.to_json(), "--threads", str(threads)]
        command += ["--store", store] if store else []
        command += ["--once"] if once else []
        self.library, self.batch = library, shape.batch
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
                                        env=env)
        if not once:
            self.reply()  # ready: its imports disturb no measurement

    def reply(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            sys.exit(f"{self.library} ended with {self.process.returncode}:\n{self.errors.read()[:4000]}")
        return json.loads(line)

    def turn(self, warmup, steps, probe=False, product=True):
        command = {"warmup": warmup, "steps": steps, "probe": probe, "product": product}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.reply()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()
