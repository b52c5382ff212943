"""All problem families, by subject. To add one, append it to `FAMILIES` in its subject's module."""

from __future__ import annotations

from synth.simulated.families import (
    algebra,
    counting_probability,
    geometry,
    intermediate_algebra,
    number_theory,
    prealgebra,
    precalculus,
)
from synth.simulated.grammar import Family

FAMILIES: tuple[Family, ...] = (
    *algebra.FAMILIES,
    *counting_probability.FAMILIES,
    *geometry.FAMILIES,
    *intermediate_algebra.FAMILIES,
    *number_theory.FAMILIES,
    *prealgebra.FAMILIES,
    *precalculus.FAMILIES,
)
