"""Engine for a local model on GPUs, in this process, with vLLM's async engine.

    engines:
      teacher: {kind: vllm, model: Qwen/Qwen2.5-72B-Instruct, tensor_parallel_size: 8, max_model_len: 8192}

Requests join vLLM's continuous batch one by one and leave it when they are done, so the GPUs never wait for the
slowest request of a batch. The tokenizer's chat template makes the prompt. Each request has its own seed, but
floating-point sums depend on the other requests in the batch. A sampled answer may therefore differ between
runs where two tokens are almost equally likely.

`sampling.extra` may contain any argument of `SamplingParams` (`top_k`, `min_p`, `repetition_penalty`, `logprobs`,
...). `engine_args` contains further arguments of vLLM's `AsyncEngineArgs`. With `executor: ray`, tensor and
pipeline parallelism may span the nodes of a Ray cluster; `replicas` runs whole engines on the nodes
(`personahub.core.engines.local.replicas`). Code that comes with a model is never executed.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
from pydantic import Field, model_validator

from personahub.core.config import EXECUTION
from personahub.core.engines.base import (
    ChatTemplateKwargs,
    Completion,
    Engine,
    EngineDied,
    EngineUnavailable,
    ReplicatedConfig,
    Request,
    RequestRefused,
)


class Config(ReplicatedConfig):
    """Configuration of the `vllm` engine. Precision and quantization are part of its identity; speed settings are not."""

    kind: str = "vllm"
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: as the weights are stored."
    )
    quantization: str | None = Field(default=None, description="A quantization method of vLLM: fp8, awq, ...")
    chat_template_kwargs: ChatTemplateKwargs
    max_model_len: int | None = Field(
        default=None, gt=0, description="Limit on prompt plus completion tokens; null: the model's own limit."
    )
    engine_args: dict[str, Any] = Field(default_factory=dict, description="Further arguments of AsyncEngineArgs.")
    tensor_parallel_size: Annotated[int, EXECUTION] = Field(
        default=1, gt=0, description="Number of GPUs that share each layer."
    )
    pipeline_parallel_size: Annotated[int, EXECUTION] = Field(
        default=1, gt=0, description="Number of groups of layers, each on its own GPUs."
    )
    executor: Annotated[Literal["auto", "mp", "ray"], EXECUTION] = Field(
        default="auto", description="ray: span the nodes of a Ray cluster."
    )
    device: Annotated[Literal["gpu", "cpu"], EXECUTION] = Field(
        default="gpu",
        description="What replicas request from the Ray cluster. cpu: no GPUs, for a CPU build of vLLM. The build of "
        "vLLM alone decides where the model runs.",
    )
    gpu_memory_utilization: Annotated[float, EXECUTION] = Field(default=0.9, gt=0, le=1)
    max_num_seqs: Annotated[int, EXECUTION] = Field(default=256, gt=0, description="Sequences decoded together.")
    enable_prefix_caching: Annotated[bool, EXECUTION] = True
    enforce_eager: Annotated[bool, EXECUTION] = Field(
        default=False, description="Disable CUDA graphs: vLLM starts faster."
    )
    tokens_per_second: Annotated[float | None, EXECUTION] = Field(
        default=None,
        gt=0,
        description="Measured completion tokens per second of one replica; `plan` computes GPU-hours from it.",
    )
    concurrency: Annotated[int, EXECUTION] = Field(
        default=512, gt=0, description="Requests in flight. More than max_num_seqs keeps the batch full."
    )

    @property
    def gpus_per_replica(self) -> int:
        """GPUs of one whole engine."""
        return 0 if self.device == "cpu" else self.tensor_parallel_size * self.pipeline_parallel_size

    def gpu_hours(self, completion_tokens: int) -> float | None:
        """Estimate the GPU-hours; None if `tokens_per_second` is not set."""
        if self.tokens_per_second is None:
            return None
        return completion_tokens / self.tokens_per_second * self.gpus_per_replica / 3600

    @model_validator(mode="after")
    def _replicas_stay_on_a_node(self) -> Config:
        if self.replicas > 1 and self.executor == "ray":
            raise ValueError("each replica runs on one node: remove `executor: ray`, or set replicas to 1")
        return self


def open_engine(config: Config) -> VllmEngine:
    """Start vLLM and load the model; needs a running event loop.

    Raises:
        EngineUnavailable: the model does not exist, or vLLM cannot load it.
    """
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    from vllm import AsyncEngineArgs  # pyright: ignore
    from vllm.platforms import current_platform  # pyright: ignore
    from vllm.v1.engine.async_llm import AsyncLLM  # pyright: ignore

    path = Path(config.model).expanduser()
    if path.exists() and not (path / "config.json").is_file():
        raise EngineUnavailable(f"{config.model}: not a model folder (no config.json in it)")
    arguments: dict[str, Any] = {
        # absolute, because with `executor: ray` processes in other working directories load it
        "model": str(path.absolute()) if path.exists() else config.model,
        "revision": config.revision,
        "dtype": config.dtype,
        "quantization": config.quantization,
        "max_model_len": config.max_model_len,
        "tensor_parallel_size": config.tensor_parallel_size,
        "pipeline_parallel_size": config.pipeline_parallel_size,
        "distributed_executor_backend": None if config.executor == "auto" else config.executor,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "max_num_seqs": config.max_num_seqs,
        "enable_prefix_caching": config.enable_prefix_caching,
        "enforce_eager": config.enforce_eager,
        "trust_remote_code": False,
    }
    if current_platform.is_cpu():
        # Chunked prefill rewinds a request's generator, which CPU generators do not support: 0.32 crashes.
        arguments["enable_chunked_prefill"] = False
    if taken := arguments.keys() & config.engine_args.keys():
        raise EngineUnavailable(f"engine_args: {', '.join(sorted(taken))} cannot be set there")
    try:
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments, **config.engine_args))
    except TypeError as error:  # an argument that AsyncEngineArgs does not have
        raise EngineUnavailable(f"engine_args: {_one_line(error)}") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise EngineUnavailable(f"{config.model}: vLLM cannot load the model: {_one_line(error)}") from None
    return VllmEngine(config, engine)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


class VllmEngine(Engine[Config]):
    """Passes requests to vLLM; see the module docstring."""

    def __init__(self, config: Config, engine: Any) -> None:
        super().__init__(config)
        self._engine = engine
        self._tokenizer = engine.get_tokenizer()
        self._max_len: int = engine.model_config.max_model_len
        self._numbers = itertools.count()

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore

        prompt = self._encode(request)
        parameters = self._parameters(request)
        if len(prompt) + request.sampling.max_tokens > self._max_len:
            detail = f"{len(prompt)} prompt tokens + max_tokens {request.sampling.max_tokens} > {self._max_len}"
            raise RequestRefused("prompt_too_long", detail)
        final = None
        try:
            async for output in self._engine.generate(
                {"prompt_token_ids": prompt}, parameters, request_id=str(next(self._numbers))
            ):
                final = output
        except EngineDeadError as error:
            raise EngineDied(f"{self.config.model}: vLLM has stopped: {_one_line(error)}") from None
        except ValueError as error:  # vLLM rejects the request
            raise RequestRefused("bad_request", _one_line(error)) from None
        assert final is not None  # noqa: S101
        (answer,) = final.outputs
        return Completion(
            text=answer.text,
            finish_reason="length" if answer.finish_reason == "length" else "stop",
            prompt_tokens=len(prompt),
            completion_tokens=len(answer.token_ids),
            model=self.config.model,
            logprobs=self._logprobs(answer),
        )

    async def close(self) -> None:
        self._engine.shutdown()
        del self._engine  # its cleanup on deletion would fail during interpreter shutdown

    def _encode(self, request: Request) -> list[int]:
        try:
            encoded = self._tokenizer.apply_chat_template(
                list(request.messages),
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                **self.config.chat_template_kwargs,
            )
        except jinja2.TemplateError as error:
            raise EngineUnavailable(f"{self.config.model}: the chat template rejects these messages: {error}") from None
        except ValueError as error:  # the tokenizer has no chat template
            raise EngineUnavailable(f"{self.config.model}: {_one_line(error)}") from None
        return encoded["input_ids"]

    def _parameters(self, request: Request) -> Any:
        from vllm import SamplingParams  # pyright: ignore
        from vllm.sampling_params import (  # pyright: ignore
            RequestOutputKind,
            StructuredOutputsParams,
        )

        sampling = request.sampling
        extra = dict(sampling.extra)
        if isinstance(extra.get("logprobs"), bool):  # as in the chat API
            extra["logprobs"] = 0 if extra["logprobs"] else None
        schema = request.json_schema
        values = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "seed": request.seed,
            "structured_outputs": StructuredOutputsParams(json=schema) if schema is not None else None,
            "output_kind": RequestOutputKind.FINAL_ONLY,
        }
        if taken := {"n", *values} & extra.keys():
            raise EngineUnavailable(f"sampling.extra: {', '.join(sorted(taken))} cannot be set there")
        try:
            return SamplingParams(**values, **extra)
        except (TypeError, ValueError) as error:
            raise EngineUnavailable(f"sampling: vLLM rejects the parameters: {_one_line(error)}") from None

    def _logprobs(self, answer: Any) -> list[tuple[str, float]] | None:
        if answer.logprobs is None:
            return None
        pairs = []
        for token, options in zip(answer.token_ids, answer.logprobs, strict=True):
            chosen = options[token]
            pairs.append((chosen.decoded_token or "", float(chosen.logprob)))
        return pairs
