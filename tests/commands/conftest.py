"""Fixtures that run stages, shared with the tests of the persona stages."""

from tests.personahub.conftest import load, run

__all__ = ["load", "run"]
