"""Environment of a training process, to be set before torch or Hugging Face libraries are imported."""

from __future__ import annotations

import os


def stay_offline() -> None:
    """Prevents requests to the hub, for stages that need nothing from it.

    Variables that the user has set are kept. Libraries read them on import, so a stage calls this first.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")


def is_main_rank() -> bool:
    """Whether this process writes the files: it is the only one, or the first under `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"


def silence_progress_bars() -> None:
    """Hides progress bars for loading and saving files, which would garble the stage's own."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
