#!/usr/bin/env python3
"""What one tenant feels of another, and what sleeping jobs cost, on a server and a worker of its own.

`tenants`: how long a small job of rules takes from its submission to its end,
alone and beside rule sets that loop, eat memory, flood facts and set themselves off; each of those is to be paused. `sleepers`: how much memory jobs of rules
take that wait for a time, and how late they wake. `clips`: how soon tasks of clips start, for which somebody waits, beside titles that take all the worker
has: in a pool that is promised nothing, one that is guaranteed a core, one that also lends it to nobody, and one that keeps executors warm as well.

    benches/fleet.py --spool ~/.cache/spool-target/release/spool tenants
    benches/fleet.py --spool ~/.cache/spool-target/release/spool sleepers --jobs 20000
    benches/fleet.py --spool ~/.cache/spool-target/release/spool clips --film film.mp4
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import tempfile
import threading
import time

CHAIN = """
service(name = "chain", version = "1", input = {"n": integer()})

def link(at):
    return [call("bench.noop", key = "link %d" % at, args = {"sleep_us": 0, "through_executor": False})]

rule(name = "begin", match = [fact("input")], action = lambda: [assert_("link", at = 0)])

rule(
    name = "on",
    match = [fact("input", as_ = "i"), fact("link", as_ = "l")],
    action = lambda i, l: link(l.at),
    reaction = lambda i, l, results: [result({}) if l.at + 1 == i.n else assert_("link", at = l.at + 1)],
)
"""

# Name, what it does, and what it may be paused for.
HOSTILE = {
    "endless": ("assert_('x', n = spin())", ["section_too_slow"]),
    "bomb": ("assert_('x', n = grow())", ["section_too_large"]),
    "flood": ("assert_('x', n = n) for n in range(1000000)", ["too_many_facts", "section_too_slow", "section_too_large"]),
    "itself": ("assert_('input', n = 1)", ["too_deep", "too_many_firings"]),
}

HOSTILE_RULES = """
service(name = "{name}", version = "1")

def spin():
    n = 0
    for a in range(1000000):
        for b in range(1000000):
            n += 1
    return n

def grow():
    all = []
    for n in range(1000000):
        all.append("x" * 1000000 + str(n))
    return len(all)

rule(name = "go", match = [fact("input")], action = lambda: [{effects}])
"""


# Each is told when to wake; the seconds it is late by are its result.
NAP = """
service(name = "nap", version = "1", input = {"at": number()})

rule(
    name = "sleep",
    match = [fact("input", as_ = "i")],
    action = lambda i: [timer(after = max(0, i.at - now()))],
    reaction = lambda i: [result(now() - i.at)],
)
"""

# Wakes them one after the other over `over` seconds.
DORMITORY = """
service(name = "dormitory", version = "1", input = {"n": integer(), "first": number(), "over": number()})

def beds(i):
    return [start("nap", key = "nap %d" % n, input = {"at": i.first + i.over * n / i.n}) for n in range(i.n)]

