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
        self.options = subprocess.run([bench, "--help"], capture_output=True, text=True, check=False).stdout
        self.command = [bench, "--architecture", shape.architecture, "--latents", str(shape.latents), "--width", str(shape.width),
                        "--k", str(shape.k), "--batch", str(shape.batch), "--threads", str(threads), "--repeats", str(repeats)]
        if shape.architecture in ("jumprelu", "gated", "relu_l1"):
            self.command += ["--l0", f"{shape.firing * shape.latents:g}"]
        if store:
            self.command += ["--store", store]
        self.command += list(extra)
        if re.search(r"--output\b", self.options):
            self.command += ["-o", "json"]

    def missing(self):
        """Why this step_bench cannot run the case, or ''."""
        for word in self.command:
            if word.startswith("--") and not re.search(re.escape(word) + r"\b", self.options):
                return f"step_bench has no {word}"
        return ""

    def run(self):
        text, peak = run_measured(self.command)
        if text.lstrip().startswith("{"):
            values = json.loads(text)
            return {"tokens_per_second": values["tokens_per_second"], "peak_mib": values.get("peak_mib", peak),
                    "l0": values.get("l0"), "report": values}
        rate = re.search(r"([\d.]+) tokens/s", text)
        l0 = re.search(r"\bL0 ([\d.]+)", text)
        return {"tokens_per_second": float(rate.group(1)), "peak_mib": peak, "l0": float(l0.group(1)) if l0 else None,
                "report": text}


class Peer:
    """A worker that stays alive between turns, so that only the first one pays for its start."""

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
