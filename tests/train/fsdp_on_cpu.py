"""A stage's process under FSDP2 on CPUs: `python fsdp_on_cpu.py stage.json`, started by torch.distributed.run.

accelerate shards on GPUs alone, so its choice is changed here; all else is as `accelerate launch`
would have it, whose variables the test sets. FSDP_RECORD names a file to which the first rank writes
the policy, and the gradients that are there between micro-steps; FREE_BYTES what the disk has free.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers import TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

from personahub.core.experiments.stage_process import main


class Recorder(TrainerCallback):
    def _write(self, **values: Any) -> None:
        if os.environ["RANK"] == "0":
            with Path(os.environ["FSDP_RECORD"]).open("a") as file:
                file.write(json.dumps(values) + "\n")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        state: Any = AcceleratorState()
        policy = state.fsdp_plugin.mixed_precision_policy
        self._write(policy=policy and {key: str(value) for key, value in vars(policy).items()})

    def on_substep_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        parameters = list(model.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        self._write(
            dtypes=sorted({str(gradient.dtype) for gradient in gradients}),
            numbers=sum(gradient.to_local().numel() for gradient in gradients),
            own=sum(p.to_local().numel() for p in parameters),
            all=sum(p.numel() for p in parameters),
        )


def _shard_on_cpus(self: Any, *values: Any, **named: Any) -> None:
    original(self, *values, **named)
    if (plugin := named.get("fsdp_plugin")) is not None:
        if self._mixed_precision != "no":
            plugin.set_mixed_precision(self._mixed_precision)
        self.fsdp_plugin = plugin
    if "fsdp_plugin" in AcceleratorState._shared_state:
        self.distributed_type = DistributedType.FSDP


original = AcceleratorState.__init__
AcceleratorState.__init__ = _shard_on_cpus
DEFAULT_CALLBACKS += [Recorder]
if "FREE_BYTES" in os.environ:
    usage = namedtuple("usage", "total used free")
    shutil.disk_usage = lambda path: usage(10**12, 0, int(os.environ["FREE_BYTES"]))
sys.exit(main(sys.argv[1:]))
