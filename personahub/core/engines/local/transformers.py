r"""Engine for a local model in this process, with Hugging Face transformers.

    engines:
      student: {kind: transformers, model: runs/quickstart/sft/model, max_model_len: 512}

For small models and small runs; it evaluates the quickstart's student. Requests are decoded in one continuous
batch (`personahub.core.engines.local.decoding`) on a separate thread. Apart from floating-point noise, greedy
answers do not depend on other requests in the batch. Sampled answers depend only on the request's own seed.

With `format: chat`, the tokenizer's chat template makes the prompt from the messages. With `format: plain`, the
prompt is the content of the messages, separated by blank lines, and a final newline. This is for base models;
set stop strings, as the template `base` does. `auto` means chat if the tokenizer has a chat template.
`sampling.extra` may contain `top_k`. Code that comes with a model is never executed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jinja2
from pydantic import Field

from personahub.core.config import EXECUTION
from personahub.core.engines.base import (
    ChatTemplateKwargs,
    Completion,
    Engine,
    EngineUnavailable,
    ReplicatedConfig,
    Request,
    RequestRefused,
)

if TYPE_CHECKING:
    from personahub.core.engines.local.decoding import DecodeRow

_STEPS_PER_ROUND = 32  # decoding steps before new and canceled requests are handled


class Config(ReplicatedConfig):
    """Configuration of the `transformers` engine. The precision is part of its identity; speed settings are not."""

    kind: str = "transformers"
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: as the weights are stored."
    )
    format: Literal["auto", "chat", "plain"] = Field(
        default="auto",
        description="chat: use the chat template; plain: text to continue; auto: chat if there is a template.",
    )
    chat_template_kwargs: ChatTemplateKwargs
    max_model_len: int | None = Field(
        default=None, gt=0, description="Limit on prompt plus completion tokens; null: the model's own limit."
    )
    device: Annotated[str, EXECUTION] = Field(
        default="auto", description="cuda, cuda:1 or cpu; auto: a GPU if there is one."
    )
    batch_size: Annotated[int, EXECUTION] = Field(default=64, gt=0, description="Sequences decoded together.")
    concurrency: Annotated[int, EXECUTION] = Field(
        default=512,
        gt=0,
        description="Requests in flight. More than batch_size allows grouping prompts of similar length.",
    )

    @property
    def gpus_per_replica(self) -> int:
        """One, or none with `device: cpu`."""
        return 0 if self.device == "cpu" else 1


def open_engine(config: Config) -> TransformersEngine:
    """Load the model and its tokenizer.

    Raises:
        EngineUnavailable: the model does not exist or cannot be loaded.
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
            f"{config.model}: cannot be loaded as a causal language model: {_first_line(error)}"
        ) from None
    if report["missing_keys"]:
        raise EngineUnavailable(f"{config.model}: missing weights: {', '.join(sorted(report['missing_keys'])[:3])}")
    if config.chat_template_kwargs and (config.format == "plain" or not tokenizer.chat_template):
        raise EngineUnavailable(
            f"{config.model}: chat_template_kwargs needs a chat template. Remove it, or use another format"
        )
    if config.format == "chat" and not tokenizer.chat_template:
        raise EngineUnavailable(f"{config.model}: the tokenizer has no chat template. Set format to plain or auto")
    return TransformersEngine(config, model, tokenizer)


