"""The simulated teacher's replies for use cases other than math.

    reply = answer_use_case("logic_general", "a beekeeper", source="", rng=Random(1), rates=FaultRates())

The replies keep the contracts of the prompts, so that a pipeline can run and its rejected records can be
counted. `malformed` and `refusal` break the contracts at the configured rates, and `truth` says which.
The texts have no useful content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from synth.simulated.faults import FaultRates
from synth.simulated.themes import neutral_slots, theme_of

REFUSAL = "I'm sorry, but I can't help with that."
_NAMES = ("Ada", "Ben", "Chidi", "Dora", "Emil", "Farah", "Goran", "Hana")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
_SIDES = ("north", "east", "south", "west")

Slots = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole completion and the truth about it."""

    text: str
    truth: dict[str, Any]


def answer_use_case(name: str, persona: str | None, source: str, rng: Random, rates: FaultRates) -> Reply:
    """Answers the prompt of the use case `name`.

    Args:
        name: a key of `WRITERS`.
        persona: gives the theme; None draws one of a few.
        source: other content of the prompt: the world, the conversation or the tool's interface.
        rng: draws the wording and the faults.
        rates: rates of refusals, truncated and malformed replies.
    """
    fault = rates.draw(rng, "refusal", "truncation", "malformed")
    slots = theme_of(persona[:2000]).slots if persona else neutral_slots(rng)
    text = WRITERS[name](slots, source, rng)
    if fault == "refusal":
        text = REFUSAL
    elif fault == "truncation":
        text = text[: int(len(text) * rng.uniform(0.3, 0.8))]
    elif fault == "malformed":
        text = _malformed(name, text, rng)
    return Reply(text, {"fault": fault})


def _malformed(name: str, text: str, rng: Random) -> str:
    """Removes the first label, breaks the JSON, or removes the code fence."""
    if name == "tool_interface":
        return rng.choice((text.rstrip("}"), text.replace('"function_name"', '"function"')))
    if name == "tool_code":
        return text.replace("```", "")
    if name == "assistant":
        return ""
    return re.sub(r"^[^:：\n]+[:：]\s*", "", text)


def _logic_general(slots: Slots, _: str, rng: Random) -> str:
    first, second, third, fourth = rng.sample(_NAMES, 4)
    days = rng.sample(_DAYS, 4)
    return (
        f"Logic problem: {slots['Who']} at {slots['place']} has four helpers, {first}, {second}, {third} and {fourth}. "
        f"Each of them looks after the {slots['thing']} on exactly one of the days {', '.join(days[:3])} and {days[3]}, "
        f"and no two on the same day. {first} comes on {days[0]}. {second} comes neither on {days[1]} nor on {days[2]}. "
        f"{third} does not come on {days[1]}. Who comes on {days[rng.choice((1, 2, 3))]}?"
    )


def _logic_spatial(slots: Slots, _: str, rng: Random) -> str:
    start = rng.choice(_SIDES)
    turns = [f"turns {rng.choice(('left', 'right'))} and walks {rng.randint(2, 9)} steps" for _ in range(3)]
    return (
        f"Spatial problem: {slots['Who']} stands at the door of {slots['place']}, facing {start}, and holds {slots['thing']}. "
        f"{slots['Who']} walks {rng.randint(2, 9)} steps ahead, {turns[0]}, then {turns[1]}, and at last {turns[2]}. "
        "In which compass direction does the door lie from there?"
    )


_ZH_THINGS = ("钥匙", "面包", "地图", "雨伞", "闹钟", "镜子", "茶壶", "火车", "灯泡", "石头")
_ZH_PEOPLE = ("养蜂人", "司机", "老师", "医生", "面包师", "图书管理员", "渔民", "程序员")
_ZH_TRICKS = (
    "{who}说这个{thing}很便宜，可是我没看见它有便，也没看见它有宜，是不是被骗了？",
    "既然{who}每天早上醒来才看到太阳，那太阳是不是被{who}叫醒的，{thing}也一样吗？",
    "{thing}丢了才会去找，那{who}先去找{thing}，是不是{thing}就会丢？",
    "{who}说慢走，我就慢慢走了三个小时，{thing}都凉了，为什么{who}不高兴？",
)


