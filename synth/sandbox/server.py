"""The server inside the sandbox: forks one process per program.

Uses only the standard library. `synth.sandbox.programs` starts it inside bubblewrap, as `python -I -S
sandbox_server.py PACKAGES`, or without bubblewrap as `... sandbox_server.py PACKAGES READABLE ...`. In the second
case it confines itself to the files below READABLE with sandlock (https://github.com/multikernel/sandlock), which
must be among the packages. Requests arrive on stdin and replies go to stdout, as JSON behind a 4-byte length:
{"code", "timeout_s", "memory_bytes", "output_bytes"} in, {"status", "output", "detail", "seconds"} out.

sympy is imported once and shared by copy-on-write. Every program is forked. Inside bubblewrap it gets a user
namespace and a PID namespace of its own, in which it is process 1, so nothing that it starts outlives it.
Before its first line runs, the program loses all file descriptors and privileges, its limits are lowered,
and a seccomp filter denies what a computation does not need: new processes and threads, sockets, signals,
tracing, mounts, namespaces, shared memory, keys, BPF.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
import traceback
from typing import Any, NoReturn

_CLONE_NEWUSER, _CLONE_NEWPID = 0x10000000, 0x20000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 1, 38, 22, 2
_DETAIL_BYTES = 2000
_NOBODY = 65534
_LENGTH = struct.Struct(">I")

_libc = ctypes.PyDLL(None, use_errno=True)  # PyDLL: a fork must not release the GIL

# Denied system calls with their numbers on (x86_64, aarch64). None: the platform has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "mount_setattr": (442, 442), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "shmget": (29, 194), "shmat": (30, 196), "semget": (64, 190),
    "msgget": (68, 186), "mq_open": (240, 180), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116), "acct": (163, 89),
    "quotactl": (179, 60), "personality": (135, 92), "fanotify_init": (300, 262), "inotify_init1": (294, 26),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "vhangup": (153, 58),
    "setpriority": (141, 140), "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
}  # fmt: skip
_CLONE3 = 435  # on both; "not implemented" makes the C library fall back to clone, which is denied
_AUDIT_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}


def main(packages: str, *readable: str) -> None:
    """Serve until stdin ends. With `readable` paths, confine this process to them first."""
    sys.path.extend(packages.split(os.pathsep))
    if readable:
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    _warm_up()
    if readable:
        _confine(readable, packages.split(os.pathsep))
    program_filter = seccomp_filter()
    gc.collect()
    gc.freeze()  # the garbage collector of a forked program must not touch, and so copy, the pages of sympy
    requests, replies = os.dup(0), os.dup(1)
    empty, empty_in = os.pipe()
    os.close(empty_in)
    os.dup2(empty, 0)  # programs that read stdin find the end of the file
    os.dup2(2, 1)
    _send(replies, {"status": "ready"})
    while (request := _receive(requests)) is not None:
        _send(replies, _run(request, program_filter, namespaces=not readable))


def _warm_up() -> None:
    """Import what programs use, and make sympy do its lazy imports."""
    import collections  # noqa: F401
    import fractions  # noqa: F401
    import itertools  # noqa: F401
    import math  # noqa: F401

    try:
        import sympy
    except ModuleNotFoundError:
        return
    x, y = sympy.symbols("x y")
    sympy.solve([x + y - 3, x - y - 1], [x, y])
    sympy.solve(x**2 - 5 * x + 2, x)
    sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
    sympy.integrate(x**2 + 1, (x, 0, 1))
    sympy.factorint(360)
    sympy.Matrix([[1, 2], [3, 4]]).det()


def _confine(readable: tuple[str, ...], packages: list[str]) -> None:
    """Permanently restrict this process and its children to the files in `readable`.

    Landlock also keeps them from sending signals and using abstract sockets outside.
    """
    import sandlock  # type: ignore[import-not-found]  # an optional package

    if sandlock.landlock_abi_version() < sandlock.min_landlock_abi():
        raise RuntimeError(f"this kernel's Landlock is too old for sandlock {sandlock.__version__}")
    # All imports are done. Finders that still knew these folders would fail on files that cannot be read.
    sys.path[:] = [path for path in sys.path if path not in packages]
    sys.path_importer_cache.clear()
    sandlock.confine(sandlock.Sandbox(fs_readable=[path for path in readable if os.path.exists(path)]))  # noqa: PTH110


def seccomp_filter() -> bytes:
    """Return the filter as classic BPF.

    Calls of a foreign architecture kill the process; denied calls fail with EPERM.

    Raises:
        RuntimeError: the system call numbers of this platform are not known.
    """
    machine = platform.machine()
    if machine not in _AUDIT_ARCHITECTURES:
        raise RuntimeError(f"no seccomp table for {machine}")
    audit, column = _AUDIT_ARCHITECTURES[machine]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    kill, allow, error = 0x80000000, 0x7FFF0000, 0x00050000
    program = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 1, 0, audit),
        (answer, 0, 0, kill),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, 0, 1, 0x40000000),  # the x32 calls of x86_64: other numbers for the same calls
        (answer, 0, 0, kill),
        (equal, 0, 1, _CLONE3),
        (answer, 0, 0, error | 38),  # ENOSYS
    ]
    for numbers in _DENIED.values():
        if (number := numbers[column]) is not None:
            program += [(equal, 0, 1, number), (answer, 0, 0, error | 1)]  # EPERM
    program.append((answer, 0, 0, allow))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _run(request: dict[str, Any], program_filter: bytes, *, namespaces: bool) -> dict[str, Any]:
    """Start a program, in its own namespaces if `namespaces`, and watch it to the end."""
    started = time.monotonic()
    output, output_in = os.pipe()
    errors, errors_in = os.pipe()
    try:
        program = _fork_into_namespaces() if namespaces else os.fork()
        if program == 0:
            _program(request, program_filter, output_in, errors_in)
        os.close(output_in)
        os.close(errors_in)
        result = _watch(request, program, output, errors)
    except OSError as error:
        result = {"status": "refused", "output": "", "detail": str(error)}
    os.close(output)
    os.close(errors)
    return {**result, "seconds": round(time.monotonic() - started, 4)}


def _fork_into_namespaces() -> int:
    """Like `os.fork`, but into new namespaces.

    The child is process 1 of its PID namespace. `os.fork` followed by `unshare` would need a second fork, because
    only children enter the PID namespace.
    """
    ctypes.pythonapi.PyOS_BeforeFork()
    flags = _CLONE_NEWUSER | _CLONE_NEWPID | signal.SIGCHLD
    child = _libc.syscall(ctypes.c_long(_clone_number()), ctypes.c_long(flags), None, None, None, None)
    if child == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        if child < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"clone into new namespaces: {os.strerror(number)}")
    return child


def _clone_number() -> int:
    number = _DENIED["clone"][_AUDIT_ARCHITECTURES[platform.machine()][1]]
    assert number is not None  # noqa: S101
    return number


def _watch(request: dict[str, Any], program: int, output: int, errors: int) -> dict[str, Any]:
    """Collect a program's output, then kill it. Ends when it exits, writes too much, or runs out of time."""
    deadline = time.monotonic() + request["timeout_s"]
    limit = request["output_bytes"]
    received = {output: b"", errors: b""}
    ended = os.pidfd_open(program)
    waiting = [output, errors, ended]
    status = None
    while waiting and status is None:
        ready = select.select(waiting, [], [], max(deadline - time.monotonic(), 0))[0]
        if not ready:
            status = "timeout"
        for descriptor in ready:
            piece = os.read(descriptor, 65536) if descriptor != ended else b""
            if not piece:
                waiting.remove(descriptor)
                continue
            received[descriptor] += piece
            if len(received[descriptor]) > limit:
                status = "output_limit"
    os.close(ended)
    os.kill(program, signal.SIGKILL)  # harmless if it has ended: it is still a zombie
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    last_line = received[errors][-_DETAIL_BYTES:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    detail = last_line or (f"exit code {code}" if code and status is None else "")
    text = received[output][:limit].decode("utf-8", "replace")
    return {"status": status or ("error" if code else "ok"), "output": text, "detail": detail}


def _program(request: dict[str, Any], program_filter: bytes, output: int, errors: int) -> NoReturn:
    """Give up everything that the program must not have, then run it in this process."""
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.closerange(3, 4096)
        _become_nobody()
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
        _set_limits(request)
        _drop_capabilities()
        _install(program_filter)
        exec(compile(request["code"], "<program>", "exec"), {"__name__": "__main__"})  # noqa: S102  (inside the sandbox)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001  (anything that a program raises is its result)
        with contextlib.suppress(BaseException):
            traceback.print_exc(limit=1)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  (for example, the program closed or replaced stdout)
        code = code or 1
    os._exit(code & 0xFF)


def _set_limits(request: dict[str, Any]) -> None:
    seconds = int(request["timeout_s"]) + 1
    limits = {
        resource.RLIMIT_AS: request["memory_bytes"],
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 16,
        resource.RLIMIT_NPROC: 0,  # does not apply to root; the filter applies to all
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def _become_nobody() -> None:
    """Drop root. Inside bubblewrap the process is never root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _drop_capabilities() -> None:
    """Drop the capabilities that a process gets when it enters a new user namespace."""
    version_3_of_this_process = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(_libc.capset(version_3_of_this_process, (ctypes.c_uint32 * 6)()), "capset")


def _install(program_filter: bytes) -> None:
    """Install the filter. It can neither be removed nor escaped by exec."""
    buffer = ctypes.create_string_buffer(program_filter, len(program_filter))
    # struct sock_fprog: the number of 8-byte instructions and their address
    descriptor = struct.pack("@HP", len(program_filter) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, descriptor, 0, 0), "seccomp")


def _check(returned: int, call: str) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def _send(descriptor: int, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    data = memoryview(_LENGTH.pack(len(body)) + body)
    while data:
        data = data[os.write(descriptor, data) :]


def _receive(descriptor: int) -> dict[str, Any] | None:
    header = _read(descriptor, _LENGTH.size)
    return json.loads(_read(descriptor, *_LENGTH.unpack(header))) if header else None


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            return b""
        data += piece
    return data


if __name__ == "__main__":
    main(*sys.argv[1:])
