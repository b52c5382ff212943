"""Measure programs per CPU-second in the sandbox, and where the CPU time goes.

    python -m benchmarks.sandbox                # as the current user; root also measures as an ordinary user

Each kind of program runs many times with one worker. CPU seconds include all processes that take part (the
server, its programs and this process), by the kernel's accounting. The start of the server, which imports sympy
once, has a separate line.

* `empty`: the cost of a fork with its namespaces, limits and filter.
* `arithmetic`: loops and fractions, as in PoT programs for word problems.
* `sympy`: equations, derivatives, simplification, number theory. Most of a program's time is sympy's own;
  `sympy, fresh interpreter` runs the same programs in fresh interpreters, without the fork-server and the sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sandbox_tools import as_ordinary_user
from synth.sandbox.programs import Sandbox

ARITHMETIC = (
    "total = 0\nfor day in range(1, 31):\n    total += 12 * day - 7\nprint(total)",
    "from fractions import Fraction\nprint(Fraction(3, 8) * 240 + Fraction(5, 6) * 36)",
    "price, count, paid = 45, 17, 1000\nprint(paid - price * count)",
    "import math\nprint(math.comb(20, 6) - math.comb(12, 6))",
    "print(sum(n for n in range(1, 2000) if n % 3 == 0 or n % 5 == 0))",
)
SYMPY = (
    "from sympy import *\nx = symbols('x')\nprint(solve(x**2 - 7*x + 10, x))",
    "from sympy import *\nx, y = symbols('x y')\nprint(solve([2*x + 3*y - 12, x - y - 1], [x, y]))",
    "import sympy as sp\nx = sp.symbols('x')\nprint(sp.diff(x**3 * sp.sin(x), x).subs(x, 0))",
    "from sympy import *\nprint(simplify(sqrt(48) + sqrt(27)), factorint(360360))",
    "import sympy\nprint(sympy.Rational(7, 12) + sympy.Rational(5, 18), sympy.totient(840))",
    "from sympy import *\nx = symbols('x')\nprint(integrate(x**2 + 3*x, (x, 0, 4)), expand((x + 2)**5).coeff(x, 3))",
)
KINDS: dict[str, tuple[Sequence[str], int]] = {
    "empty": (("",), 400),
    "arithmetic": (ARITHMETIC, 400),
    "sympy": (SYMPY, 120),
}


def cpu_seconds() -> float:
    """Return user and system time of this process, of all processes below it, and of those they waited for."""
    times: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # the process has just ended
            continue
        process = int(file.parent.name)
        children.setdefault(int(fields[1]), []).append(process)
        times[process] = sum(map(int, fields[11:15]))  # proc(5): utime, stime, cutime, cstime
    below, total = [os.getpid()], 0
    while below:
        process = below.pop()
        total += times[process]
        below += children.get(process, [])
    return total / os.sysconf("SC_CLK_TCK")


def measure(programs: Sequence[str]) -> tuple[float, float]:
    """Return the CPU seconds to start a sandbox, and those that the programs take in it.

    Raises:
        RuntimeError: a program failed.
    """
    before = cpu_seconds()
    with Sandbox() as box:
        started = cpu_seconds()
        for program, result in zip(programs, box.run(programs), strict=True):
            if result.status != "ok":
                raise RuntimeError(f"{result.status} {result.detail}: {program}")
        return started - before, cpu_seconds() - started


def measure_fresh(programs: Sequence[str]) -> float:
    """Return the CPU seconds of the same harmless programs, each in a new interpreter."""
    before = cpu_seconds()
    for program in programs:
        subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return cpu_seconds() - before


def report(count_of_all: int | None) -> list[dict[str, object]]:
    """Return one row per kind of program, as the current user. Each kind has its own default count."""
    who = "root" if os.geteuid() == 0 else "ordinary user"
    rows: list[dict[str, object]] = []
    starts = []
    for kind, (programs, usual) in KINDS.items():
        count = count_of_all or usual
        start, cpu = measure([programs[i % len(programs)] for i in range(count)])
        starts.append(start)
        rows.append({"as": who, "kind": kind, "programs": count, "cpu_s": cpu})
    rows.append({"as": who, "kind": "start of a server", "programs": len(starts), "cpu_s": sum(starts)})
    few = [*SYMPY, *SYMPY]
    rows.append({"as": who, "kind": "sympy, fresh interpreter", "programs": len(few), "cpu_s": measure_fresh(few)})
    return rows


def report_of_nobody(count_of_all: int | None) -> list[dict[str, object]]:
    """Return the same rows, measured as an ordinary user; only root can do this.

    Raises:
        RuntimeError: it failed, for example because `nobody` cannot read this checkout.
    """
    root = Path(__file__).parents[1]
    counted = ["--programs", str(count_of_all)] if count_of_all else []
    command = as_ordinary_user([sys.executable, "-m", "benchmarks.sandbox", "--json", *counted])
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"as an ordinary user: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows as JSON, of this user only")
    parser.add_argument("--programs", type=int, help="programs of each kind (default: 400, and 120 with sympy)")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(report(options.programs)))
        return
    rows = report(options.programs) + (report_of_nobody(options.programs) if os.geteuid() == 0 else [])
    print("| as | programs | CPU s | ms of CPU each | programs per CPU-second |\n|---|---|---|---|---|")
    for row in rows:
        cpu, count = float(str(row["cpu_s"])), int(str(row["programs"]))
        rate = f"{count / cpu:.0f}" if cpu else "too few to tell"  # the kernel's clock counts in 10 ms
        print(f"| {row['as']} | {row['kind']} ({count}) | {cpu:.2f} | {1000 * cpu / count:.1f} | {rate} |")


if __name__ == "__main__":
    main()
