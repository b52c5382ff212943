r"""A local model in process, on a GPU or a CPU, through Hugging Face transformers.

    engines:
      student: {kind: transformers, model: runs/quickstart/sft/model, max_model_len: 512}

For small models and small runs: it is what evaluates the quickstart's student. Requests are decoded
in one continuous batch (`personahub.core.engines.local.decoding`) on a worker thread. Greedy answers do
not depend on what else is in the batch beyond float noise, and sampled ones depend on the request's
own seed only.

The prompt is what the tokenizer's chat template makes of the messages (`format: chat`), or the messages'
contents, separated by blank lines, and a final newline (`format: plain`), which is what a base model
continues; give it stop strings, as the template `base` does. `auto` is chat where the tokenizer has a
chat template. `sampling.extra` may hold `top_k`. Code that comes with a model is never run.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jinja2
from pydantic import Field

from personahub.core.config import EXECUTION
from personahub.core.engines.base import (
    Completion,
    Engine,
    EngineUnavailable,
    ReplicatedConfig,
    Request,
    RequestRefused,
)

if TYPE_CHECKING:
    from personahub.core.engines.local.decoding import Row

_STEPS_AT_ONCE = 32  # between two looks at new and cancelled requests


class Config(ReplicatedConfig):
    """A model folder or hub name. How fast it runs is not identity; the precision is."""

    kind: str = "transformers"
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: as the weights are stored."
    )
    format: Literal["auto", "chat", "plain"] = Field(
        default="auto", description="chat: by the chat template; plain: text to continue; auto: chat if it has one."
    )
    max_model_len: int | None = Field(default=None, gt=0, description="Prompt and completion; null: what it can do.")
    device: Annotated[str, EXECUTION] = Field(default="auto", description="cuda, cuda:1, cpu; auto: a GPU if any.")
    batch_size: Annotated[int, EXECUTION] = Field(default=64, gt=0, description="Sequences decoded together.")
    concurrency: Annotated[int, EXECUTION] = Field(
        default=512, gt=0, description="Requests in flight; more than batch_size lets prompts of like length meet."
    )

    @property
    def gpus_per_replica(self) -> int:
        """One, or none with `device: cpu`."""
        return 0 if self.device == "cpu" else 1


def open_engine(config: Config) -> TransformersEngine:
    """Load the model and its tokenizer.

    Raises:
        EngineUnavailable: there is no such model, or it cannot be loaded.
    """
    import transformers
    from safetensors import SafetensorError

    from personahub.core.engines.local.decode_attention import use_decode_attention

    _check_folder(config.model)
    options = {"revision": config.revision or "main", "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(config.model, **options)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            config.model, dtype=config.dtype, output_loading_info=True, **options
        )
        model, report = loaded
        model = model.to(_device(config.device)).eval()
        use_decode_attention(model)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EngineUnavailable(
            f"{config.model}: cannot be loaded as a causal language model: {_line(error)}"
        ) from None
    if report["missing_keys"]:
        raise EngineUnavailable(f"{config.model}: weights are missing: {', '.join(sorted(report['missing_keys'])[:3])}")
    if config.format == "chat" and not tokenizer.chat_template:
        raise EngineUnavailable(f"{config.model}: its tokenizer has no chat template: set format to plain or auto")
    return TransformersEngine(config, model, tokenizer)


def _check_folder(model: str) -> None:
    """A path gets a message about a path, not about a hub that cannot be reached."""
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise EngineUnavailable(f"{model}: not a model folder (no config.json in it)")
    elif path.exists() or path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise EngineUnavailable(f"{model}: no such model folder")


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class TransformersEngine(Engine[Config]):
    """See the module docstring."""

    def __init__(self, config: Config, model: Any, tokenizer: Any) -> None:
        from personahub.core.engines.local.decoding import DecodeBatch

        super().__init__(config)
        self._tokenizer = tokenizer
        self._max_len = config.max_model_len or _longest(model, tokenizer)
        ends = model.generation_config.eos_token_id
        eos_ids = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(eos_ids, default=0)
        self._batch = DecodeBatch(model, frozenset(eos_ids), pad_id, self._decode)
        self._waiting: list[Row] = []
        self._futures: dict[Row, asyncio.Future[None]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        row = self._row(request)
        future = self._futures[row] = asyncio.get_running_loop().create_future()
        row.is_dropped = future.cancelled
        self._waiting.append(row)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        await future
        text = self._decode(row.tokens)
        for stop in row.stop:
            text = text.partition(stop)[0]
        return Completion(text, row.finish or "stop", len(row.prompt), len(row.tokens), self.config.model)

    async def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        del self._batch  # and with it the model

    def _row(self, request: Request) -> Row:
        """The request as token ids.

        Raises:
            RequestRefused: the prompt is empty, or does not fit into `max_model_len` with its completion.
            EngineUnavailable: it asks for what this engine cannot do.
        """
        from personahub.core.engines.local.decoding import Row

        sampling = request.sampling
        if request.json_schema is not None:
            raise EngineUnavailable("the transformers engine cannot hold a model to a JSON schema: use vLLM's server")
        if unknown := sampling.extra.keys() - {"top_k"}:
            raise EngineUnavailable(
                f"sampling.extra: the transformers engine does not know {', '.join(sorted(unknown))}"
            )
        prompt = self._encode(request)
        if not prompt:
            raise RequestRefused("empty_prompt", "the tokenizer leaves nothing of it")
        if len(prompt) + sampling.max_tokens > self._max_len:
            detail = f"{len(prompt)} prompt tokens + max_tokens {sampling.max_tokens} > {self._max_len}"
            raise RequestRefused("prompt_too_long", detail)
        return Row(
            prompt=prompt,
            max_tokens=sampling.max_tokens,
            seed=request.seed,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=int(sampling.extra.get("top_k", 0)),
            stop=sampling.stop,
        )

    def _encode(self, request: Request) -> list[int]:
        if self.config.format == "plain" or not self._tokenizer.chat_template:
            plain = "\n\n".join(message["content"] for message in request.messages) + "\n"
            return self._tokenizer.encode(plain)
        try:
            text = self._tokenizer.apply_chat_template(
                list(request.messages), tokenize=False, add_generation_prompt=True
            )
        except jinja2.TemplateError as error:
            raise EngineUnavailable(f"{self.config.model}: its chat template refuses these messages: {error}") from None
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    async def _work(self) -> None:
        """Decode until nothing is left; a failure goes to everyone who waits."""
        try:
            while self._waiting or self._batch.rows:
                finished = await asyncio.to_thread(self._advance, self._take_arrivals())
                for row in finished:
                    future = self._futures.pop(row)
                    if not future.done():
                        future.set_result(None)
                await asyncio.sleep(0)  # so that who was answered can ask again before the next arrivals are taken
        except Exception as error:  # noqa: BLE001 - handed on to every waiting request, not swallowed
            failure = _explain_memory(error, self.config)
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(failure)
            self._futures.clear()
            self._waiting.clear()
            self._batch.clear()

    def _take_arrivals(self) -> list[Row]:
        """Rows to admit: the one that waited longest and those whose prompts are nearest to it in length.

        They join in groups, because every group costs a pass of its own.
        """
        free = self.config.batch_size - len(self._batch.rows)
        if (
            not self._waiting
            or not self._batch.takes_rows()
            or (self._batch.rows and free < self.config.batch_size / 4)
        ):
            return []
        length = len(self._waiting[0].prompt)
        arrivals = sorted(self._waiting, key=lambda row: abs(len(row.prompt) - length))[:free]
        taken = set(map(id, arrivals))
        self._waiting = [row for row in self._waiting if id(row) not in taken]
        return arrivals

    def _advance(self, arrivals: list[Row]) -> list[Row]:
        """Admit rows and decode until some are finished, or for a while. Runs on a worker thread."""
        finished = self._batch.admit(arrivals) if arrivals else []
        for _ in range(_STEPS_AT_ONCE):
            if finished or not self._batch.rows:
                break
            finished = self._batch.step()
        return finished


def _longest(model: Any, tokenizer: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return min(positions, tokenizer.model_max_length)


def _explain_memory(error: Exception, config: Config) -> Exception:
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return EngineUnavailable(f"{config.model}: out of GPU memory with batch_size={config.batch_size}: lower it")
    return error
