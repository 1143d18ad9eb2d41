"""A whole service as processes, for histories in which parts of it are killed, stopped or cut off.

Everything lives in a folder of its own and listens on free loopback ports; every process is in the
rig's own session and is gone when the rig is closed. Waiting is polling with a deadline that only a
hang reaches. At the end `judge` runs the simulator's checker over what was left behind.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

HANG = float(os.environ.get("CHAOS_HANG", "60"))
POLL = 0.03
PLAYERS = (b"chaos_gang", b"mpirun", b"saeloom-trainer")  # of gangs


class Failed(Exception):
    pass


class Proxy:
    """A TCP proxy whose link can be cut, made one-way, slowed down, or robbed of its replies."""

    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.pairs = []
        self.refuse = False
        self.up = self.down = True      # whether bytes pass; what comes while they do not is lost with the connection
        self.delay = 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            try:
                host, port = self.target.rsplit(":", 1)
                server = socket.create_connection((host, int(port)), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.pairs.append((client, server))
            for source, sink, name in ((client, server, "up"), (server, client, "down")):
                threading.Thread(target=self._pump, args=(source, sink, name), daemon=True).start()

    def _pump(self, source, sink, name):
        lost = False  # nothing may follow what was lost: TCP has no holes
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if self.delay:
                    time.sleep(self.delay)
                lost = lost or not getattr(self, name)
                if not lost:
                    sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def drop_connections(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def cut(self):
        self.refuse = True
        self.drop_connections()

    def heal(self):
        self.refuse = False
        self.up = self.down = True
        self.delay = 0.0
        self.drop_connections()

    def close(self):
        self.listener.close()
        self.cut()


class Rig:
    def __init__(self, binaries, lease="15s", heartbeat="200ms", steps=20):
        self.binaries = binaries
        self.lease, self.heartbeat, self.steps = lease, heartbeat, steps
        self.folder = tempfile.mkdtemp(prefix="chaos-")
        for name in ("data", "runs", "truth", "store", "logs"):
            os.mkdir(self.path(name))
        with open(self.path("store/manifest.json"), "w") as f:
            f.write('{"d": 32}')
        open(self.path("operations"), "w").close()
        self.processes, self.proxies = {}, []
        self.watchers = {}  # by sweep: names of processes
        self.address = None
        self.lingering = False
        self.slots = 2

    def path(self, name):
        return os.path.join(self.folder, name)

    def program(self, name):
        return os.path.join(self.binaries, name)

    # Processes.
    def spawn(self, name, argv, failpoints="", **environment):
        env = dict(os.environ, CHAOS_TRUTH=self.path("truth"), CHAOS_STEPS=str(self.steps),
                   CHAOS_MARK=self.folder, SAELOOM_FAILPOINTS=failpoints, **environment)
        log = open(self.path("logs/" + name + ".log"), "a")
        self.processes[name] = subprocess.Popen(argv, stdout=log, stderr=log, env=env,
                                                stdin=subprocess.DEVNULL, start_new_session=True)
        return self.processes[name]

    def coordinator(self, failpoints="", name="coordinator", data="data", wait=True, prefix=()):
        ports = self.path(name + ".json")
        if os.path.exists(ports):
            os.remove(ports)
        listen = self.address if self.address and name == "coordinator" else "127.0.0.1:0"
        self.spawn(name, [*prefix, self.program("saeloom-coordinator"), "--data", self.path(data), "--listen", listen,
                          "--port-file", ports, "--lease", self.lease, "--heartbeat", self.heartbeat,
                          "--retry-delay", "100ms"], failpoints)
        if wait:
            self.until(lambda: os.path.exists(ports) or not self.alive(name), "the coordinator listens")
        if os.path.exists(ports):
            with open(ports) as f:
                self.address = json.load(f)["listen"]

    def worker(self, name, failpoints="", through=None, real=False, **environment):
        players = [] if real else ["--mpirun", self.program("chaos_gang"), "--trainer", self.program("chaos_gang")]
        self.spawn(name, [self.program("saeloom-worker"), "--coordinator", through.address if through else self.address,
                          "--runs", self.path("runs"), "--name", name, "--slots", str(self.slots), "--device", "cpu",
                          *players, "--grace", "5", "--stop-grace", "5"], failpoints, **environment)

    def proxy(self):
        proxy = Proxy(self.address)
        self.proxies.append(proxy)
        return proxy

    def alive(self, name):
        return self.processes[name].poll() is None

    def kill(self, name, sig=signal.SIGKILL):
        self.processes[name].send_signal(sig)
        if sig == signal.SIGKILL:
            self.processes[name].wait(HANG)

    def until_killed(self, name):
        self.until(lambda: not self.alive(name), name + " is killed by its failpoint")
        code = self.processes[name].returncode
        if code != -signal.SIGKILL:
            raise Failed(f"{name} ended with {code}, its failpoint should have killed it")

    def gangs(self, trial=None):
        """Pids of players that live now."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    mine = f"CHAOS_MARK={self.folder}".encode() in f.read().split(b"\0")
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    command = f.read()
            except OSError:
                continue
            player = os.path.basename(command.split(b"\0")[0]) in PLAYERS
            if mine and player and (trial is None or f"/{trial}/".encode() in command):
                found.append(int(pid))
        return found

    # People.
    def watch(self, sweep="demo", server=None):
        """Writes down every event of the sweep until it has ended, through whatever connections it takes. With
        `server` it has begun when this returns."""
        names = self.watchers.setdefault(sweep, [])
        name = f"watch-{len(names)}-{sweep}"
        names.append(name)
        self._watch(name, sweep, server or self.address)
        if server:
            self.until(lambda: self._seen(name) or not self.alive(name), name + " sees the first event")

    def _watch(self, name, sweep, server):
        argv = [self.program("saeloom"), "--server", server, "events", sweep, "--follow", "-o", "jsonl"]
        with open(self.path("truth/" + name), "w") as out, open(self.path("logs/" + name + ".log"), "w") as errors:
            self.processes[name] = subprocess.Popen(argv, stdout=out, stderr=errors, stdin=subprocess.DEVNULL,
                                                    env=dict(os.environ, SAELOOM_FAILPOINTS=""), start_new_session=True)

    def _seen(self, name):
        return os.path.getsize(self.path("truth/" + name))

    def watched(self):
        """Bytes that watchers have written down."""
        return sum(self._seen(n) for names in self.watchers.values() for n in names)

    def _end_watches(self, sweep):
        for name in self.watchers.get(sweep, []):
            self.until(lambda: not self.alive(name), name + " has seen the end")
            if self.processes[name].returncode != 0 and not self._seen(name):
                self._watch(name, sweep, self.address)  # nobody was there when it came
                self.until(lambda: not self.alive(name), name + " has seen the end")
            if self.processes[name].returncode != 0:
                raise Failed(f"{name} ends with {self.processes[name].returncode}")

    def cli(self, *arguments, server=None, timeout=20, text=None):
        argv = [self.program("saeloom"), "--server", server or self.address, *arguments]
        try:
            run = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return 124, "", "timed out"
        return run.returncode, run.stdout, run.stderr

    def record(self, **operation):
        with open(self.path("operations"), "a") as f:
            f.write(json.dumps(operation) + "\n")

    def spec(self, name, trials, ranks=1, **more):
        spec = {"apiVersion": "saeloom/v1", "name": name, "store": self.path("store"),
                "trial": {"ranks": ranks, "sae": {"architecture": "topk", "latents": 64, "k": 4},
                          "train": {"tokens": 1e5, "batch": 100}},
                "parameters": {"train.seed": {"values": list(range(trials))}},
                "objective": {"metric": "heldout.fvu", "goal": "minimize"}, "search": {"grid": {}}, "pack": "off"}
        spec.update(more)
        path = self.path(name.replace("/", "_") + ".yaml")
        with open(path, "w") as f:
            json.dump(spec, f)  # JSON is YAML
        return path

    def submit(self, name="demo", trials=2, request="once", server=None, tries=1, timeout=20, **more):
        """The same request until it is answered or `tries` are over; its outcome."""
        path = self.spec(name, trials, **more)
        outcome, code = "unknown", 0
        for _ in range(tries):
            code, _, error = self.cli("--timeout", "3", "submit", path, "--request-id", request, server=server,
                                      timeout=timeout)
            outcome = "ok" if code == 0 else "unknown" if code in (1, 6, 124) else "refused"
            if outcome != "unknown":
                break
        self.record(kind="submit", sweep=name, request_id=request, points=trials, outcome=outcome)
        if outcome == "ok" and name == "demo" and name not in self.watchers:
            self.watch(name)
        return outcome

    def mode(self, trial, mode, attempt=None):
        name = f"mode-{trial}" + (f"-{attempt}" if attempt else "")
        with open(self.path("truth/" + name), "w") as f:
            f.write(mode)

    def get(self, name="demo"):
        code, out, _ = self.cli("--timeout", "3", "-o", "json", "get", name)
        return json.loads(out) if code == 0 else {}

    def state(self, name="demo"):
        code, out, _ = self.cli("--timeout", "3", "-o", "json", "list")
        sweeps = json.loads(out) if code == 0 else []
        found = [s["state"] for s in sweeps if s["name"].split("/")[-1] == name]
        return found[0].replace("STATE_", "") if found else ""

    # Waiting and judging.
    def until(self, condition, what, seconds=HANG, poll=POLL):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise Failed("never: " + what)
            time.sleep(poll)

    def lives(self):
        try:
            with open(self.path("truth/lives")) as f:
                return [json.loads(line) for line in f]
        except FileNotFoundError:
            return []

    def under_way(self, starts=1):
        self.until(lambda: len(self.lives()) >= starts and self.gangs(), "a gang trains")

    def ended(self, *states, name="demo"):
        wanted = states or ("SUCCEEDED",)
        self.until(lambda: self.state(name) in ("SUCCEEDED", "FAILED", "CANCELLED"), f"{name} ends",
                   poll=0.1)  # each look starts a program
        if self.state(name) not in wanted:
            raise Failed(f"{name} is {self.state(name)}, expected {' or '.join(wanted)}: {json.dumps(self.get(name))[:3000]}")
        self._end_watches(name)

    def stop(self):
        """The service ends in good order; nothing of it may be left."""
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            try:
                process.wait(HANG)
            except subprocess.TimeoutExpired:
                raise Failed(f"{name} does not end")
        self.until(lambda: not self.gangs(), "all gangs are gone")

    def judge(self):
        self.stop()
        run = subprocess.run([self.program("chaos_judge"), self.path("data/coordinator.db"), self.path("runs"),
                              self.path("truth"), self.path("operations"), str(self.slots)] +
                             ([] if self.lingering else ["settled"]), capture_output=True, text=True, timeout=HANG)
        if run.returncode != 0:
            raise Failed("the checker finds:\n" + run.stdout + run.stderr)
        return run.stdout.strip()

    def logs(self):
        out = []
        for name in sorted(os.listdir(self.path("logs"))):
            with open(self.path("logs/" + name)) as f:
                out += [f"--- {name}"] + f.read().splitlines()[-25:]
        return "\n".join(out)

    def close(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in self.gangs():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for proxy in self.proxies:
            proxy.close()
        shutil.rmtree(self.folder, ignore_errors=True)