def _check_folder(model: str) -> None:
    """Check a path first. The error is then about the path, not about an unreachable hub."""
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class TransformersEngine(Engine[Config]):
    """Decodes requests in one continuous batch; see the module docstring."""

    def __init__(self, config: Config, model: Any, tokenizer: Any) -> None:
        from personahub.core.engines.local.decoding import DecodeBatch

        super().__init__(config)
        self._tokenizer = tokenizer
        self._max_len = config.max_model_len or _max_length(model, tokenizer)
        ends = model.generation_config.eos_token_id
        eos_ids = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(eos_ids, default=0)
        self._batch = DecodeBatch(model, frozenset(eos_ids), pad_id, self._decode)
        self._waiting: list[DecodeRow] = []
        self._futures: dict[DecodeRow, asyncio.Future[None]] = {}
        self._decoding: asyncio.Task[None] | None = None

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        row = self._row(request)
        future = self._futures[row] = asyncio.get_running_loop().create_future()
        row.is_dropped = future.cancelled
        self._waiting.append(row)
        if self._decoding is None or self._decoding.done():
            self._decoding = asyncio.create_task(self._decode_all())
        await future
        text = self._decode(row.tokens)
        for stop in row.stop:
            text = text.partition(stop)[0]
        return Completion(text, row.finish or "stop", len(row.prompt), len(row.tokens), self.config.model)

    async def close(self) -> None:
        if self._decoding is not None:
            self._decoding.cancel()
            await asyncio.gather(self._decoding, return_exceptions=True)
        del self._batch  # and the model with it

    def _row(self, request: Request) -> DecodeRow:
        """Convert the request to token ids.

        Raises:
            RequestRefused: the prompt is empty, or prompt and completion do not fit into `max_model_len`.
            EngineUnavailable: the request needs something that this engine does not support.
        """
        from personahub.core.engines.local.decoding import DecodeRow

        sampling = request.sampling
        if request.json_schema is not None:
            raise EngineUnavailable(
                "the transformers engine does not support a JSON schema. Use kind: vllm or a vLLM server"
            )
        if unknown := sampling.extra.keys() - {"top_k"}:
            raise EngineUnavailable(
                f"sampling.extra: the transformers engine does not support {', '.join(sorted(unknown))}"
            )
        prompt = self._encode(request)
        if not prompt:
            raise RequestRefused("empty_prompt", "the tokenizer returns no tokens for it")
        if len(prompt) + sampling.max_tokens > self._max_len:
            detail = f"{len(prompt)} prompt tokens + max_tokens {sampling.max_tokens} > {self._max_len}"
            raise RequestRefused("prompt_too_long", detail)
        return DecodeRow(
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
                list(request.messages), tokenize=False, add_generation_prompt=True, **self.config.chat_template_kwargs
            )
        except jinja2.TemplateError as error:
            raise EngineUnavailable(f"{self.config.model}: the chat template rejects these messages: {error}") from None
        return self._tokenizer.encode(text, add_special_tokens=False)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    async def _decode_all(self) -> None:
        """Decode until no requests are left. An error is passed to all waiting requests."""
        try:
            while self._waiting or self._batch.rows:
                finished = await asyncio.to_thread(self._advance, self._take_arrivals())
                for row in finished:
                    future = self._futures.pop(row)
                    if not future.done():
                        future.set_result(None)
                await asyncio.sleep(0)  # callers may send their next request before arrivals are taken
        except Exception as error:  # noqa: BLE001 - passed to every waiting request, not swallowed
            failure = _explain_memory(error, self.config)
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(failure)
            self._futures.clear()
            self._waiting.clear()
            self._batch.clear()

    def _take_arrivals(self) -> list[DecodeRow]:
        """Choose rows to admit: the longest waiting, and those with similar prompt length.

        Rows join in groups, because every group needs its own pass through the model.
        """
        free = self.config.batch_size - len(self._batch.rows)
        if (
            not self._waiting
            or not self._batch.accepts_rows()
            or (self._batch.rows and free < self.config.batch_size / 4)
        ):
            return []
        length = len(self._waiting[0].prompt)
        arrivals = sorted(self._waiting, key=lambda row: abs(len(row.prompt) - length))[:free]
        taken = set(map(id, arrivals))
        self._waiting = [row for row in self._waiting if id(row) not in taken]
        return arrivals

    def _advance(self, arrivals: list[DecodeRow]) -> list[DecodeRow]:
        """Admit rows and decode until some are finished, for a limited number of steps. Runs in a separate thread."""
        finished = self._batch.admit(arrivals) if arrivals else []
        for _ in range(_STEPS_PER_ROUND):
            if finished or not self._batch.rows:
                break
            finished = self._batch.step()
        return finished


def _max_length(model: Any, tokenizer: Any) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizer.model_max_length
    return min(positions, tokenizer.model_max_length)


def _explain_memory(error: Exception, config: Config) -> Exception:
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return EngineUnavailable(
            f"{config.model}: out of GPU memory with batch_size={config.batch_size}. Reduce batch_size"
        )
    return error
