"""An experiment: one YAML file as a graph of stages with fingerprints and states.

    experiment: quickstart
    seed: 0
    engines:
      teacher: {kind: simulated, model: simulated-teacher}
    stages:
      documents: {run: personahub.sources, config: {path: texts.jsonl}}
      personas:
        run: personahub.text_to_persona      # the module = the file to open
        inputs: {documents: documents}       # input name -> upstream stage
        config: {engine: teacher}
        execution: {executor: process, workers: 4}
      problems: {adopt: runs/other/problems} # an artifact of another experiment

A stage with `foreach` stands for one stage per arm, seed or other value that `matrix` lists; see
`personahub.core.experiments.matrix`.

A stage's fingerprint covers its module, the module's `VERSION`, the identity of its config and the
fingerprints of its inputs. These determine the records. How and where they are made is not included.
"""

from __future__ import annotations

import graphlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from personahub.core.artifact import FORMAT, SPEC, InputReference, Manifest, open_artifact, read_manifest
from personahub.core.config import (
    FrozenModel,
    StageConfig,
    engine_names,
    identity_of,
    parse_config,
    suggest,
)
from personahub.core.engines import EngineConfig, engine_config, engine_identity
from personahub.core.errors import StaleArtifactError, UserError
from personahub.core.experiments.matrix import expand_matrix
from personahub.core.experiments.yaml_file import load_yaml
from personahub.core.identity import digest
from personahub.core.stage import Execution, StageSpec, load_stage_module
from personahub.core.tracking.tracker import TrackingConfig

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # of a folder: not hidden, and not outside of `runs/`


class StageEntry(FrozenModel):
    """One entry of the YAML's `stages:`: a module to run, or an artifact to adopt.

    `inputs: all` names every stage that does not have `inputs: all` itself, under its own name.
    """

    run: str | None = None
    adopt: str | None = None
    inputs: dict[str, str] | Literal["all"] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    execution: Execution = Execution()
    axes: dict[str, str] = Field(default_factory=dict)  # the value that `foreach` chose, by axis; only for tracking

    @field_validator("inputs", mode="before")
    @classmethod
    def _names_of_stages(cls, inputs: Any) -> Any:
        named = isinstance(inputs, Mapping) and all(isinstance(stage, str) for stage in inputs.values())
        if not named and inputs != "all":
            raise ValueError("must map the stage's inputs to names of stages, as in {documents: sources}")
        return inputs

    @model_validator(mode="after")
    def _one_of(self) -> StageEntry:
        if (self.run is None) == (self.adopt is None):
            raise ValueError("a stage needs either `run: module` or `adopt: path/of/artifact`")
        if self.adopt is not None and (self.inputs or self.config):
            raise ValueError("an adopted stage must not have `inputs` or `config`: the artifact has its own")
        return self


class ExperimentConfig(FrozenModel):
    """The whole YAML file."""

    experiment: str = Field(pattern=_NAME)
    seed: int = Field(default=0, ge=0)
    description: str = ""
    engines: dict[str, dict[str, Any]] = Field(default_factory=dict)
    stages: dict[Annotated[str, Field(pattern=_NAME)], StageEntry] = Field(min_length=1)
    tracking: TrackingConfig = TrackingConfig()


State = Literal["cached", "partial", "stale", "damaged", "missing"]


@dataclass(frozen=True)
class PlannedStage:
    """A stage of an experiment: its artifact's path, expected content and state."""

    name: str
    path: Path
    entry: StageEntry
    spec: StageSpec | None  # None: adopted
    config: StageConfig | None
    fingerprint: str
    state: State
    upstream: Mapping[str, str]  # stage by input name
    found: Mapping[str, Any]  # identity of the existing artifact, to explain why it is stale; or what is damaged