def _logic_ruozhiba(slots: Slots, _: str, rng: Random) -> str:
    own = Random(slots["who"])  # noqa: S311 - not for secrets
    things, people = own.sample(_ZH_THINGS, 3), own.sample(_ZH_PEOPLE, 2)
    return "问题：" + rng.choice(_ZH_TRICKS).format(who=rng.choice(people), thing=rng.choice(things))


def _instruction(slots: Slots, _: str, rng: Random) -> str:
    wish = rng.choice(
        (
            f"how do I explain to newcomers at {slots['place']} why the {slots['thing']} have to be counted twice? "
            f"Two short paragraphs that {slots['who']} could read out, please.",
            f"I need a plan for {rng.randint(2, 6)} weeks that gets the {slots['thing']} ready for {slots['place']}. "
            f"I am {slots['who']} and have {rng.randint(2, 9)} hours a week.",
            f"please compare two ways to store {slots['thing']}: in boxes by size, or on shelves by age. "
            f"It is for {slots['place']}, where {slots['who']} has to find them fast.",
        )
    )
    return f"Instruction: {wish}"


def _assistant(_: Slots, source: str, rng: Random) -> str:
    return (
        f"Here is a way to go about it. First write down what you have, all {rng.randint(10, 90)} pieces of it. "
        f"Then put what is used most in front, and check after {rng.randint(2, 9)} days whether that holds. "
        f"What matters most in your case: {' '.join(source.split()[:12])}."
    )


def _followup(slots: Slots, _: str, rng: Random) -> str:
    return "Follow-up: " + rng.choice(
        (
            f"And what if the {slots['thing']} do not arrive at {slots['place']} in time?",
            f"Make it shorter, and leave out the part that {slots['who']} knows anyway.",
            f"I forgot to say that there are only {rng.randint(2, 9)} shelves. Does that change the order?",
        )
    )


def _dialogue(slots: Slots, _: str, rng: Random) -> str:
    return "Says: " + rng.choice(
        (
            f"At {slots['place']} we count the {slots['thing']} every {rng.randint(2, 9)} days. How do you do it?",
            f"I would not bet on that. With {slots['thing']} it went wrong {rng.randint(2, 9)} times last year.",
            f"Then let us try it with {rng.randint(3, 30)} {slots['thing']} first. Who writes down what happens?",
        )
    )


def _text(slots: Slots, rng: Random) -> str:
    """About 200 words about nothing in particular."""
    numbers = [rng.randint(3, 97) for _ in range(6)]
    return (
        f"Most people who see {slots['thing']} for the first time ask what they are for. At {slots['place']} the answer "
        f"is simple: they keep count of what comes in and what goes out. Each week about {numbers[0]} of them are used, "
        f"and {numbers[1]} come back, so the stock shrinks unless somebody orders in time.\n\n"
        f"The rule of thumb is to order when fewer than {numbers[2]} are left. It takes {numbers[3]} days until a "
        "delivery arrives, and in these days the use goes on. Whoever waits for the last box has waited too long. The "
        "reason is that use and delivery do not keep the same rhythm: one is daily, the other comes in lots.\n\n"
        f"What goes wrong? In one winter {numbers[4]} pieces were stored wet and had to be thrown away. Since then they "
        "lie on boards, a hand's breadth above the floor, where air can pass below. A second mistake is to mix old and "
        "new. Old ones belong in front, because what is reached first is used first.\n\n"
        f"It costs little: a shelf, a list, and {numbers[5]} minutes a day. What it saves shows after a year, when the "
        "list says how much is needed in which month, and nobody has to guess any more."
    )


def _article(slots: Slots, _: str, rng: Random) -> str:
    return f"Title: How many {slots['thing']} does {slots['place']} need?\n\nArticle: {_text(slots, rng)}"


def _reading(slots: Slots, _: str, rng: Random) -> str:
    return f"Title: Keeping count of {slots['thing']}\n\nReading text: {_text(slots, rng)}"


_PROPER = re.compile(r"\b[A-Z][a-z]{3,}\b")


