"""What tokens cost."""

from __future__ import annotations

from pydantic import Field

from personahub.core.config import FrozenModel


class Price(FrozenModel):
    """USD per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    as_of: str | None = Field(default=None, description="Where and when this price was read; `plan` prints it.")


def usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float:
    """The cost of tokens; 0 where there is no price."""
    if price is None:
        return 0.0
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6
