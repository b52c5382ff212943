"""Problem families as data: numbers stay in bounds, and errors name file and key."""

from __future__ import annotations

import re
import textwrap
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest

from personahub.core.errors import UserError
from personahub.core.experiments.yaml_file import load_yaml
from synth.simulated import families
from synth.simulated.families import FAMILIES, reading
from synth.simulated.families.reading import read_families
from synth.simulated.formulas import compile_formula, compile_template
from synth.simulated.grammar import Instance, Scratch, recognize

FILES = sorted(Path(families.__file__).parent.glob("*.yaml"))
EXAMPLE = textwrap.dedent(reading.__doc__.split("\n\n")[2])
MALFORMED = [
    ("idea: Divide, then subtract the broken ones.", "ideas: Divide.", "ideas: unknown key. Did you mean 'idea'?"),
    ("idea: Divide, then subtract the broken ones.", "", "idea: required key is missing"),
    ("answer: left", "", "answer: required key is missing"),
    ("[medium, hard]", "[medium, severe]", "difficulties.1: Input should be 'easy', 'medium' or 'hard'"),
    ("[3..9, 11..40]", "[3..9, 11..40, 50..60]", "draw.size, boxes: has 3 values for 2 difficulties"),
    ("[3..9, 11..40]", "[3.., 11..40]", "draw.size, boxes: '3..' is not a formula"),
    ("boxes - 1)", "boxs - 1)", "draw.broken: unknown name 'boxs'"),
    ("randint(1", "system(1", "draw.broken: unknown name 'system'"),
    ("[total, size, broken]", "[total, size, broken, rest]", "given: rest: not in `draw`"),
    ("[total, size, broken]", "[total, size, boxes, broken]", "texts.0: does not state boxes"),
    ("[total, size, broken]", "[total, size]", "texts.0: states broken, which `given` does not list"),
    ("all: total / size", "all: total / boxes", "work.all: unknown name 'boxes'"),
    ("all: total / size", "off: total / size", "work.0.[key]: Input should be a valid string (got False)"),
    ("all: total / size", "all: total.real", "work.all: 'total.real' is not allowed in a formula"),
    ("require: size > 0", "require: size >", "work.require: 'size >' is not a formula"),
    ("- <total> / <size>", "- <total> / <length>", "steps.0: unknown name 'length'"),
    ("if: broken == 1", "if: broke == 1", "steps.1.if: unknown name 'broke'"),
    ("so <left> remain", "so <product(left)(2)> remain", "steps.1.then: 'product(left)(2)' is not allowed"),
    ("answer: left", r"answer: <lefts>\pi", "answer: unknown name 'lefts'"),
    ("program:", "algorithm: to_base\n  program:", "algorithm: unknown algorithm 'to_base'. Valid: from_base"),
]


def read(folder: Path, entry: str):
    text = f"subject: Test\nfamilies:\n{textwrap.indent(entry, '  ')}"
    (folder / "test.yaml").write_text(text, encoding="utf-8")
    return read_families(folder)


def test_the_files_have_every_family_once():
    content = [load_yaml(file) for file in FILES]  # rejects duplicate keys
    names = [name for subject in content for name in subject["families"]]
    assert names == [family.name for family in FAMILIES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parameters_are_drawn_within_their_bounds(file: Path):
    by_name = {family.name: family for family in FAMILIES}
    for name, entry in load_yaml(file)["families"].items():
        family = by_name[name]
        for i, difficulty in enumerate(family.difficulties):
            bounds = {}
            for key, value in entry.get("draw", {}).items():
                source = value[i] if isinstance(value, list) else value
                if ends := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", source):
                    bounds |= dict.fromkeys(key.split(", "), range(int(ends[1]), int(ends[2]) + 1))
            for seed in range(100):
                params = family.sample(Random(seed), difficulty)
                assert all(abs(value) < 100_000 for value in params.values()), (name, params)
                wrong = [key for key, value in params.items() if value not in bounds.get(key, [value])]
                assert not wrong, (name, difficulty, params, wrong)


def test_the_documented_example_is_a_family(tmp_path):
    (family,) = read(tmp_path, EXAMPLE)
    rng = Random(1)
    for _ in range(50):
        params = family.sample(rng, "hard")
        assert list(params) == ["total", "size", "broken"]
        instance = Instance(family, 0, params)
        text = instance.text({"who": "a cook", "Who": "A cook", "thing": "cups", "place": "the inn"})
        found = recognize(text, [family])
        assert found is not None
        assert found.params == params
        assert instance.answer == params["total"] // params["size"] - params["broken"] > 0
    note = Scratch()
    assert family.work(note, total=21, size=3, broken=1).steps == ("21 / 3 = 7.", "One box is broken, so 6 remain.")
    assert family.work(note, total=21, size=3, broken=2).steps == ("21 / 3 = 7.", "7 - 2 = 5.")
    assert note.values == [7, 6, 7, 5]
    with pytest.raises(ValueError, match="size > 0"):
        family.work(note, total=21, size=0, broken=2)


@pytest.mark.parametrize(("part", "replacement", "message"), MALFORMED)
def test_a_malformed_entry_is_refused_with_its_file_and_key(tmp_path, part, replacement, message):
    assert EXAMPLE.count(part) == 1
    with pytest.raises(UserError, match=re.escape(f"test.yaml.families.boxes.{message}")):
        read(tmp_path, EXAMPLE.replace(part, replacement))


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    with pytest.raises(UserError, match=r"test\.yaml: not valid YAML"):
        read(tmp_path, "boxes: [")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a / 4", Fraction(1, 2)),
        ("-a ** 2 + 7 // a % 3", -4),
        ("1 < a <= 2 < 3", True),
        ("1 < a < 2", False),
        ("a == 1 or a in (2, 5) and not a > 2", True),
        ("'x' if a != 2 else max(a, gcd(12, 18))", 6),
    ],
)
def test_formulas(source, expected):
    assert compile_formula(source, {"a"})({"a": 2}) == expected


@pytest.mark.parametrize(
    "source",
    [
        "a.__class__",
        "().__class__.__bases__",
        "__import__('os')",
        "open('x')",
        "eval('1')",
        "(lambda: 1)()",
        "[x for x in (1, 2)]",
        "a[0]",
        "f'{a}'",
        "(a := 1)",
        "max(*a)",
        "pow(2, exp=3)",
        "a is a",
        "1.5",
        "a; a",
        "",
    ],
)
def test_anything_else_is_not_a_formula(source):
    with pytest.raises(ValueError, match=r"not allowed in a formula|unknown name|is not a formula"):
        compile_formula(source, {"a"})


def test_templates_write_numbers_as_latex():
    render = compile_template(r"$<a>^2 \cdot \frac{<a + 1>}{2} = <a / 4>$", {"a"})
    assert render({"a": 2}) == r"$2^2 \cdot \frac{3}{2} = \frac{1}{2}$"
