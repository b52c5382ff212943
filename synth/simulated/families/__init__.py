"""All problem families. `synth.simulated.families.reading` explains the YAML files in this folder."""

from __future__ import annotations

from synth.simulated.families.reading import read_families

FAMILIES = read_families()
