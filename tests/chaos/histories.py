"""Histories with real processes, by name. Each takes a rig, breaks something, and leaves a service in
which every sweep has ended as it should; the checker judges what was left behind."""
import os
import shutil
import signal
import sqlite3
import subprocess
import time

from rig import Failed

HISTORIES = {}


class Skip(Exception):
    pass


def history(function=None, **options):
    def add(f):
        HISTORIES[f.__name__] = (f, options)
        return f
    return add(function) if function else add


def expect(condition, what):
    if not condition:
        raise Failed(what)


def service(rig, *workers, through=None, failpoints=""):
    rig.coordinator()
    for name in workers or ("a",):
        rig.worker(name, failpoints, through=through)


# Row 1: the coordinator dies at each step of making something durable or of telling of it.
def killed_coordinator(point, times):
    def run(rig):
        rig.coordinator(f"{point}=kill@{times}", wait=True)
        if rig.alive("coordinator") and rig.address:
            rig.worker("a")
            rig.submit(tries=1)
        rig.until_killed("coordinator")
        rig.coordinator()
        if "a" not in rig.processes:
            rig.worker("a")
        expect(rig.submit(tries=5) == "ok", "the repeated submit is acknowledged")
        rig.ended()
    return run


for _point in ("store.before_begin", "store.after_begin", "store.before_commit", "store.after_commit",
               "session.before_send", "session.after_send", "rpc.before_answer"):
    for _times in (2, 9):
        _name = f"coordinator_killed_{_point.replace('.', '_')}_{_times}"
        HISTORIES[_name] = (killed_coordinator(_point, _times), {})
for _point in ("store.before_sync", "store.after_sync"):
    for _times in (1, 4):
        _name = f"coordinator_killed_{_point.replace('.', '_')}_{_times}"
        HISTORIES[_name] = (killed_coordinator(_point, _times), {})


@history
def coordinator_killed_under_way(rig):
    service(rig)
    rig.submit()
    rig.under_way()
    rig.kill("coordinator")
    rig.coordinator()
    rig.ended()
    expect(len(rig.lives()) == 4, "no attempt was repeated")  # two starts, two ends


@history(lease="2s")
def coordinator_away_for_longer_than_the_lease(rig):
    service(rig)
    rig.mode("0000", "hang", attempt=1)
    rig.submit()
    rig.under_way()
    rig.kill("coordinator")
    rig.until(lambda: not rig.gangs(), "the gangs fence themselves")
    rig.coordinator()
    rig.ended()


# Row 3: the disk.
@history
def disk_fails_then_recovers(rig):
    rig.coordinator()
    rig.worker("a")
    rig.kill("coordinator")
    rig.coordinator("store.before_begin=error@3;store.before_commit=sleep(200ms)")
    rig.submit(tries=6)
    rig.ended()


@history
def disk_full(rig):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        raise Skip("no mount namespace can be made here, so no small disk")
    small = rig.path("small")
    os.mkdir(small)
    script = f'mount -t tmpfs -o size=600k none {small} && exec "$@"'
    rig.coordinator(data="small/data", prefix=("unshare", "-m", "sh", "-c", script, "sh"))
    rig.worker("a")
    refused = ""
    for i in range(60):
        path = rig.spec(f"s{i}", 40)
        code, _, error = rig.cli("--timeout", "3", "submit", path)
        if code != 0:
            refused = error
            break
    expect("full" in refused or "space" in refused, f"a submit to a full disk is refused: {refused!r}")
    expect(rig.cli("list")[0] == 0, "questions are still answered")
    raise_if_dead(rig, "coordinator")
    rig.lingering = True
    rig.stop()
    rig.judge = lambda: "the disk went with its namespace"


def raise_if_dead(rig, name):
    expect(rig.alive(name), f"{name} lives")


