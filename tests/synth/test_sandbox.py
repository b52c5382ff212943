"""What programs can and cannot do in the sandbox."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.sandbox_tools import as_ordinary_user
from personahub.core.errors import UserError
from synth.sandbox.programs import Limits, Sandbox


@pytest.fixture(scope="module", params=["bubblewrap", "sandlock"])
def path_of_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The PATH under which one kind of sandbox is chosen; skips where that kind is not there."""
    if request.param == "bubblewrap":
        return os.environ["PATH"]
    if importlib.util.find_spec("sandlock") is None:
        pytest.skip("sandlock is not installed")
    return str(tmp_path_factory.mktemp("no_bubblewrap"))


def opened(path: str, limits: Limits) -> Sandbox:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", path)
        try:
            return Sandbox(limits)
        except UserError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def sandbox(path_of_kind: str) -> Iterator[Sandbox]:
    with opened(path_of_kind, Limits(timeout_s=3, memory_mb=512, output_kb=16)) as box:
        yield box


@pytest.fixture(scope="module")
def hasty(path_of_kind: str) -> Iterator[Sandbox]:
    """For programs that will not end by themselves."""
    with opened(path_of_kind, Limits(timeout_s=0.7, memory_mb=512, output_kb=16)) as box:
        yield box


def run(box: Sandbox, program: str):
    (result,) = box.run([textwrap.dedent(program)])
    return result


@pytest.mark.parametrize(
    ("program", "output"),
    [
        ("print(6 * 7)", "42\n"),
        ("from fractions import Fraction\nprint(Fraction(1, 3) + Fraction(1, 6))", "1/2\n"),
        ("import sympy\nx = sympy.symbols('x')\nprint(sympy.solve(x**2 - 2, x))", "[-sqrt(2), sqrt(2)]\n"),
        ("from sympy import *\nprint(nsimplify(integrate(sin(symbols('x')), (symbols('x'), 0, pi))))", "2\n"),
        ("import math, itertools, collections, random\nrandom.seed(1)\nprint(math.comb(10, 3))", "120\n"),
        (
            "if __name__ == '__main__':\n    def f():\n        return g()\n    def g():\n        return 5\n    print(f())",
            "5\n",
        ),
        ("print('∑ é 汉')", "∑ é 汉\n"),
        ("import sys\nprint(1)\nsys.exit(0)", "1\n"),
        ("", ""),
    ],
)
def test_honest_programs_run(sandbox: Sandbox, program: str, output: str) -> None:
    result = run(sandbox, program)
    assert (result.status, result.output, result.detail) == ("ok", output, "")


@pytest.mark.parametrize(
    ("program", "status", "detail"),
    [
        ("1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("print(", "error", "SyntaxError"),
        ("print(x)", "error", "NameError"),
        ("import numpy", "error", "ModuleNotFoundError"),
        ("raise SystemExit(3)", "error", "exit code 3"),
        ("raise SystemExit('no answer')", "error", "exit code 1"),
        ("input()", "error", "EOFError"),
        ("def f(n):\n    return f(n + 1)\nf(0)", "error", "RecursionError"),
        ("import ctypes\nctypes.string_at(0)", "error", "exit code -11"),
        ("import os\nos.abort()", "error", "exit code"),
        ("import sys\nsys.stdout.close()", "error", ""),
        ("raise BaseException('\ud83d')", "error", ""),
        ("\0", "error", ""),
        ("print('a' * 100_000)", "output_limit", ""),
        ("while True: print('a')", "output_limit", ""),
        ("import sys\nwhile True: print('a', file=sys.stderr)", "output_limit", ""),
    ],
)  # fmt: skip
def test_failures_are_told_apart(sandbox: Sandbox, program: str, status: str, detail: str) -> None:
    result = run(sandbox, program)
    assert result.status == status
    assert detail in result.detail
    assert len(result.output.encode()) <= 16 << 10
    assert result.seconds < 6


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(60)",
        "import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)",
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except Exception: pass"
        "\nwhile True: pass",
        "10 ** 10 ** 10",
        "import os\nos.setsid()\nwhile True: pass",
    ],
)
def test_programs_that_do_not_end_are_ended(hasty: Sandbox, program: str) -> None:
    result = run(hasty, program)
    assert result.status == "timeout"
    assert 0.6 < result.seconds < 5


