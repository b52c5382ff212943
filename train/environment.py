"""Environment of a process that trains: set before torch or Hugging Face libraries are imported."""

from __future__ import annotations

import os


def prepare_environment(offline: bool) -> None:
    """Keep libraries from phoning home, and their threads from spinning while they wait.

    Variables that the user has set stay. Libraries read them when they are imported, so a stage
    calls this first.

    Args:
        offline: True where nothing comes from the hub; then no library may ask it anything.
    """
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
    # Spinning threads take 2-4 times the CPU time of a small model on a machine that does other work too.
    threads = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    hub = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"} if offline else {}
    for name, value in {**quiet, **threads, **hub}.items():
        os.environ.setdefault(name, value)


def is_main_rank() -> bool:
    """Whether this process writes the files: the only one, or the first under `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"


def silence_progress_bars() -> None:
    """Bars for loading and saving files would break up the stage's own."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