# Row 4: databases that are not to be opened.
def refused_database(change, text):
    def run(rig):
        service(rig)
        rig.submit()
        rig.ended()
        rig.kill("coordinator", signal.SIGTERM)
        rig.until(lambda: not rig.alive("coordinator"), "the coordinator stops")
        database = rig.path("data/coordinator.db")
        shutil.copy(database, rig.path("good.db"))
        change(database)
        rig.coordinator(name="refused", wait=False)
        rig.until(lambda: not rig.alive("refused"), "the coordinator refuses the database")
        with open(rig.path("logs/refused.log")) as f:
            told = f.read()
        expect(rig.processes["refused"].returncode in (1, 5) and text in told, f"it says why: {told}")
        os.replace(rig.path("good.db"), database)
        rig.coordinator()
        rig.ended()
    return run


def newer(database):
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version=999")
    db.close()


def corrupt(database):
    size = os.path.getsize(database)
    with open(database, "r+b") as f:
        for page in range(2, size // 4096):
            f.seek(page * 4096)
            f.write(b"\xff" * 512)


HISTORIES["database_of_a_newer_version"] = (refused_database(newer, "999"), {})
HISTORIES["database_corrupt"] = (refused_database(corrupt, "corrupt"), {})


# Row 5: the worker's daemon dies at each step.
def killed_worker(point, times=1):
    def run(rig):
        rig.coordinator()
        rig.worker("a", f"{point}=kill@{times}")
        rig.submit()
        rig.until_killed("a")
        rig.worker("a")
        rig.ended()
    return run


for _point in ("before_register", "after_register", "before_start", "after_start", "before_record", "before_status",
               "after_status", "before_report", "after_report", "before_lease"):
    HISTORIES[f"worker_killed_{_point}"] = (killed_worker("worker." + _point), {})


@history
def worker_crashes_with_its_gang_alive(rig):
    rig.steps = 60
    service(rig)
    rig.submit(trials=1)
    rig.under_way()
    rig.kill("a")
    expect(rig.gangs(), "the gang lives on")
    rig.worker("a")
    rig.ended()


# Row 6: a worker's host is gone for good.
@history(lease="2s")
def worker_gone_another_takes_over(rig):
    rig.steps = 60
    service(rig, "a", "b")
    rig.submit(trials=1)
    rig.under_way()
    dead = "a" if rig.lives()[0]["worker"].startswith("a") else "b"
    rig.kill(dead)
    for pid in rig.gangs():
        os.kill(pid, signal.SIGKILL)
    rig.ended()
    expect(max(l["attempt"] for l in rig.lives()) >= 2, "another attempt went on")


# Rows 7 and 8: partitions.
def partition(seconds, how, repeated):
    def run(rig):
        rig.steps = 120 if repeated else 60  # longer than it takes to fence itself
        rig.coordinator()
        proxy = rig.proxy()
        rig.worker("a", through=proxy)
        rig.submit(trials=1)
        rig.watch(server=proxy.address)
        rig.under_way()
        how(proxy)
        time.sleep(seconds)  # the fault's length: what the history is about
        if repeated:
            rig.until(lambda: not rig.gangs(), "the gang fences itself")
        proxy.heal()
        rig.ended()
        most = max(l["attempt"] for l in rig.lives())
        expect((most > 1) == repeated, f"attempt {most}: it is to be repeated: {repeated}")
    return run


def _cut(proxy):
    proxy.cut()


def _half_open(proxy):
    proxy.up = proxy.down = False


def _up_only(proxy):
    proxy.down = False


def _down_only(proxy):
    proxy.up = False


HISTORIES["partition_shorter_than_the_lease"] = (partition(0.6, _cut, False), {"lease": "6s"})
HISTORIES["connection_dropped"] = (partition(0.0, lambda p: p.drop_connections(), False), {"lease": "6s"})
HISTORIES["partition_longer_than_the_lease"] = (partition(0.5, _cut, True), {"lease": "2s"})
HISTORIES["half_open_longer_than_the_lease"] = (partition(0.5, _half_open, True), {"lease": "2s"})
HISTORIES["replies_lost_longer_than_the_lease"] = (partition(0.5, _up_only, True), {"lease": "2s"})
HISTORIES["requests_lost_longer_than_the_lease"] = (partition(0.5, _down_only, True), {"lease": "2s"})


@history(lease="6s")
def slow_network(rig):
    rig.coordinator()
    proxy = rig.proxy()
    proxy.delay = 0.15
    rig.worker("a", through=proxy)
    rig.submit(server=proxy.address, tries=5)
    rig.ended()


# Row 10: two coordinators.
@history(lease="8s")
def second_coordinator_beside_a_stopped_one(rig):
    rig.steps = 60
    service(rig)
    rig.submit(trials=1)
    rig.under_way()
    rig.kill("coordinator", signal.SIGSTOP)
    rig.coordinator(name="second", wait=False)
    rig.until(lambda: not rig.alive("second"), "the second coordinator is refused")
    expect(rig.processes["second"].returncode == 5, f"exit code {rig.processes['second'].returncode}")
    rig.kill("coordinator", signal.SIGCONT)
    rig.ended()
    expect(max(l["attempt"] for l in rig.lives()) == 1, "the attempt goes on")


@history(lease="2s")
def coordinator_stopped_for_longer_than_the_lease(rig):
    rig.steps = 60
    service(rig)
    rig.submit(trials=1)
    rig.under_way()
    rig.kill("coordinator", signal.SIGSTOP)
    rig.until(lambda: not rig.gangs(), "the gang fences itself")
    rig.kill("coordinator", signal.SIGCONT)
    rig.ended()


@history(lease="2s")
def worker_stopped_for_longer_than_the_lease(rig):
    rig.steps = 60
    service(rig, "a", "b")
    rig.submit(trials=1)
    rig.under_way()
    stopped = "a" if rig.lives()[0]["worker"].startswith("a") else "b"
    rig.kill(stopped, signal.SIGSTOP)
    rig.until(lambda: any(l["attempt"] == 2 for l in rig.lives()), "the other worker goes on with it")
    rig.kill(stopped, signal.SIGCONT)
    rig.ended()


# Row 11: ranks that go wrong, once; the retry goes well. (That the kernel killed for memory, OOM_HOST, is told by its
# count, which a test of the worker plays.)
def failing_rank(mode, failure):
    def run(rig):
        rig.mode("0000", mode, attempt=1)
        service(rig)
        rig.submit()
        rig.ended()
        text = str(rig.get("demo/0000"))
        expect(failure in text, f"its failure is {failure}: {text[:2000]}")
    return run


HISTORIES["rank_killed"] = (failing_rank("oom", "INTERNAL"), {})
HISTORIES["rank_segfault"] = (failing_rank("segv", "INTERNAL"), {})
HISTORIES["rank_exits_0_early"] = (failing_rank("exit:0", "INTERNAL"), {})
HISTORIES["rank_says_failed"] = (failing_rank("fail", "INTERNAL"), {})
HISTORIES["gpu_falls_off"] = (failing_rank("text:NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus", "GPU_FAULT"),
                              {})


@history
def rank_that_always_fails_uses_up_its_attempts(rig):
    rig.mode("0000", "fail")
    service(rig)
    rig.submit()
    rig.ended("FAILED")
    starts = [l for l in rig.lives() if l["what"] == "start" and l["trial"] == "0000"]
    expect(len(starts) == 3, f"{len(starts)} attempts")


# Row 12: a straggler is slow, not lost.
@history(lease="6s")
def straggler(rig):
    service(rig)
    rig.submit(trials=1)
    rig.under_way()
    for _ in range(3):
        for pid in rig.gangs():
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.3)  # the duty cycle
        for pid in rig.gangs():
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.1)
    rig.ended()
    expect(max(l["attempt"] for l in rig.lives()) == 1, "it is not repeated")