# Each prints ESCAPED where it got what it was after. {host} is a folder of this test's on the host,
# {port} a listener on its loopback interface, {pid} the process of this test.
HOSTILE = {
    "fork": "import os\nif os.fork() == 0: os._exit(0)\nprint('ESCAPED')",
    "fork bomb": "import os\nfor _ in range(10**4):\n    try: os.fork(); print('ESCAPED')\n    except OSError: pass",
    "vfork and exec": "import subprocess\nprint(subprocess.run(['/usr/bin/id'], capture_output=True), 'ESCAPED')",
    "posix_spawn": "import os\nos.posix_spawn('/usr/bin/id', ['id'], {{}})\nprint('ESCAPED')",
    "system": "import os\nprint('ESCAPED' if os.system('true') == 0 else '')",
    "exec": "import os\nos.execv('/bin/echo', ['echo', 'ESCAPED'])",
    "thread bomb": "import threading\nthreading.Thread(target=print, args=('ESCAPED',)).start()",
    "clone by number": "import ctypes\nr = ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0)\nprint('ESCAPED' if r > 0 else r)",
    "multiprocessing": "import multiprocessing\nmultiprocessing.Process(target=print).start()\nprint('ESCAPED')",
    "home": "import os\nfrom pathlib import Path\nprint([Path(p).read_text() for p in ('/root/.bashrc', '/root/.profile',"
    " '/home')], 'ESCAPED')",
    "list home": "import os\nfound = [p for p in ('/root', '/home') if os.path.isdir(p) for f in os.listdir(p)"
    " if f not in ('.pyenv', '.local', 'miniconda3')]\nprint('ESCAPED' if found else '')",
    "passwd": "print(open('/etc/passwd').read(), 'ESCAPED')",
    "shadow": "print(open('/etc/shadow').read(), 'ESCAPED')",
    "a file of the host": "print(open('{host}/secret').read(), 'ESCAPED')",
    "environment": "import os\nprint('ESCAPED' if 'PERSONAHUB_SECRET' in os.environ else '')",
    "environment of the parents": "print(open('/proc/1/environ').read(), 'ESCAPED')",
    "walk proc": "import os\nprint(os.listdir('/proc'), 'ESCAPED')",
    "memory of the server": "open('/proc/self/mem', 'rb'); print('ESCAPED')",
    "inherited descriptors": "import os\nfor fd in range(3, 256):\n    try: os.fstat(fd); print('ESCAPED', fd)\n    except OSError: pass",
    "forge a reply": "import os\nfor fd in range(3, 256):\n    try: os.write(fd, b'\\0\\0\\0\\2{{}}'); print('ESCAPED')\n    except OSError: pass",
    "tcp": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)\nprint('ESCAPED')",
    "udp": "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x', ('127.0.0.1', {port}))\nprint('ESCAPED')",
    "unix socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('{host}/socket')\nprint('ESCAPED')",
    "abstract socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0personahub-test-{pid}')\nprint('ESCAPED')",
    "raw socket": "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nprint('ESCAPED')",
    "netlink": "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW)\nprint('ESCAPED')",
    "dns": "import socket\nprint(socket.getaddrinfo('localhost.localdomain', {port}), 'ESCAPED')",
    "50 GB": "x = bytearray(50 << 30)\nprint('ESCAPED')",
    "50 GB bit by bit": "x = []\nwhile len(x) < 50_000: x.append(bytearray(1 << 20))\nprint('ESCAPED')",
    "50 GB by mmap": "import mmap\nm = mmap.mmap(-1, 50 << 30)\nprint('ESCAPED')",
    "shared memory": "import ctypes\nr = ctypes.CDLL(None).shmget(0, 1 << 30, 0o1600)\nprint('ESCAPED' if r >= 0 else r)",
    "memory behind a file": "import os\nfd = os.memfd_create('x')\nos.write(fd, b'x' * (1 << 20))\nprint('ESCAPED')",
    "write to the host": "open('{host}/written', 'w').write('x')\nprint('ESCAPED')",
    "write to tmp": "open('/tmp/personahub_escaped', 'w').write('x')\nprint('ESCAPED')",
    "write to the root": "open('/personahub_escaped', 'w').write('x')\nprint('ESCAPED')",
    "write to dev shm": "open('/dev/shm/personahub_escaped', 'w').write('x')\nprint('ESCAPED')",
    "write to the packages": "open('/packages/sympy/__init__.py', 'a').write('#')\nprint('ESCAPED')",
    "write to the server": "open('/sandbox_server.py', 'a').write('#')\nprint('ESCAPED')",
    "write to usr": "open('/usr/personahub_escaped', 'w').write('x')\nprint('ESCAPED')",
    "symlink out": "import os\nos.symlink('{host}/secret', '/packages/link')\nprint(open('/packages/link').read(), 'ESCAPED')",
    "hard link": "import os\nos.link('/sandbox_server.py', '/packages/link')\nprint('ESCAPED')",
    "dot dot": "import os\nos.chdir('/../../..')\nprint(open('..{host}/secret').read(), 'ESCAPED')",
    "chroot": "import os\nos.chroot('/usr')\nprint('ESCAPED')",
    "mount": "import ctypes\nr = ctypes.CDLL(None).mount(b'none', b'/usr', b'tmpfs', 0, None)\nprint('ESCAPED' if r == 0 else r)",
    "remount": "import ctypes\nr = ctypes.CDLL(None).mount(None, b'/', None, 32, None)\nprint('ESCAPED' if r == 0 else r)",
    "namespaces": "import ctypes\nr = ctypes.CDLL(None).unshare(0x10000000)\nprint('ESCAPED' if r == 0 else r)",
    "root": "import os\nos.setuid(0)\nprint('ESCAPED')",
    "device": "import os\nos.mknod('/packages/null', 0o20666, os.makedev(1, 3))\nprint('ESCAPED')",
    "kill the parent": "import os\nos.kill(os.getppid(), 9)\nprint('ESCAPED')",
    "kill everyone": "import os\nos.kill(-1, 9)\nprint('ESCAPED')",
    "kill the test": "import os\nos.kill({pid}, 9)\nprint('ESCAPED')",
    "kill by pidfd": "import os, signal\nfd = os.pidfd_open({pid})\nsignal.pidfd_send_signal(fd, 9)\nprint('ESCAPED')",
    "ptrace": "import ctypes, os\nr = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)\nprint('ESCAPED' if r == 0 else r)",
    "read the parent": "import ctypes\nr = ctypes.CDLL(None).syscall(310, {pid}, 0, 0, 0, 0, 0)\nprint('ESCAPED' if r == 0 else r)",
    "raise limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nprint('ESCAPED')",
    "raise the process limit": "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (99, 99))\nprint('ESCAPED')",
    "x32 calls": "import ctypes\nr = ctypes.CDLL(None).syscall(0x40000000 + 57)\nprint('ESCAPED' if r > 0 else r)",
    "undo the filter": "import ctypes\nr = ctypes.CDLL(None).prctl(22, 0, 0, 0, 0)\nprint('ESCAPED' if r == 0 else r)",
    "keyring": "import ctypes\nr = ctypes.CDLL(None).syscall(250, 0, -3, 1)\nprint('ESCAPED' if r > 0 else r)",
    "bpf": "import ctypes\nr = ctypes.CDLL(None).syscall(321, 0, 0, 0)\nprint('ESCAPED' if r >= 0 else r)",
    "io_uring": "import ctypes\nb = ctypes.create_string_buffer(256)\nr = ctypes.CDLL(None).syscall(425, 4, b)\nprint('ESCAPED' if r >= 0 else r)",
    "terminal": "open('/dev/tty'); print('ESCAPED')",
}  # fmt: skip


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """A folder with a secret, and listeners that note every visitor."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "secret").write_text("secret")
    visitors: list[str] = []
    families = [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, str(folder / "socket")),
        (socket.AF_UNIX, f"\0personahub-test-{os.getpid()}"),
    ]
    listeners = []
    for family, address in families:
        listener = socket.socket(family)
        listener.bind(address)
        listener.listen()
        listeners.append(listener)

        def accept(listener: socket.socket = listener, address: object = address) -> None:
            try:
                listener.accept()
            except OSError:
                return
            visitors.append(repr(address))

        threading.Thread(target=accept, daemon=True).start()
    yield {"host": folder, "port": listeners[0].getsockname()[1], "pid": os.getpid(), "visitors": visitors}
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_get_nothing(
    sandbox: Sandbox, host: dict[str, object], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSONAHUB_SECRET", "secret")
    folder = host["host"]
    assert isinstance(folder, Path)
    result = run(sandbox, HOSTILE[name].format(**host))
    assert "ESCAPED" not in result.output
    assert "secret" not in result.output
    assert host["visitors"] == []
    assert {path.name for path in folder.iterdir()} == {"secret", "socket"}
    assert not any(Path(place, "personahub_escaped").exists() for place in ("/", "/tmp", "/usr", "/dev/shm"))
    assert run(sandbox, "print('alive')").output == "alive\n"


def test_nothing_stays_from_one_program_to_the_next(sandbox: Sandbox) -> None:
    poison = "import sympy, math, builtins\nsympy.pi = 3\nmath.pi = 3\nbuiltins.print = None"
    assert run(sandbox, poison).status == "ok"
    assert run(sandbox, "import sympy, math\nprint(sympy.pi, math.pi > 3.1)").output == "pi True\n"


def test_results_come_in_order_and_one_bad_program_does_not_hold_up_the_others(sandbox: Sandbox) -> None:
    programs = [f"print({i})" if i % 7 else "import time\ntime.sleep(60)" for i in range(15)]
    with Sandbox(Limits(timeout_s=0.5), workers=3) as box:
        results = list(box.run(programs))
    assert [r.output.strip() if r.status == "ok" else r.status for r in results] == [
        str(i) if i % 7 else "timeout" for i in range(15)
    ]


def test_programs_are_read_only_as_far_ahead_as_needed() -> None:
    taken = []

    def programs() -> Iterator[str]:
        for i in range(1000):
            taken.append(i)
            yield "print(1)"

    try:
        with Sandbox(workers=1) as box:
            assert next(iter(box.run(programs()))).output == "1\n"
    except UserError as error:
        pytest.skip(str(error))
    assert len(taken) < 20


def test_a_process_with_a_thousand_connections_has_a_sandbox_too(sandbox: Sandbox, repository: Path) -> None:
    script = """if True:
        import os, resource
        from synth.sandbox.programs import Sandbox
        resource.setrlimit(resource.RLIMIT_NOFILE, (2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        with Sandbox() as box:
            print([result.output for result in box.run(["print(6 * 7)"])])
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, timeout=200)
    assert done.stdout == "['42\\n']\n", done.stderr


def children_of(pid: int) -> set[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()
    return {int(child) for child in found}


def test_closing_leaves_no_process_behind(sandbox: Sandbox) -> None:
    before = children_of(os.getpid())
    box = Sandbox(workers=2)
    list(box.run(["print(1)"] * 4))
    assert len(children_of(os.getpid()) - before) >= 1
    box.close()
    box.close()
    assert children_of(os.getpid()) - before == set()


def test_a_killed_parent_takes_its_programs_along(sandbox: Sandbox, path_of_kind: str) -> None:
    code = "from synth.sandbox.programs import *\nwith Sandbox(Limits(timeout_s=600)) as box:\n    print('up', flush=True)\n    list(box.run(['while True: pass']))"
    marker, environment = f"personahub-{os.getpid()}", {**os.environ, "PATH": path_of_kind}
    parent = subprocess.Popen([sys.executable, "-c", code, marker], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    (bwrap,) = children_of(parent.pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{bwrap}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{bwrap}").exists()
    assert not children_of(bwrap)


def test_with_nothing_installed_there_is_no_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "sandlock", None)  # as if it were not installed
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        Sandbox()


def test_a_bubblewrap_that_cannot_make_namespaces_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(UserError, match=r"No permissions to create new namespace.*never run outside of a sandbox"):
        Sandbox()


def test_the_hostile_suite_holds_for_an_ordinary_user_too(repository: Path) -> None:
    """Root runs this file again as `nobody`. Other users have already run it as an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("this test session is not root's: its own run is that of an ordinary user")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are root's alone
        scratch = Path(folder)
        scratch.chmod(0o777)
        tests = [str(Path(__file__)), "-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={scratch / 'pytest'}"]
        command = as_ordinary_user([sys.executable, "-m", "pytest", "-q", *tests])
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(repository), "HOME": folder}
        look = as_ordinary_user([sys.executable, "-c", "import personahub, pytest"])
        if subprocess.run(look, env=environment, cwd=folder, check=False, capture_output=True).returncode:
            pytest.skip("an ordinary user can read neither this checkout nor its Python")
        done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > len(HOSTILE) + 20