def _npc(slots: Slots, source: str, rng: Random) -> str:
    places = sorted(set(_PROPER.findall(source))) or ["the old harbour"]
    name = rng.choice(("Oru", "Tessal", "Brindo", "Maravel", "Yon", "Ketta")) + rng.choice(
        (" the Elder", " of the Stair", "")
    )
    place, other = rng.choice(places), rng.choice(places)
    return "\n".join(
        (
            f"Name: {name}",
            f"Role: keeper of {slots['thing']} in {place}",
            f"Appearance: A broad coat full of pockets, a lamp in one hand, and a voice that carries across {place}.",
            f"Character: Speaks slowly and counts on the fingers. Says: 'First the list, then the {slots['thing']}.'",
            f"Background: Was {slots['who']} in all but name, until {other} needed somebody who does not give up.",
            f"Meets players: At the gate of {place}. Asks for {rng.randint(2, 9)} lost {slots['thing']}, and pays with a "
            f"map of {other}. Who keeps one is remembered.",
        )
    )


def _tool_interface(slots: Slots, _: str, rng: Random) -> str:
    thing = slots["thing"].lower()
    stem = re.sub(r"[^a-z]+", "_", thing.encode("ascii", "ignore").decode()).strip("_") or "stock"
    use, days, stock = rng.randint(2, 30), rng.randint(2, 14), rng.randint(20, 400)
    interface = {
        "name": f"{slots['thing'].capitalize()} Reorder Calculator",
        "description": f"Tells how many {thing} to order so that they last until the next delivery. Use it before an "
        "order; counts and days are whole numbers of at least 0.",
        "function_name": f"reorder_{stem}",
        "input_args": [
            {"name": "stock", "type": "integer", "description": "pieces in stock"},
            {"name": "use_per_day", "type": "number", "description": "pieces used per day"},
            {"name": "days", "type": "integer", "description": "days until the next delivery"},
        ],
        "return": {"type": "integer", "description": "pieces to order, 0 or more"},
        "depend": ["math"],
        "example": {"stock": stock, "use_per_day": use, "days": days},
    }
    return json.dumps(interface, indent=2, ensure_ascii=False)


QUOTED_LABEL = re.compile(r"[\"“]([^\W\d_][^\"“”:：\n]{0,39})[:：][\"”]")
_WORDS = re.compile(r"\b(\d{1,4})(?: to \d{1,4})? words\b")


def _labelled(slots: Slots, source: str, rng: Random) -> str:
    """Replies to an unknown prompt with one part per label that it quotes, as in `"Title:"`.

    The last part has slightly more words than the minimum in the prompt ("150 to 250 words"); by default 60.
    """
    labels = list(dict.fromkeys(QUOTED_LABEL.findall(source)))
    asked = _WORDS.search(source)
    count = min(int(asked[1]), 2000) + 5 if asked else 60
    words = (" ".join(_text(slots, rng) for _ in range(count // 200 + 1))).split(" ")
    heads = [f"{label}: {slots['thing']} at {slots['place']}, no. {rng.randint(2, 99)}" for label in labels[:-1]]
    return "\n".join((*heads, f"{labels[-1]}: {' '.join(words[:count]).rstrip(',;:.')}."))


_WRONG_CODE = ("return math.ciel(missing)", "return str(missing)")


def _tool_code(_: Slots, source: str, rng: Random) -> str:
    """One in twelve programs is wrong: it fails when it runs or returns another type."""
    name = re.search(r'"function_name": "(\w+)"', source)
    last = rng.choice(_WRONG_CODE) if rng.random() < 1 / 12 else "return math.ceil(missing)"
    return (
        "```python\nimport math\n\n\n"
        f"def {name[1] if name else 'tool'}(stock, use_per_day, days):\n"
        '    """Pieces to order so that `stock` lasts for `days` at `use_per_day`."""\n'
        "    if stock < 0 or use_per_day < 0 or days < 0:\n"
        '        raise ValueError("stock, use and days are at least 0")\n'
        "    missing = max(0, use_per_day * days - stock)\n"
        f"    {last}\n```"
    )


WRITERS: dict[str, Callable[[Slots, str, Random], str]] = {
    "logic_general": _logic_general,
    "logic_spatial": _logic_spatial,
    "logic_ruozhiba": _logic_ruozhiba,
    "instruction": _instruction,
    "assistant": _assistant,
    "followup": _followup,
    "dialogue": _dialogue,
    "article": _article,
    "reading": _reading,
    "npc": _npc,
    "tool_interface": _tool_interface,
    "tool_code": _tool_code,
    "labelled": _labelled,
}