# Row 14: a real trainer dies in a save.
@history(steps=0)
def trainer_killed_in_a_save(rig):
    trainer, mpirun = rig.program("saeloom-trainer"), shutil.which("mpirun")
    made = subprocess.run([rig.program("saeloom-offline"), "store", "create", "--synthetic",
                           "d=16,features=32,rows=4000,seed=0", "--out", rig.path("real")], capture_output=True, text=True,
                          ) if mpirun and os.path.exists(rig.program("saeloom-offline")) else None
    if made is None or not os.path.exists(trainer):
        raise Skip("no mpirun, saeloom-trainer or saeloom-offline here")
    expect(made.returncode == 0, made.stdout + made.stderr)
    rig.coordinator()
    # Each attempt saves once, at its end, and the first one dies in that.
    rig.worker("a", "checkpoint.before_rename=kill", real=True)
    expect(rig.submit(trials=1, store=rig.path("real"), trial={
        "ranks": 1, "sae": {"architecture": "topk", "latents": 64, "k": 4},
        "train": {"tokens": 6400, "batch": 64, "log_every_steps": 1}}) == "ok", "the sweep is taken")
    rig.until(lambda: "failed" in str(rig.get("demo/0000")), "the first attempt fails")
    rig.kill("a")
    rig.worker("a", real=True)
    rig.ended()
    names = os.listdir(rig.path("runs/demo/0000/checkpoints"))
    expect([n for n in names if n.startswith("step-")], f"a whole checkpoint is there: {names}")


