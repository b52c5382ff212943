"""Environment of a process that trains: set before torch or Hugging Face libraries are imported."""

from __future__ import annotations

import os


def stay_offline() -> None:
    """No library may ask the hub anything: called where nothing comes from it.

    Variables that the user has set stay. Libraries read them when they are imported, so a stage
    calls this first.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")


def is_main_rank() -> bool:
    """Whether this process writes the files: the only one, or the first under `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"


def silence_progress_bars() -> None:
    """Bars for loading and saving files would break up the stage's own."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