@dataclass(frozen=True)
class Experiment:
    """All stages, in an order in which they can run."""

    name: str
    folder: Path
    engines: Mapping[str, EngineConfig]
    stages: Mapping[str, PlannedStage]

    def stage(self, name: str) -> PlannedStage:
        """Return a stage by name.

        Raises:
            UserError: there is no such stage. The message suggests the nearest name.
        """
        if name not in self.stages:
            raise UserError(f"no stage {name!r} in this experiment. {suggest(name, self.stages)}")
        return self.stages[name]

    def dependents(self, name: str) -> list[str]:
        """Return `name` and all stages that depend on it, in order."""
        found = {self.stage(name).name}
        for stage in self.stages.values():
            if found.intersection(stage.upstream.values()):
                found.add(stage.name)
        return [stage for stage in self.stages if stage in found]

    def needed(self, names: Iterable[str]) -> list[str]:
        """Return `names` and all stages they depend on, in order."""
        wanted = {self.stage(name).name for name in names}
        for stage in reversed(list(self.stages.values())):
            if stage.name in wanted:
                wanted.update(stage.upstream.values())
        return [stage for stage in self.stages if stage in wanted]


def load_experiment(path: str | Path, overrides: Sequence[str] = (), runs: str | Path = "runs") -> Experiment:
    """Load a YAML file and determine the state of each stage.

    Costs nothing and changes nothing.

    Args:
        path: the experiment's YAML file.
        overrides: `key=value` strings, applied last.
        runs: folder of all experiments.

    Raises:
        UserError: the YAML is not valid. The message has the key's path.
    """
    values = expand_matrix(load_yaml(path, overrides))
    try:
        config = parse_config(ExperimentConfig, values, "")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    engines = {name: engine_config(values, f"engines.{name}") for name, values in config.engines.items()}
    identities = {name: engine_identity(engine) for name, engine in engines.items()}
    folder = Path(runs) / config.experiment
    stages: dict[str, PlannedStage] = {}
    for name in _sorted_names(config):
        entry = config.stages[name]
        if entry.adopt is not None:
            stages[name] = _adopt(name, entry)
        else:
            inputs = {key: stages[upstream] for key, upstream in _inputs(config, name).items()}
            stages[name] = _plan_stage(name, entry, config, engines, identities, folder / name, inputs)
    return Experiment(config.experiment, folder, engines, stages)


def refresh_states(experiment: Experiment) -> Experiment:
    """Return the experiment with current states. Another run may have changed them since it was loaded."""
    stages = {}
    for name, stage in experiment.stages.items():
        if stage.spec is not None:
            state, found = _inspect(stage.path, stage.spec)
            stage = replace(stage, state=state, found=found)
        stages[name] = stage
    return replace(experiment, stages=stages)


def _inputs(config: ExperimentConfig, name: str) -> dict[str, str]:
    inputs = config.stages[name].inputs
    if inputs == "all":
        return {other: other for other, entry in config.stages.items() if entry.inputs != "all"}
    return inputs


def _sorted_names(config: ExperimentConfig) -> list[str]:
    """Return the stages' names, each after its inputs. Otherwise keep the order of the YAML."""
    graph = {name: list(_inputs(config, name).values()) for name in config.stages}
    for name, upstreams in graph.items():
        for upstream in upstreams:
            if upstream not in graph:
                raise UserError(f"stages.{name}.inputs: no stage {upstream!r}. {suggest(upstream, graph)}")
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise UserError(f"stages depend on each other in a circle: {' -> '.join(error.args[1])}") from None
    ordered: list[str] = []
    ready: set[str] = set()
    while sorter.is_active():
        ready.update(sorter.get_ready())
        name = next(name for name in graph if name in ready)
        ready.remove(name)
        ordered.append(name)
        sorter.done(name)
    return ordered


def _adopt(name: str, entry: StageEntry) -> PlannedStage:
    path = Path(str(entry.adopt))
    try:
        artifact = open_artifact(path)
    except UserError as error:
        raise UserError(f"stages.{name}.adopt: {error}") from None
    return PlannedStage(name, path, entry, None, None, artifact.fingerprint, "cached", {}, artifact.manifest.identity)


