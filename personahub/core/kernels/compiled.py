"""Loads the compiled kernels without importing numba.

    from personahub.core.kernels import compiled
    compiled.group_identical(order, sum1, sum2, slots, leader)

numba compiles the kernels once, which takes about 5 s of CPU and 150 MB in a separate process, and the
machine code is saved to a file. Later processes load that file in 0.05 s with llvmlite, the library that
numba itself uses. They never import numba, which takes about 1 s. The file is in the folder given by
NUMBA_CACHE_DIR, or else in `__pycache__` next to the kernels or in the user's cache. Its name contains a hash
of everything the code depends on: sources, signatures, versions and processor.

Kernels are called the way numba calls its own functions: `int status(return*, exception*, arguments...)`,
where each array is passed as owner, parent, items, item size, address, shape and strides. ctypes releases the
GIL during a call, so kernels can run in threads. Types are checked here, because machine code cannot check them.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

# Result and arguments of each kernel. `[]` is a contiguous array with one axis, `[,]` one with two axes.
SIGNATURES = {
    "hash_words": "i8(u1[], i8[], i8[], i8, i8, i4[], u8[], i8, i8[], i4[], u8[], u8[], b1[], i8[])",
    "group_identical": "void(i8[], u8[], u8[], i4[], i4[])",
    "fill_bloom": "void(i4[], u8[], i4[], i8, i8, u8[])",
    "one_word_apart": "i8(i8, i8, u8[], i8[], i4[], u8[], u8[], i4[], i4[], u8[], i8, i8, i4[], i4[])",
    "count_words": "void(u8[], i8[], i4[], i4[], i8, i4[])",
    "sign": (
        "i8(u8[], i8[], i4[], i4[], i4[], i8[], i8[], i8[], u8[], u8[], u8[], u8[], i4[], i8[], u8[], i8[], u8[])"
    ),
    "sort_and_sketch": "void(u8[], i8[], i4[], i8[], u8[])",
    "keep_first": (
        "i8(i8[], i4[], i8, i8, f8, i4[], u8[], i8[], i4[], u8[], i8[], i4[], i8[], u8[], i8[], i8[,],"
        " b1[], i4[], i4[], f8[])"
    ),
    "near_pairs": "i8(i2[,], i8[], i2[,], i8[], i8, i8, i8, f4[,], f8, i8, u2[], i8[], i8[])",
    "linear_int16": "void(f4[,], i8, i2[,], f4[], f4[], i2[,], f4[], f4[,])",
    "rests": "i8(u8[], i8[], i4[], u8[], u8[], i4[], u8[], i8, i8, i8, u8[], u8[], i8[])",
    "look_up": "void(u8[], u8[], u8[], u8[], i4[], i8[])",
    "sharing": "i8(u8[], i4[], u8[], i8[], i8, f8, i8[], i8[])",
    "verify": "void(u8[], i8[], i8[], i8[], i8[], f8, f8[])",
    "first_kept": "i8(i8[], i8[], b1[], i8[])",
    "join": "void(i8[], i8[], i8[])",
    "flatten": "void(i8[])",
}  # fmt: skip
_SCALARS = {"i8": ctypes.c_int64, "f8": ctypes.c_double}
_SOURCES = [
    Path(__file__).with_name(name)
    for name in (
        "intrinsics.py",
        "hashing.py",
        "joining.py",
        "vectors.py",
        "partitions.py",
        "linear.py",
    )
]


def __getattr__(name: str) -> Callable[..., int]:
    if name not in SIGNATURES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return _kernels()[name]


@functools.cache
def _kernels() -> dict[str, Callable[..., int]]:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    code = _load_or_compile(f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}")
    for item in code.values():
        engine.add_object_file(llvm.ObjectFileRef.from_data(base64.b64decode(item["object"])))
    engine.finalize_object()
    return {
        name: _caller(name, signature, engine.get_function_address(code[name]["symbol"]), engine)
        for name, signature in SIGNATURES.items()
    }


def _load_or_compile(processor: str) -> dict[str, dict[str, str]]:
    sources = [source.read_text(encoding="utf-8") for source in _SOURCES]
    depends_on = (sources, SIGNATURES, version("numba"), version("llvmlite"), sys.version)
    key = hashlib.blake2b(repr((*depends_on, platform.machine(), processor)).encode(), digest_size=8).hexdigest()
    name = f"kernels-{key}.json"
    for folder in _folders():
        try:
            return json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # missing or damaged: compile again
    code = _compile_apart()
    for folder in _folders():
        try:
            _write(folder / name, json.dumps(code))
            break
        except OSError:
            continue  # read-only; if all folders are, each process compiles for itself
    return code


def _folders() -> list[Path]:
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(named)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [_SOURCES[0].parent / "__pycache__", cache / "personahub"]


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    Path(temporary).write_text(text, encoding="utf-8")
    Path(temporary).replace(file)


def _compile_apart() -> dict[str, dict[str, str]]:
    """Runs `_compile` in another process. Falls back to this one, as in an embedded interpreter."""
    if sys.executable:
        # Use this process's modules, whatever the current folder contains.
        program = "import json, sys; sys.path[:] = json.loads(sys.argv[1])"
        program += f"; import {__name__} as compiled; print(json.dumps(compiled._compile()))"
        try:
            command = [sys.executable, "-I", "-c", program, json.dumps(sys.path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - fixed
            return json.loads(done.stdout)
        except (OSError, ValueError, subprocess.CalledProcessError):
            pass  # compiling in this process shows what is wrong
    return _compile()


def _compile() -> dict[str, dict[str, str]]:
    """Returns the object code and symbol of every kernel."""
    from numba import njit
    from numba.core.sigutils import normalize_signature

    from personahub.core.kernels import hashing, joining, linear, partitions, vectors

    # No Python wrapper and no reference counts: the code must not refer to the interpreter.
    options: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
    options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    modules: tuple[Any, ...] = (hashing, joining, vectors, partitions, linear)
    code = {}
    for name, signature in SIGNATURES.items():
        spelled = signature.replace("[]", "[::1]").replace("[,]", "[:,::1]")
        arguments, _ = normalize_signature(spelled)
        dispatcher: Any = njit(**options)(next(vars(module)[name] for module in modules if name in vars(module)))
        dispatcher.compile(spelled)
        compiled = dispatcher.overloads[arguments]
        _, kind, (machine_code, _) = compiled.library.serialize_using_object_code()
        if kind != "object":
            raise RuntimeError(f"numba {version('numba')} returned {kind} instead of object code")
        code[name] = {"symbol": compiled.fndesc.llvm_func_name, "object": base64.b64encode(machine_code).decode()}
    return code


def _caller(name: str, signature: str, address: int, engine: Any) -> Callable[..., int]:
    kinds = signature.removesuffix(")").partition("(")[2].replace("[,]", "[[").split(",")
    kinds = [kind.strip() for kind in kinds]
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    native: list[Any] = [pointer, pointer]
    for kind in kinds:
        axes = kind.count("[")
        native += [pointer, pointer, integer, integer, pointer] + [integer] * 2 * axes if axes else [_SCALARS[kind]]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *native)(address)

    def call(*arguments: Any) -> int:
        if len(arguments) != len(kinds):
            raise TypeError(f"{name}: expected {len(kinds)} arguments, got {len(arguments)}")
        spread: list[Any] = []
        for position, (kind, argument) in enumerate(zip(kinds, arguments, strict=True)):
            axes = kind.count("[")
            if not axes:
                spread.append(argument)
                continue
            array: np.ndarray = argument
            if array.dtype != np.dtype(kind[:2]) or array.ndim != axes or not array.flags.c_contiguous:
                raise TypeError(f"{name}: argument {position} is {array.dtype} of shape {array.shape}, expected {kind}")
            spread += [None, None, array.size, array.itemsize, array.ctypes.data, *array.shape, *array.strides]
        result, raised = ctypes.c_int64(), ctypes.c_void_p()
        if function(ctypes.addressof(result), ctypes.addressof(raised), *spread):
            raise RuntimeError(f"the kernel {name} failed")
        return result.value

    call.engine = engine  # type: ignore[attr-defined]  # owns the machine code
    return call