rule(
    name = "sleep",
    match = [fact("input", as_ = "i")],
    action = beds,
    reaction = lambda results: [result(results)],
)
"""


class Fleet:
    """A server and a worker."""

    def __init__(self, spool, folder, slots):
        self.spool, self.folder, self.slots = spool, folder, slots
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.running = []

    def serve(self):
        self.start("server", "--data", self.folder / "server", "--listen", self.address)
        self.until(lambda: self.call("job", "list").returncode == 0)

    def restart_server(self):
        server = self.running.pop(0)
        server.kill()
        server.wait()
        self.serve()
        self.running.insert(0, self.running.pop())

    def __enter__(self):
        self.serve()
        url = f"http://{self.address}"
        self.start("worker", "--server", url, "--name", "w1", "--data", self.folder / "w1", "--slots", self.slots)
        self.until(lambda: b"w1" in self.call("worker", "list").stdout)
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
            process.wait()

    def start(self, *args):
        log = open(self.folder / f"{args[0]}.log", "wb")
        self.running.append(subprocess.Popen([self.spool, *map(str, args)], stdout=log, stderr=log))

    @staticmethod
    def until(condition):
        for _ in range(600):
            if condition():
                return
            time.sleep(0.05)
        raise SystemExit("waited for half a minute in vain")

    def call(self, *args, stdin=None):
        command = [self.spool, *map(str, args), "--server", f"http://{self.address}"]
        return subprocess.run(command, capture_output=True, input=stdin, timeout=600)

    def push(self, name, text):
        (self.folder / name).mkdir()
        (self.folder / name / "main.star").write_text(text)
        pushed = self.call("service", "push", self.folder / name)
        assert pushed.returncode == 0, pushed.stderr.decode()

    def told(self, *args):
        done = self.call(*args)
        if done.returncode != 0:
            raise SystemExit(f"{args}: {done.stderr.decode(errors='replace')[-2000:]}")
        return json.loads(done.stdout)


def percentile(numbers, part):
    return sorted(numbers)[min(len(numbers) - 1, int(len(numbers) * part))]


def row(name, numbers, more=""):
    figures = f"{statistics.median(numbers):8.1f} {percentile(numbers, 0.99):8.1f} {max(numbers):8.1f}"
    print(f"{name:28} {len(numbers):6} {figures}  {more}", flush=True)


def job_times(fleet, count):
    times = []
    for _ in range(count):
        view = fleet.told("submit", "--service", "chain", "--input", '{"n": 20}', "--request-id", f"{time.time_ns()}", "--json")
        times.append((view["finished"] - view["submitted"]) / 1000)
    return times


def tenants(args):
    with tempfile.TemporaryDirectory() as folder, Fleet(args.spool, pathlib.Path(folder), args.slots) as fleet:
        fleet.push("chain", CHAIN)
        for name, (effects, _) in HOSTILE.items():
            fleet.push(name, HOSTILE_RULES.format(name=name, effects=effects))
        job_times(fleet, 5)
        print(f"{'a job of 20 calls':28} {'jobs':>6} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
        row("alone", job_times(fleet, args.jobs))
        stop = threading.Event()

        def attack(name):
            while not stop.is_set():
                fleet.call("submit", "--service", name, "--detach", "--request-id", f"{name}-{time.time_ns()}")
                stop.wait(args.every)

        threads = [threading.Thread(target=attack, args=(name,)) for name in HOSTILE]
        for thread in threads:
            thread.start()
        time.sleep(2)
        row("beside hostile rules", job_times(fleet, args.jobs))
        stop.set()
        for thread in threads:
            thread.join()
        for name, (_, codes) in HOSTILE.items():
            jobs = [job["job"] for job in fleet.told("job", "list", "-o", "json", "--limit", "1000") if job["service"] == name]

            def said(job):
                return fleet.call("job", "explain", job).stdout.decode().strip().splitlines()[0]

            with contextlib.suppress(SystemExit):
                fleet.until(lambda: all("paused" in said(job) for job in jobs))
            paused = [line for line in map(said, jobs) if any(code in line for code in codes)]
            print(f"  {name:10} {len(paused)} of {len(jobs)} jobs are paused: {(paused or [said(jobs[0])])[0][:160]}")


def resident(process):
    """KiB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("VmRSS")))


def until_calm(process):
    """Seconds of processor time that it has used when it uses no more."""
    used, before = 0.0, None
    while used != before:
        time.sleep(1)
        fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        used, before = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), used
    return used