def _plan_stage(
    name: str,
    entry: StageEntry,
    experiment: ExperimentConfig,
    engines: Mapping[str, EngineConfig],
    identities: Mapping[str, Any],
    path: Path,
    inputs: Mapping[str, PlannedStage],
) -> PlannedStage:
    where = f"stages.{name}"
    module = load_stage_module(str(entry.run), where)
    _check_inputs(str(entry.run), inputs, module.INPUTS, where)
    config = parse_config(module.Config, {"seed": experiment.seed, **entry.config}, f"{where}.config")
    used = sorted(engine_names(config))
    for engine in used:
        if engine not in engines:
            raise UserError(f"{where}.config: no engine {engine!r} under `engines:`. {suggest(engine, engines)}")
    try:
        identity = identity_of(config, identities)
    except UserError as error:
        raise UserError(f"{where}.config.{error}") from None
    fingerprint = digest(
        FORMAT, entry.run, module.VERSION, identity, {key: stage.fingerprint for key, stage in inputs.items()}
    )
    spec = StageSpec(
        experiment=experiment.experiment,
        stage=name,
        module=str(entry.run),
        version=module.VERSION,
        fingerprint=fingerprint,
        identity=identity,
        config=config.model_dump(mode="json"),
        inputs={k: InputReference(path=str(s.path), fingerprint=s.fingerprint) for k, s in inputs.items()},
        engines={engine: experiment.engines[engine] for engine in used},
        execution=entry.execution,
        tracking=experiment.tracking,
        axes=entry.axes,
    )
    state, found = _inspect(path, spec)
    return PlannedStage(
        name,
        path,
        entry,
        spec,
        config,
        fingerprint,
        state,
        {key: upstream.name for key, upstream in inputs.items()},
        found,
    )


def _check_inputs(module: str, inputs: Iterable[str], names: Sequence[str], where: str) -> None:
    """Check inputs against `INPUTS`. A question mark marks an optional name, and `*` allows any others."""
    valid = [name.rstrip("?") for name in names]
    for name in () if "*" in names else inputs:
        if name not in valid:
            raise UserError(f"{where}.inputs: {module} has no input {name!r}. {suggest(name, valid)}")
    for name in names:
        if name != "*" and not name.endswith("?") and name not in inputs:
            raise UserError(f"{where}.inputs: {module} needs the input {name!r}: name the stage that makes it")


def _inspect(path: Path, spec: StageSpec) -> tuple[State, Mapping[str, Any]]:
    try:
        manifest = read_manifest(path)
    except UserError as error:
        return "damaged", {"damage": str(error)}
    if manifest is not None:
        return ("cached" if manifest.fingerprint == spec.fingerprint else "stale"), describe(manifest)
    try:
        found = json.loads((path / SPEC).read_text(encoding="utf-8"))
        fingerprint = found["fingerprint"]
    except (FileNotFoundError, NotADirectoryError):
        if not any(path.glob("[0-9]*.parquet")):
            return "missing", {}
        return "damaged", {"damage": f"{path}: shards without {SPEC}; rebuild the stage with run --redo {path.name}"}
    except (ValueError, KeyError, TypeError):
        return "damaged", {"damage": f"{path / SPEC}: damaged; rebuild the stage with run --redo {path.name}"}
    return ("partial" if fingerprint == spec.fingerprint else "stale"), describe(found)


def describe(found: Manifest | Mapping[str, Any]) -> dict[str, Any]:
    """Return how an artifact was made, for `diff` and `stale_error`."""
    values = found.model_dump(mode="json") if isinstance(found, Manifest) else found
    inputs = {name: reference["fingerprint"] for name, reference in values.get("inputs", {}).items()}
    return {
        "run": values.get("module"),
        "version": values.get("version"),
        "config": values.get("identity"),
        "inputs": inputs,
    }


def stale_error(stage: PlannedStage) -> StaleArtifactError:
    """Return an error that explains what differs and names the two ways to continue."""
    wanted = describe(stage.spec.model_dump(mode="json")) if stage.spec else {}
    differences = "; ".join(describe_differences(stage.found, wanted)) or "by a different version of this package"
    return StaleArtifactError(
        f"{stage.path} was made differently: {differences}. "
        f"Keep it and choose another name (experiment=NAME), or replace it with run --redo {stage.name}"
    )


def describe_differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return `key: old -> new` for every leaf in which two nested mappings differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in sorted({*old, *new}):
            below = f"{path}.{key}" if path else str(key)
            lines += describe_differences(old.get(key), new.get(key), below)
        return lines
    if old == new:
        return []
    return [f"{path}: {_shorten(old)} -> {_shorten(new)}"]


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