# Row 15: a stop that comes while something else is going on.
def cancelled(failpoint):
    def run(rig):
        rig.coordinator()
        rig.worker("a", failpoint)
        rig.submit()
        rig.until(lambda: rig.state() != "", "the sweep is there")
        code, _, error = rig.cli("cancel", "demo")
        expect(code == 0, error)
        rig.record(kind="cancel", sweep="demo", outcome="ok")
        rig.ended("CANCELLED", "SUCCEEDED")
    return run


HISTORIES["cancel_during_start"] = (cancelled("worker.before_start=sleep(700ms)"), {})
HISTORIES["cancel_during_report"] = (cancelled("worker.before_report=sleep(300ms)"), {})
HISTORIES["cancel_during_end"] = (cancelled("worker.before_status=sleep(700ms)"), {"steps": 3})


# Row 16: a report that comes when its attempt has been given up.
@history(lease="2s")
def late_report(rig):
    rig.steps = 60
    rig.coordinator()
    proxy = rig.proxy()
    rig.worker("a", "worker.before_report=sleep(2500ms)@3", through=proxy)
    rig.worker("b")
    rig.submit(trials=2)
    rig.under_way()
    proxy.cut()
    time.sleep(0.5)  # the fault's length
    rig.until(lambda: any(l["attempt"] == 2 for l in rig.lives()) or rig.state() == "SUCCEEDED", "it goes on elsewhere")
    proxy.heal()
    rig.ended()


# Row 17: a reply is lost, the request is repeated.
@history
def submit_whose_reply_is_lost(rig):
    service(rig)
    proxy = rig.proxy()
    proxy.down = False
    first = rig.submit(server=proxy.address)
    expect(first == "unknown", f"no reply can have come: {first}")
    proxy.heal()
    expect(rig.submit(server=proxy.address) == "ok", "the same request again is acknowledged")
    rig.ended()


@history
def submit_repeated_by_ten_at_once(rig):
    service(rig)
    path = rig.spec("demo", 2)
    argv = [rig.program("saeloom"), "--server", rig.address, "submit", path, "--request-id", "once"]
    calls = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(10)]
    rig.processes.update({f"call{i}": call for i, call in enumerate(calls)})
    for call in calls:
        _, error = call.communicate(timeout=60)
        expect(call.returncode == 0, error.decode())
        rig.record(kind="submit", sweep="demo", request_id="once", points=2, outcome="ok")
    rig.ended()