def sleepers(args):
    with tempfile.TemporaryDirectory() as folder, Fleet(args.spool, pathlib.Path(folder), args.slots) as fleet:
        fleet.push("nap", NAP)
        fleet.push("dormitory", DORMITORY)
        server = fleet.running[0]
        fleet.told("submit", "--service", "dormitory", "--input", json.dumps({"n": 100, "first": 0, "over": 1}))
        before = resident(server)
        first = time.time() + (3600 if args.restart else args.settle)
        beds = args.jobs // args.parents

        def fill(number):
            asked = json.dumps({"n": beds, "first": first + args.over * number / args.parents, "over": args.over / args.parents})
            submitted = fleet.call("submit", "--service", "dormitory", "--input", asked, "--detach")
            assert submitted.returncode == 0, submitted.stderr.decode()
            return submitted.stdout.decode().split()[0]

        jobs = [fill(number) for number in range(args.parents)]
        if args.restart:
            until_calm(server)
        else:
            time.sleep(max(0, first - time.time() - 1))
        asleep = resident(server)
        each = (asleep - before) * 1024 / (beds * args.parents)
        print(f"{beds * args.parents} jobs asleep: {asleep - before} KiB resident, {each:.0f} bytes a job")
        if args.restart:
            fleet.restart_server()
            used = until_calm(fleet.running[0])
            print(f"restarted: {used:.2f} s of processor time until nothing was to be done, {resident(fleet.running[0])} KiB resident")
            return
        late = []
        for job in jobs:
            fleet.until(lambda: fleet.told("job", "get", job, "-o", "json")["state"] == "done")
            late += [seconds * 1000 for seconds in fleet.told("job", "get", job, "-o", "json")["output"]]
        print(f"{'':28} {'jobs':>6} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
        row("late by", late)


TITLE = """
apiVersion: spool/v1
kind: Job
spec:
  input: {film}
  output: {output}
  video:
    - {{name: 720p, codec: libx264, height: 720, crf: 22, preset: medium}}
    - {{name: 360p, codec: libx264, height: 360, crf: 24, preset: medium}}
  packages: [hls, dash]
  chunking: {{segment: 4s, gop: 2s, target: 4s}}
  pool: titles
"""

POOLS = """
apiVersion: spool/v1
kind: PoolTree
spec:
  pools:
  - name: titles
  - name: clips
"""

# What the clips' pool is promised.
PROMISES = {
    "nothing": "",
    "a core": "    guarantee: {cpu: 1}\n    grace: 1s\n",
    "a core, not lent": "    guarantee: {cpu: 1}\n    lend: {cpu: 0}\n    grace: 1s\n",
    "and warm": "    guarantee: {cpu: 1}\n    lend: {cpu: 0}\n    grace: 1s\n    warm: {media.encode/cpu/libx264: {min: 1}}\n",
}


def waits(job):
    """Milliseconds from what a task waited for, the end of the one before it or the submission, to its start. Those of its parts are the job's, too."""
    tasks = sorted(job["tasks"], key=lambda task: task["started"])
    found, ends = [], [job["submitted"]]
    for task in tasks:
        found.append((task["started"] - max(end for end in ends if end <= task["started"])) / 1000)
        ends.append(task["finished"])
    return found


def clips(args):
    film = pathlib.Path(args.film).resolve()
    print(f"{'a clip, promised':28} {'clips':>6} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}")
    for name, promise in PROMISES.items():
        if args.only and name not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder, Fleet(args.spool, place := pathlib.Path(folder), args.slots) as fleet:
            applied = fleet.call("pool", "apply", "-f", "-", stdin=(POOLS + promise).encode())
            assert applied.returncode == 0, applied.stderr.decode()
            for title in range(args.titles):
                text = TITLE.format(film=film, output=place / f"title{title}")
                (place / "job.yaml").write_text(text)
                submitted = fleet.call("submit", place / "job.yaml", "--detach")
                assert submitted.returncode == 0, submitted.stderr.decode()

            def busy():
                return fleet.told("queue", "stats", "-o", "json")["leased_tasks"] > 0

            fleet.until(busy)
            time.sleep(args.settle)
            whole, started = [], []
            for clip in range(args.clips):
                asked = {"source": str(film), "output": str(place / f"clip{clip}.mp4"), "start": clip % 8, "duration": 2, "height": 180, "pool": "clips"}
                job = fleet.told("submit", "--service", "clip", "--pool", "clips", "--input", json.dumps(asked), "--json")
                if not busy():
                    raise SystemExit("the titles are done: give more of them")
                whole.append((job["finished"] - job["submitted"]) / 1000)
                started += waits(job)
                time.sleep(args.pause)
            row(name, whole)
            row("  a task of it waits", started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spool", default="spool")
    parser.add_argument("--slots", type=int, default=2, help="of the worker [2]")
    kinds = parser.add_subparsers(required=True)
    other = kinds.add_parser("tenants")
    other.add_argument("--jobs", type=int, default=100)
    other.add_argument("--every", type=float, default=1.0, help="seconds from one hostile job of a kind to the next [1]")
    other.set_defaults(run=tenants)
    third = kinds.add_parser("sleepers")
    third.add_argument("--jobs", type=int, default=20000)
    third.add_argument("--parents", type=int, default=1, help="jobs that start the sleeping ones, as many each [1]")
    third.add_argument("--settle", type=float, default=60, help="seconds until the first wakes [60]")
    third.add_argument("--restart", action="store_true", help="kill the server while they sleep, and see what its start costs")
    third.add_argument("--over", type=float, default=20, help="seconds from the first to the last [20]")
    third.set_defaults(run=sleepers)
    fourth = kinds.add_parser("clips")
    fourth.add_argument("--film", required=True, help="of some ten seconds or more")
    fourth.add_argument("--clips", type=int, default=8)
    fourth.add_argument("--titles", type=int, default=40, help="that are submitted before [40]")
    fourth.add_argument("--settle", type=float, default=10, help="seconds of titles before the first clip [10]")
    fourth.add_argument("--pause", type=float, default=2, help="seconds between clips [2]")
    fourth.add_argument("--only", action="append", choices=list(PROMISES), help="of what is promised; may be repeated [all]")
    fourth.set_defaults(run=clips)
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        args.run(args)


if __name__ == "__main__":
    main()
