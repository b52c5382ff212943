"""Compare the generation loop with other clients and with the limit: one server, one machine, one command.

    python benchmarks/generation_loop.py

A server in a separate process answers after 50 ms. Each client is a whole process (see
`generation_clients.py`) in an environment where it is installed on first use, and requests
`--requests` completions with `--concurrency` in flight. Slow clients request fewer, as the table
shows. Rounds take the clients in turn and the best of each counts, because other work on the
machine only ever costs time. `bare` is an aiohttp loop without retries or journal: the limit.

With `--long N`, our clients finally request N completions, to show that memory does not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SERVER = HERE.parent / "tests" / "chaos_server.py"
OURS = ("personahub_stage", "personahub_complete")
PEERS = {
    "openai_sdk": ["openai==3.57.0"],
    "curator": ["bespokelabs-curator==0.1.31"],
    "distilabel": ["distilabel[openai]==1.5.3", "requests"],
}
SLOW = {"openai_sdk": 4, "curator": 4, "distilabel": 10}  # requests are divided by this


@dataclass(frozen=True)
class Run:
    """The figures of one client."""

    requests: int
    seconds: float
    cpu: float
    peak_mb: float


def python_of(client: str, folder: Path) -> str:
    """Return the interpreter of the client's environment, which is made on first use."""
    if client not in PEERS:
        return sys.executable
    home = folder / f"venv-{client}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[client]], check=True)
        (home / "ready").touch()
    return str(python)


def measure(client: str, url: str, requests: int, concurrency: int, folder: Path) -> Run:
    """Run one client to its end. It must have answered every request."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    command = [python_of(client, folder), str(HERE / "generation_clients.py"), client, url, str(requests)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} if client in OURS else None
    with (folder / f"{client}.log").open("w") as log:
        done = subprocess.run(
            [*command, str(concurrency), str(scratch)],
            stdout=subprocess.PIPE, stderr=log, text=True, cwd=HERE.parent, env=environment,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{client} failed, see {folder / f'{client}.log'}")
    figures = json.loads(done.stdout.splitlines()[-1])
    if figures["rows"] != requests:
        raise SystemExit(f"{client} answered {figures['rows']} of {requests}")
    return Run(requests, figures["seconds"], figures["cpu"], figures["peak_mb"])


def row(client: str, runs: list[Run], bare: tuple[float, float]) -> str:
    """Format a line of the table: best rate, its share of the bare loop's, CPU and its ratio, highest peak."""
    rate, cpu = best(runs)
    peak = max(run.peak_mb for run in runs)
    shares = f"{rate / bare[0]:.0%} | {cpu:.2f} | {cpu / bare[1]:.2f} | {peak:,.0f}"
    return f"| {client} | {runs[0].requests:,} | {rate:,.0f} | {shares} |"


def best(runs: list[Run]) -> tuple[float, float]:
    """Return requests per second, and CPU-seconds per 1,000 requests."""
    return max(run.requests / run.seconds for run in runs), min(1000 * run.cpu / run.requests for run in runs)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--latency-ms", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of `bare` and our clients; the others run once")
    parser.add_argument("--long", type=int, default=0, metavar="N", help="run our clients again with N requests")
    parser.add_argument("--clients", nargs="+", default=["bare", *OURS, *PEERS])
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/generation_loop"))
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for client in options.clients:
        python_of(client, folder)
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--latency-ms", str(options.latency_ms)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        runs: dict[str, list[Run]] = {client: [] for client in options.clients}
        for turn in range(options.rounds):
            for client in options.clients:
                if client in PEERS and turn:
                    continue
                requests = options.requests // SLOW.get(client, 1)
                runs[client].append(measure(client, url, requests, options.concurrency, folder))
        bare = best(runs["bare"])
        bound = options.concurrency / options.latency_ms * 1000
        print(
            f"{options.concurrency} in flight, {options.latency_ms:g} ms: at most {bound:,.0f} requests/s; "
            f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n"
        )
        print("| client | requests | requests/s | of bare | CPU-s per 1,000 | of bare | peak MB |")
        print("|---|---|---|---|---|---|---|")
        for client, measured in runs.items():
            print(row(client, measured, bare), flush=True)
        for client in OURS if options.long else ():
            run = measure(client, url, options.long, options.concurrency, folder)
            cpu = 1000 * run.cpu / run.requests
            print(
                f"\n{client}, {run.requests:,} requests: {cpu:.2f} CPU-s per 1,000, {run.peak_mb:,.0f} MB", flush=True
            )
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