# Row 18: readers that never read.
@history
def stuck_readers(rig):
    rig.steps = 40
    service(rig)
    rig.submit()
    readers = []
    for i in range(8):
        readers.append(rig.spawn(f"reader{i}", [rig.program("saeloom"), "--server", rig.address, "-o", "json", "watch",
                                                "demo"]))
    rig.under_way()
    for reader in readers:
        reader.send_signal(signal.SIGSTOP)
    for i in range(5):
        begin = time.monotonic()
        expect(rig.submit(f"more{i}", request=f"more{i}", trials=1) == "ok", "a submit is acknowledged")
        expect(time.monotonic() - begin < 10, "in time")
    rig.ended()
    for i in range(5):
        rig.ended(name=f"more{i}")
    for reader in readers:
        reader.kill()


@history
def watchers_cut_off_again_and_again(rig):
    rig.steps = 80
    service(rig)
    rig.submit()
    proxy, slow = rig.proxy(), rig.proxy()
    slow.delay = 0.05
    for server in (proxy.address, proxy.address, slow.address):
        rig.watch(server=server)
    rig.under_way()
    for i in range(6):
        seen = rig.watched()
        rig.until(lambda: rig.watched() > seen or not rig.gangs(), "a watcher sees more")
        proxy.drop_connections()
        slow.drop_connections()
        if i == 3:
            rig.kill("coordinator")
            rig.coordinator()
    rig.ended()


# Row 22: many points, many requests.
@history
def submit_storm(rig):
    rig.coordinator()
    expect(rig.submit("big", trials=2000, request="big", timeout=60) == "ok", "2,000 points are taken")
    calls = []
    for i in range(30):
        path = rig.spec(f"s{i}", 3)
        calls.append((i, subprocess.Popen([rig.program("saeloom"), "--server", rig.address, "submit", path, "--request-id",
                                           f"r{i}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)))
    rig.processes.update({f"call{i}": call for i, call in calls})
    for i, call in calls:
        _, error = call.communicate(timeout=60)
        expect(call.returncode == 0, error.decode())
        rig.record(kind="submit", sweep=f"s{i}", request_id=f"r{i}", points=3, outcome="ok")
    rig.lingering = True
    rig.kill("coordinator")
    rig.coordinator()
    expect(rig.state("big") == "RUNNING" and rig.state("s29") == "RUNNING", "all are there after a kill")


# Row 23: specs that are refused, with the field's path.
def bad_spec(change, field):
    def run(rig):
        service(rig)
        spec = {}
        change(spec)
        name = spec.pop("name", "demo")
        path = rig.spec(name, 2, **spec)
        code, _, error = rig.cli("submit", path)
        expect(code == 2 and field in error, f"refused with {field}: exit {code}: {error}")
        rig.submit("good", request="good")
        rig.ended(name="good")
        expect(not os.path.exists(rig.path("evil")), "nothing was written outside")
    return run


HISTORIES["spec_with_a_path_in_its_name"] = (bad_spec(lambda s: s.update(name="../evil"), "name"), {})
HISTORIES["spec_with_too_many_points"] = (
    bad_spec(lambda s: s.update(parameters={p: {"intUniform": {"min": 1, "max": 1000}}
                                            for p in ("train.batch", "train.seed", "train.data_seed")}), "parameters"), {})
HISTORIES["spec_with_a_bound_that_is_no_number"] = (
    bad_spec(lambda s: s.update(parameters={"train.lr": {"uniform": {"min": "nan", "max": 1}}}), "parameters"), {})


# Row 24: metrics that are no numbers.
@history
def metrics_that_are_no_numbers(rig):
    rig.mode("0000", "nan")
    service(rig)
    rig.submit()
    rig.ended()
    rig.kill("coordinator")
    rig.coordinator()
    rig.ended()


# Row 25: the machine of a worker reboots.
@history
def node_reboots(rig):
    rig.steps = 60
    rig.coordinator()
    rig.worker("a", SAELOOM_BOOT_ID="boot-1")
    rig.submit(trials=1)
    rig.under_way()
    rig.kill("a")
    for pid in rig.gangs():
        os.kill(pid, signal.SIGKILL)
    rig.worker("a", SAELOOM_BOOT_ID="boot-2")
    rig.ended()
    expect(max(l["attempt"] for l in rig.lives()) == 2, "a second attempt went on")
