"""The price of tokens."""

from __future__ import annotations

from pydantic import Field

from personahub.core.config import FrozenModel


class Price(FrozenModel):
    """USD per million tokens."""

    input: float = Field(ge=0, description="USD per million prompt tokens.")
    output: float = Field(ge=0, description="USD per million completion tokens.")
    as_of: str | None = Field(default=None, description="Source and date of this price; `plan` prints it.")

    def halved(self) -> Price:
        """Returns half the price, as Batch APIs charge."""
        return self.model_copy(update={"input": self.input / 2, "output": self.output / 2})


def usd(price: Price | None, prompt_tokens: int, completion_tokens: int) -> float:
    """Returns the cost of tokens in USD; 0 without a price."""
    if price is None:
        return 0.0
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6
