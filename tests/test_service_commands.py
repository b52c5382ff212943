"""Commands of the pages that use a hub, an account, a terminal, a package index or a tool.

The hub and the account are servers on loopback that know the few requests that the command sends; the terminal is a
pseudo-terminal on which every question gets a return.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from personahub.commands.cli import main
from tests.test_readme import ROOT

TOOLS = Path(sys.executable).parent
COMMIT = "c" * 40
IMPORT = (
    "personahub personas import hf://datasets/argilla/FinePersonas-v0.1@COMMIT/data/train-00000.parquet p.parquet"
    " --release finepersonas --limit 100000"
)
WORKSPACE = "python docs/wandb_workspace.py TEAM ablation_persona"
COMMANDS = (
    IMPORT,
    WORKSPACE,
    "accelerate config",
    "make lint",
    "make audit",
    "pytest -m gpu",
    "pip install 'persona-hub-harness[ray]'",
    "pip install -e '.[train,embed,vllm]'",
)


class Handler(BaseHTTPRequestHandler):
    """Answers whatever is asked with the status and the bytes of `reply`."""

    protocol_version = "HTTP/1.1"

    def reply(self, body: bytes) -> tuple[int, bytes]:
        raise NotImplementedError

    def _answer(self) -> None:
        status, content = self.reply(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if content[:1] in b"{[" else "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def served(handler: type[Handler]) -> Iterator[str]:
    """The address of a server with it, on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def environment(**changes: str) -> dict[str, str]:
    """Ours without what a user may have set for the hub and for W&B."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "WANDB_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **changes}


@pytest.mark.slow
def test_a_file_of_the_hub_is_imported(tmp_path: Path) -> None:
    personas = [f"A night nurse of ward {ward} who works while others sleep" for ward in "ABCDEF"]
    written = io.BytesIO()
    pq.write_table(pa.table({"id": list("abcdef"), "persona": personas, "labels": ['["Nursing"]'] * 6}), written)
    file, asked = written.getvalue(), []

    class Hub(Handler):
        def reply(self, body: bytes) -> tuple[int, bytes]:
            asked.append(self.path)
            if self.path.startswith(f"/api/datasets/argilla/FinePersonas-v0.1/revision/{COMMIT}"):
                return 200, json.dumps({"id": "argilla/FinePersonas-v0.1", "sha": COMMIT}).encode()
            if self.path.startswith(f"/api/datasets/argilla/FinePersonas-v0.1/tree/{COMMIT}/data"):
                entry = {"type": "file", "path": "data/train-00000.parquet", "size": len(file), "oid": "0" * 40}
                return 200, json.dumps([entry]).encode()
            if self.path == f"/datasets/argilla/FinePersonas-v0.1/resolve/{COMMIT}/data/train-00000.parquet":
                begin, end = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups()  # type: ignore[union-attr]
                return 206, file[int(begin) : int(end) + 1]
            return 404, b"{}"

    with served(Hub) as address:
        called = [sys.executable, "-m", *IMPORT.replace("COMMIT", COMMIT).split(" ")]
        reported = environment(HF_ENDPOINT=address, HF_HOME=str(tmp_path / "home"))
        done = subprocess.run(called, cwd=tmp_path, env=reported, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "6 personas from 6 rows" in done.stdout + done.stderr
    assert any("/resolve/" in path for path in asked)
    assert (
        main(["personas", "sample", str(tmp_path / "p.parquet"), "-n", "6", "--out", str(tmp_path / "six.jsonl")]) == 0
    )
    rows = [json.loads(line) for line in (tmp_path / "six.jsonl").read_text().splitlines()]
    assert {row["persona"] for row in rows} == set(personas)


@pytest.mark.slow
def test_a_workspace_is_saved(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    saved = []

    class Account(Handler):
        def reply(self, body: bytes) -> tuple[int, bytes]:
            if self.path != "/graphql":  # W&B's own telemetry
                return 404, b"{}"
            asked = json.loads(body)
            if "upsertView" in asked["query"]:
                saved.append(asked["variables"])
                data = {"upsertView": {"view": {"id": "1", "name": "nw-made-v"}, "inserted": True}}
            else:
                data = {
                    "viewer": {"id": "1", "entity": "TEAM", "username": "me", "flags": "{}", "teams": {"edges": []}}
                }
            return 200, json.dumps({"data": data}).encode()

    with served(Account) as address:
        reported = environment(WANDB_BASE_URL=address, WANDB_API_KEY="a" * 40, HOME=str(tmp_path))
        called = [sys.executable, *WORKSPACE.split(" ")[1:]]
        done = subprocess.run(called, cwd=ROOT, env=reported, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"{address}/TEAM/persona-hub?nw=made"
    (view,) = saved
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("TEAM", "persona-hub", "ablation_persona")
    assert "benchmarks.synthetic_test.accuracy" in view["spec"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_accelerate_asks_and_writes_its_config(tmp_path: Path) -> None:
    program = TOOLS / "accelerate"
    if not program.exists():
        pytest.skip("accelerate is not installed")
    ours, theirs = pty.openpty()
    reported = environment(HOME=str(tmp_path), HF_HOME=str(tmp_path / "hf"))
    process = subprocess.Popen([program, "config"], stdin=theirs, stdout=theirs, stderr=theirs, env=reported)
    os.close(theirs)
    said, until = b"", time.monotonic() + 500
    while process.poll() is None and time.monotonic() < until:
        if select.select([ours], [], [], 1)[0]:
            with contextlib.suppress(OSError):  # it has just ended
                said += os.read(ours, 65_536)
        else:
            os.write(ours, b"\r")  # the default answer
    process.kill()
    os.close(ours)
    assert process.wait() == 0, said.decode(errors="replace")
    (file,) = (tmp_path / "hf").rglob("default_config.yaml")
    assert yaml.safe_load(file.read_text())["compute_environment"] == "LOCAL_MACHINE"


def make(target: str) -> subprocess.CompletedProcess[str]:
    """As typed, with this environment instead of a new one."""
    called = ["make", target, "--old-file=install", f"BIN={TOOLS}", f"PYTHON={sys.executable}"]
    return subprocess.run(called, cwd=ROOT, capture_output=True, text=True, timeout=850)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_lint_passes() -> None:
    if not (ROOT / ".venv" / "bin" / "pyright").exists():
        pytest.skip("no .venv with the extra `dev`, which is where pyright looks for packages")
    done = make("lint")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 errors" in done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.network
@pytest.mark.timeout(900)
def test_make_audit_says_what_it_found_or_that_nothing_was_checked() -> None:
    done = make("audit")
    reported = done.stdout + done.stderr
    if done.returncode == 0:
        assert "No known vulnerabilities found" in reported
    else:
        assert re.search(
            r"Found \d+ known vulnerabilit|audit: (NOTHING WAS CHECKED|\.venv does not exist): ", reported
        ), reported


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tests_that_need_a_gpu_run_or_are_skipped() -> None:
    done = subprocess.run([TOOLS / "pytest", "-m", "gpu"], cwd=ROOT, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stdout[-2000:]
    assert re.search(r"\d+ (passed|skipped)", done.stdout)


@pytest.mark.network
@pytest.mark.timeout(900)
@pytest.mark.parametrize("extras", ["ray", "train,embed,vllm"])
def test_pip_would_install_the_extras(extras: str) -> None:
    """Of this checkout: under its name the package is in no index."""
    called = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", f"{ROOT}[{extras}]"]
    done = subprocess.run(called, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stderr
    asked = {each["metadata"]["name"]: each for each in json.loads(done.stdout)["install"]}
    assert asked["persona-hub-harness"]["requested_extras"] == extras.split(",")
