"""Measures the diversity of text collections as they grow, which shows saturation.

    diversity:
      run: eval.diversity
      inputs: {personas: personas, problems: problems, solutions: verified}
      config: {embedder: {kind: minilm}, max_texts: 2000}

The name of an input, up to a dash, determines the column that is measured: `persona` of `personas`, `problem` of
`problems` or `problems-with-0`, `solution` of `solutions`. `columns:` overrides this. From each collection the stage
measures a seeded sample of `max_texts`, and random subsets of the sample at every size.

The records are the measures by collection and size: the mean over `draws` subsets with a 95% interval. The
summary has the same by collection, with the duplicate rate at every threshold, distinct-1 to 4, and the
topics: clusters shared by all collections of one column, named by their words. docs/experiments.md has the
formulas. `map.parquet`, next to the records, places texts in two dimensions (`eval.vectors.embedding_map`).
For figure 10 of the paper see `eval.similarity`.

Intervals come from subsampling (Politis & Romano 1994, Annals of Statistics 22:2031-2050). A bootstrap draws with
replacement and would create duplicates where there are none. Take the standard deviation of a measure over random
subsets of b texts from a sample of n, and divide it by sqrt(1 - b / n), because subsets of one sample overlap: this
is the standard error at b texts. At m > n / 2 texts, the value for b = n / 2 is used, times sqrt(b / m). An interval
tells what another sample of the same size from the collection might give.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from eval.stats.crossed import t_quantile
from eval.stats.measures import (
    compression_ratio,
    distinct_n,
    mean_pairwise_cosine,
    nearest_cosine,
    vendi_score,
    wilson_interval,
)
from eval.vectors.embedding_map import embedding_map
from eval.vectors.topics import Topics, coverage, find_topics
from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig, suggest
from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import derive_seed
from personahub.core.records import Row
from personahub.core.stage import Stage

VERSION = "4"
INPUTS = ("*",)

MEASURES = (
    *("mean_cosine", "nearest_cosine", "duplicate_rate", "vendi", "distinct_2", "compression_ratio"),
    *("topics_covered", "effective_topics"),
)
CURVE = pa.schema(
    [
        ("collection", pa.string()),
        ("column", pa.string()),
        ("size", pa.int64()),
        ("measure", pa.string()),
        ("value", pa.float64()),  # mean over the draws
        ("low", pa.float64()),  # ends of the 95% interval
        ("high", pa.float64()),
    ]
)
_RANGES = {
    "mean_cosine": (-1.0, 1.0),
    "nearest_cosine": (-1.0, 1.0),
    "duplicate_rate": (0.0, 1.0),
    "vendi": (1.0, math.inf),
    "distinct_2": (0.0, 1.0),
    "compression_ratio": (0.0, math.inf),
    "topics_covered": (0.0, 1.0),
    "effective_topics": (1.0, math.inf),
}
MAP = pa.schema(
    [
        ("column", pa.string()),
        ("collection", pa.string()),
        ("x", pa.float64()),  # both between 0 and 1
        ("y", pa.float64()),
        ("topic", pa.string()),  # its words; the map has few topics, so that each gets a color
        ("text", pa.string()),
    ]
)
MAP_FILE = "map.parquet"
_MAP_TOPICS = 8
_MAP_TEXT = 400  # characters of each text on the map
_SMALLEST = 25


class Config(StageConfig):
    """What to measure, and on how many texts."""

    embedder: EmbedderConfig = Field(default=EmbedderConfig(kind="minilm"), description="Embedder for all texts.")
    columns: dict[str, str] = Field(
        default_factory=dict, description="Column to measure by input name, if the name does not determine it."
    )
    max_texts: int = Field(
        default=2_000, gt=1, description="Measure a seeded sample of each collection, at most this large."
    )
    draws: int = Field(
        default=10, gt=1, description="Random subsets measured at every size; their spread gives the intervals."
    )
    topics: int = Field(
        default=50, gt=1, description="Number of clusters for the texts of all collections of one column."
    )
    duplicate_threshold: float = Field(default=0.9, gt=0, le=1, description="Cosine for the curve of duplicates.")
    duplicate_thresholds: tuple[float, ...] = Field(
        default=(0.7, 0.8, 0.85, 0.9, 0.95, 0.99),
        description="A text is a duplicate if its cosine to the nearest text reaches the threshold.",
    )
    map_texts: int = Field(
        default=400,
        ge=0,
        le=2_000,
        description="Texts of each column on the map; 0: no map. Time grows with the square of this number.",
    )


@dataclass(frozen=True)
class Collection:
    """The sample of one input. Texts, embeddings and topics are in the same order."""

    name: str
    column: str
    total: int
    texts: Sequence[str]
    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    topics: int


def run(stage: Stage[Config]) -> None:
    """Samples, embeds, clusters and measures."""
    config = stage.config
    collections, topics = _collections(stage)
    results = {}
    with stage.writer("00000", CURVE) as writer, stage.progress(len(collections), "collections") as progress:
        for collection in collections:
            curve = measure_curve(collection, config)
            for row in curve:
                writer.write({"collection": collection.name, "column": collection.column, **row})
            results[collection.name] = _summary(collection, curve, config)
            progress.update()
        writer.rows_in = sum(collection.total for collection in collections)
    if config.map_texts:
        places = [row for column in topics for row in _places(column, collections, config)]
        pq.write_table(pa.Table.from_pylist(places, MAP), stage.path / MAP_FILE)
    stage.report(
        collections=results,
        topics={column: _topic_table(found, collections, column) for column, found in topics.items()},
        duplicate_threshold=config.duplicate_threshold,
        draws=config.draws,
        embedder=describe(config.embedder),
    )


def _collections(stage: Stage[Config]) -> tuple[list[Collection], dict[str, Topics]]:
    if not stage.inputs:
        raise UserError(f"stages.{stage.name}.inputs: name what to measure, such as {{personas: personas}}")
    columns = {name: _column(stage, name, artifact) for name, artifact in stage.inputs.items()}
    samples = {name: _texts(stage, artifact, columns[name]) for name, artifact in stage.inputs.items()}
    distinct = list(dict.fromkeys(text for texts in samples.values() for text in texts))
    with stage.progress(len(distinct), "texts") as progress:
        embedded = dict(zip(distinct, embed(distinct, stage.config.embedder, progress.update), strict=True))
    found: dict[str, Topics] = {}
    collections = []
    for column in dict.fromkeys(columns.values()):
        names = [name for name in columns if columns[name] == column]
        texts = [text for name in names for text in samples[name]]
        vectors = np.stack([embedded[text] for text in texts])
        topics = find_topics(vectors, texts, stage.config.topics, derive_seed(stage.config.seed, "topics", column))
        found[column] = topics
        start = 0
        for name in names:
            part = slice(start, start := start + len(samples[name]))
            total = stage.input(name).num_rows
            collections.append(
                Collection(name, column, total, samples[name], vectors[part], topics.labels[part], len(topics.names))
            )
    return collections, found


def _column(stage: Stage[Config], name: str, artifact: Artifact) -> str:
    column = stage.config.columns.get(name) or name.partition("-")[0].removesuffix("s")
    shard = artifact.shard_names[0] if artifact.shard_names else None
    names = pq.read_schema(artifact.path / f"{shard}.parquet").names if shard else []
    if column not in names:
        raise UserError(
            f"stages.{stage.name}.config.columns: {artifact.path} has no column {column!r}; name the column with the texts"
            f" of input {name!r}. {suggest(column, names)}"
        )
    return column


def _texts(stage: Stage[Config], artifact: Artifact, column: str) -> list[str]:
    with_text = (row for row in artifact.rows(["id", column]) if row[column])
    rows = sample(with_text, stage.config.max_texts, stage.config.seed)
    if len(rows) < 2:
        raise UserError(f"{artifact.path}: diversity needs at least two texts, not {len(rows)}")
    return [row[column] for row in rows]


def sample(rows: Iterable[Row], size: int, seed: int) -> list[Row]:
    """Chooses `size` rows by id, whatever their order or sharding. The result is in hash order."""
    return heapq.nsmallest(size, rows, key=lambda row: derive_seed(seed, "sample", row["id"]))


def sizes_up_to(total: int) -> list[int]:
    """Returns 25, 50, 100, ... and the total."""
    sizes = []
    size = _SMALLEST
    while size < total:
        sizes.append(size)
        size *= 2
    return [*sizes, total]


def measure_curve(collection: Collection, config: Config) -> list[Row]:
    """Computes every measure at every size. Gives the mean over random subsets and its 95% interval."""
    generator = np.random.default_rng(derive_seed(config.seed, "curve", collection.column))
    total = len(collection.texts)
    orders = [generator.permutation(total) for _ in range(config.draws)]
    halves = _values(collection, orders, max(total // 2, 2), config)
    rows = []
    for size in sizes_up_to(total):
        # order does not matter for the whole sample, except to compression, whose window is limited
        found = _values(collection, orders[:1] if size == total else orders, size, config)
        part, spread = (size, found) if size <= total // 2 else (max(total // 2, 2), halves)
        for name in MEASURES:
            value = float(np.mean(found[name]))
            error = _standard_error(spread[name], part, size, total)
            low, high = _interval(name, value, t_quantile(0.95, config.draws - 1) * error, size)
            rows.append({"size": size, "measure": name, "value": value, "low": low, "high": high})
    return rows


def _values(
    collection: Collection, orders: Sequence[NDArray[np.int64]], size: int, config: Config
) -> dict[str, list[float]]:
    found = [measure(collection, order[:size], config.duplicate_threshold) for order in orders]
    return {name: [each[name] for each in found] for name in MEASURES}


def _standard_error(values: Sequence[float], part: int, size: int, total: int) -> float:
    """Returns the standard error at `size` texts. `values` come from random subsets of `part` of `total` texts."""
    if part >= total:  # two texts have no subsets that differ
        return 0.0
    return float(np.std(values, ddof=1)) * math.sqrt(part / size / (1 - part / total))


def _interval(name: str, value: float, half_width: float, size: int) -> tuple[float, float]:
    """Returns the ends of an interval, clipped to the measure's range.

    The duplicate rate also gets Wilson's interval: no duplicate in the sample does not mean none in the collection.
    """
    low, high = value - half_width, value + half_width
    if name == "duplicate_rate":
        wilson = wilson_interval(round(value * size), size)
        low, high = min(low, wilson.low), max(high, wilson.high)
    least, largest = _RANGES[name]
    return min(max(low, least), value), max(min(high, largest), value)


def measure(collection: Collection, chosen: NDArray[np.int64], duplicate_threshold: float) -> dict[str, float]:
    """Computes all measures of the chosen texts."""
    vectors = collection.vectors[chosen]
    texts = [collection.texts[int(number)] for number in chosen]
    nearest = nearest_cosine(vectors)
    covered, effective = coverage(collection.labels[chosen], collection.topics)
    return {
        "mean_cosine": mean_pairwise_cosine(vectors),
        "nearest_cosine": float(nearest.mean()),
        "duplicate_rate": float(np.mean(nearest >= duplicate_threshold)),
        "vendi": vendi_score(vectors),
        "distinct_2": distinct_n(texts, 2),
        "compression_ratio": compression_ratio(texts),
        "topics_covered": covered,
        "effective_topics": effective,
    }


def _summary(collection: Collection, curve: Sequence[Row], config: Config) -> dict[str, Any]:
    nearest = nearest_cosine(collection.vectors)
    points: dict[str, list[list[float]]] = {name: [] for name in MEASURES}
    for row in curve:
        points[row["measure"]].append([row["size"], *(round(row[key], 4) for key in ("value", "low", "high"))])
    return {
        "column": collection.column,
        "total": collection.total,
        "texts": len(collection.texts),
        "duplicate_rates": [
            {"threshold": threshold, "rate": round(float(np.mean(nearest >= threshold)), 4)}
            for threshold in config.duplicate_thresholds
        ],
        "distinct": {str(n): round(distinct_n(collection.texts, n), 4) for n in (1, 2, 3, 4)},
        "curves": points,
    }


def _topic_table(topics: Topics, collections: Sequence[Collection], column: str) -> list[dict[str, Any]]:
    """Lists topics, most frequent first, with the number of texts of each collection."""
    counts = {
        collection.name: np.bincount(collection.labels, minlength=len(topics.names))
        for collection in collections
        if collection.column == column
    }
    total: Callable[[int], int] = lambda topic: sum(int(count[topic]) for count in counts.values())  # noqa: E731
    order = sorted(range(len(topics.names)), key=lambda topic: (-total(topic), topic))
    return [
        {"words": topics.names[topic], "texts": {name: int(count[topic]) for name, count in counts.items()}}
        for topic in order
    ]


def _places(column: str, collections: Sequence[Collection], config: Config) -> list[Row]:
    """Maps a column of texts. Equally many from each collection are placed and clustered together."""
    same = [collection for collection in collections if collection.column == column]
    share = max(config.map_texts // len(same), 2)
    vectors = np.vstack([collection.vectors[:share] for collection in same])
    shown = [(collection.name, text) for collection in same for text in collection.texts[:share]]
    topics = find_topics(vectors, [text for _, text in shown], _MAP_TOPICS, derive_seed(config.seed, "map", column))
    places = embedding_map(vectors).tolist()
    return [
        {"column": column, "collection": name, "x": x, "y": y, "topic": topics.names[label], "text": text[:_MAP_TEXT]}
        for (name, text), (x, y), label in zip(shown, places, topics.labels, strict=True)
    ]


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Makes no requests: embedding runs in this process."""
    texts = sum(min(rows, config.max_texts) for rows in rows_in.values())
    rows = sum(len(MEASURES) * len(sizes_up_to(min(rows, config.max_texts))) for rows in rows_in.values() if rows)
    return Forecast(rows_out=rows, disk_bytes=60 * rows, notes=(f"embeds about {texts:,} texts",))
