"""A position in a list of tokens, and the state of the grammar while it moves."""

from __future__ import annotations

from personahub.core.answers.reading.tokens import Token, Unreadable

MAX_LEVELS = 30  # deepest nesting of brackets, groups, functions and signs
_QUANTIFIERS = {r"\forall", r"\exists", r"\nexists"}
END = Token("end_of_text", "", False)


class Cursor:
    """A list of tokens read from left to right."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.bars = 0  # number of open |absolute value| bars, which look the same at both ends
        self.in_set = 0
        self.french = 0  # inside ]a, b[
        self.depth = 0
        symbols = {token.value for token in tokens if token.kind == "symbol"}
        values = {name for name in symbols if name.startswith("\\")}  # commands without a known meaning
        self.ordered = bool(values)
        self.quantified = not values.isdisjoint(_QUANTIFIERS)
        self.formula = self.quantified or r"\neg" in values or any(token.kind in ("land", "lor") for token in tokens)

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else END

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def deeper(self) -> None:
        """Enters one more level of recursion; the caller restores the level."""
        self.depth += 1
        if self.depth > MAX_LEVELS:
            raise Unreadable("nested too deeply")

    def accept(self, kind: str, value: str | None = None) -> bool:
        token = self.peek()
        if token.kind == kind and (value is None or token.value == value):
            self.position += 1
            return True
        return False

    def expect(self, kind: str) -> None:
        if not self.accept(kind):
            raise Unreadable(f"expected {kind} at {self.peek().value!r}")
