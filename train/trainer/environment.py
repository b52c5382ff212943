"""Sets the environment of a training process. Call it before importing torch or Hugging Face libraries."""

from __future__ import annotations

import os


def stay_offline() -> None:
    """Prevents requests to the hub, for stages that need nothing from it.

    Variables that the user has set are kept. Libraries read them on import, so a stage calls this first.
    """
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")


def is_main_rank() -> bool:
    """Returns whether this process writes the files. It is alone, or the first under `accelerate launch`."""
    return os.environ.get("RANK", "0") == "0"


def silence_progress_bars() -> None:
    """Hides progress bars for loading and saving files. They would garble the stage's own."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()
