"""Finds the answer in a completion: the last box, "answer is", or the last line.

Every rule runs in time linear in the text, or looks at a bounded tail of it.
"""

from __future__ import annotations

import re
from collections import deque

from personahub.core.answers import guards, sentences
from personahub.core.answers.equivalence import is_readable
from personahub.core.answers.sentences import FORMULA
from personahub.core.answers.verdict import Extracted
from personahub.core.texts.replies import first_turn, split_thinking

_TAIL = 20_000  # characters searched for the last formula or number
_OPENING = 200  # characters in which a text declines; further on "we cannot find x directly" is reasoning
_CLAUSE = 2_000  # characters searched after "answer is"
_NEIGHBORS = 60  # most boxes that may form one list

_BOX = re.compile(r"(?:\\|\x08)?(?:boxed|fbox|framebox)\s{0,3}(?P<brace>\{)?|\x08oxed\{|(?<![a-z])oxed\{")
_BARE_BOX = re.compile(r"\s{0,3}(-?\d[\d,]*(?:\.\d+)?|[A-Za-z](?![\w'’]| [a-z]))")
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####:?[^\S\n]{0,3}(\S[^\n]*)")
_PHRASE = re.compile(
    r"(?:final answer|correct answer|answer|\bans\b\.?|correct (?:option|choice)|final result|答案|故选|答え|正解|정답"
    r"|antwort|réponse|respuesta|risposta|resposta|ответ)"
    r"(?: (?:to the (?:problem|question)|here|choice|option|therefore|finale?|correcta|correcte))?"
    r" ?(?:\*\*|\}|\$){0,3} ?(?:(?:is given by|would be|must be|should be|is|are|ist|lautet|est|es)\b:?|:|=|为|是|：|は|은)"
    r"(?: (?:therefore|thus|simply|for sure|just|then|equal to|option|choice|approximately|about|to be)\b){0,2}:?",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$|\*)|\n|<\|")
_CLAUSE_END = re.compile(
    r",?\s(?:because|since|so|as|which|where|but|it|when|given|after|before|due|not|and not|for all)\b"
    r"|,\s(?!and\b|or\b)(?=[a-z]{3})|,\sand\s(?=[a-z]{3})"
)
_NUMBER = re.compile(
    r"(?<![A-Za-z\d])[-−+]?\s?(?:\\?[$€£]\s?)?(?:\d+(?::\d+)+(?:\s?[ap]\.?\s?m\b\.?)?|\d+ \d+/\d+|\d* ?[¼½¾⅐-⅞]|\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:,\d+(?![\d,]))?|(?=\.\d))(?:\.\d+)?"
    r"(?:e[+-]?\d+)?(?:\s?/\s?\d+(?!\d|\.\d))?\s?(?:\\?%|°)?"
)
_CONNECTIVE = re.compile(
    r"^(?:thus|hence|so|therefore|then|finally|solving|we (?:get|find|have|obtain)|result)[,:]? (?=\S)", re.I
)
_LETTER = re.compile(r"(?<![\w'])\(?([A-E])\)?(?=[.,;:!\s]{0,9}$|[.,;:)](?!\w))")
_RIGHT_OPTION = re.compile(
    r"\b(?:option|choice|answer|statement) \(?([A-J])\)? is (?:correct|right|true|the (?:correct|right|best))\b",
    re.IGNORECASE,
)
_LONE_LETTER = re.compile(r"[*(\s]{0,4}([A-J])[*).\s]{0,5}$")
_COPULA = re.compile(r"(?<=[$)\]\d])(?:입니다|이다|です|である|となります|となる)$")  # `is`, after the value
_NOT_BUT = re.compile(
    r"^ ?(?:not|nicht|pas) [^.\n]{1,80}?,? (?:but|sondern|mais)(?: rather| is)? "
)  # `is not 11 but 12`
_SENTENCE_START = re.compile(r"[.!?]\s+|\n")
_AFTERTHOUGHT = re.compile(  # after the value of a sentence: `, not 60`, `, attained at x = 2`
    r",? (?:attained|achieved|reached|obtained|rather than|instead of|because|since)\b|, (?:not|nicht|pas|at|when|where|which occurs)\b"
)
_GOES_ON = re.compile(r"\b(?:so|thus|therefore|hence|then|total|leaving|giving|making|remain|left)\b", re.IGNORECASE)
_CONDITION = re.compile(r"^(?:since|because|when|where|if|as|for|given|with|at)\b", re.IGNORECASE)
_BOLD = re.compile(r"\*\*([-+−]?[$€£\\(\[]{0,2}\d[^*\n]{0,60}|\$[^*\n]{1,60}\$)\*\*(?=[^\d\n]*$)")
_TEXT_GROUP = re.compile(r"\\text\s?\{([^{}]*)\}")
_PROSE = re.compile(r"[A-Za-z]{3,}")
_CALCULATION = re.compile(r"<<[^<>\n]{0,200}>>")  # GSM8K's annotations
_SCRIPT_LETTER = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SCRIPT = re.compile(_SCRIPT_LETTER.pattern + "{2}")  # two letters of Chinese, Japanese or Korean
_LETTERS = re.compile(r"[A-Za-z]{2}")
_TAGS = re.compile(r"<(answer|ans|final[_ ]?answer|solution_answer|result)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_LETTER_LINE = re.compile(r"^\W{0,6}(?:final )?answer\W{0,6}:\W{0,6}([A-J])\W{0,6}$", re.IGNORECASE | re.MULTILINE)
_NEXT_PROBLEM = re.compile(
    r"\n\s*(?:\*\*|#{1,4} )?(?:user|human|assistant|question|problem|exercise|instruction|q)(?: ?\d{1,4})?\s?:",
    re.IGNORECASE,
)
_REJECTS = re.compile(
    r"[\s$.,;:)\\\]]*(?:and |but )?(?:not|rather than|instead of)\b[^.\n]*"
)  # \boxed{8}, not \boxed{9}
_OR = re.compile(r"\bor\b")
_TRAILING_STOP = re.compile(r"[。.]$")
_ITEM = re.compile(r"\s*(?:[-*•]|\d{1,2}[.)])\s+(.+?)\s*$")
_NAMED = re.compile(r"\$?\s*([A-Za-z](?:_\{?\w\}?)?)\s*=\s*[^=]+$")
_DECLINES = re.compile(
    r"\b(?:can(?:no|['’]|\s?no)t|unable to|not able to|could(?:n['’]| no)t|(?:im|not )possible to)\b[^.\n]{0,30}"
    r"\b(?:solve|answer|help|assist|determine|compute|calculate|complete|provide|find|be (?:solved|determined|answered))"
    r"|\b(?:don['’]t|do not) know\b|\b(?:not|n['’]t) (?:have |contain |provide |give )?(?:enough|sufficient) information\b"
    r"|\binsufficient (?:information|data)\b|\banswer (?:can(?:no|['’])t|is(?: not|n['’]t)|could|might|may) ",
    re.IGNORECASE,
)
_ORDINAL_LABEL = re.compile(
    r"(?:#|\bNo\. ?|\b(?:step|question|problem|figure|case|part|equation|exercise|line|horse|bus|room|page|chapter)"
    r" (?:number )?#?)\s?\d+",
    re.IGNORECASE,
)
_COMMANDS = re.compile(
    r"\\(?:begin|end)\{\w+\*?\}"
    r"|\\(?:text|mathrm|textbf|mbox|mathbf|operatorname|textit|textnormal)\s{0,3}\{[^{}]*\}|\\[a-zA-Z]+"
)


def extract(text: str) -> Extracted:
    """Finds the answer in a completion, a solution, or a text that is only an answer.

    A completion has one reading. Thinking text and everything after the first turn are ignored. Then the first
    rule that finds something decides: the last balanced \\boxed or \\fbox (a list, if one sentence has several);
    `<answer>` tags; `#### 42`; a text that is only an answer; what follows the last "answer is"; finally, if the
    text does not decline, the last line, formula, number or choice letter. See `Extracted.rule`.
    """
    reply = split_thinking(text[-guards.MAX_COMPLETION :])
    if reply.still_thinking:
        return Extracted(None, "thinking")
    text = _first_problem(re.sub(r"[^\S\n]+", " ", _CALCULATION.sub("", first_turn(reply.text))))
    for rule in (_boxed, _tagged, _hashes, _bare, _phrased, _last):
        found = rule(text)
        if found is not None:
            return found
    return Extracted(None, "none")


def _first_problem(text: str) -> str:
    """Drops problems that follow the answer, which base models often add."""
    following = _NEXT_PROBLEM.search(text)
    if following is None:
        return text
    head = text[: following.start()]
    return head if _BOX.search(head) or _HASHES.search(head) or _PHRASE.search(head) else text


def value_in(sentence: str) -> str | None:
    """Returns the value that an answer in words states, as in `The largest n is 34`.

    A sentence states a value if it consists of the value and a noun (`9 multiples of 30`), or of allowed words
    before it (`exactly 9`, `the value of n is 9`, `negative 9`). Anything else, such as `at most 9`, `twice 9` or
    `not 9`, is an answer in words and contains no value.
    """
    sentence = re.sub(r"\s+", " ", _TEXT_GROUP.sub(r" \1 ", sentence)).strip(" .*")
    if not re.search(r"[A-Za-z]{2}", _COMMANDS.sub(" ", sentence)):  # unknown notation or another language
        return sentences.only_formula(sentence)
    if (value := sentences.without_remark(sentence)) != sentence:
        return value
    option = _RIGHT_OPTION.search(sentence)
    if option:
        return option.group(1)
    if words := sentences.first_or_last_words(sentence):
        return words[-1]
    return sentences.stated_value(_without_afterthought(sentence)) or sentences.counted(sentence)


# Boxes ---------------------------------------------------------------------------------------


def _boxed(text: str) -> Extracted | None:
    if "boxed" not in text and "fbox" not in text and "framebox" not in text and "oxed{" not in text:
        return None
    found = _boxes(text)
    if not found:
        return _unclosed(text)
    while len(found) > 1 and _REJECTS.match(text, found[-2][1], found[-1][0]):
        found.pop()
    _, end, content = found[-1]
    if _HASHES.search(content) or _PHRASE.search(content):  # the box contains a whole text
        inner = _hashes(content) or _phrased(content)
        if inner is not None:
            return Extracted(inner.answer, "boxed")
    letter = _LETTER_LINE.search(text, end)
    if letter is not None and not _LONE_LETTER.match(content):
        return Extracted(letter.group(1), "answer_is")
    return Extracted(_stated(_neighbors(text, found) or content), "boxed")


def _stated(answer: str) -> str:
    """Returns the value that an answer in words states, or the answer itself."""
    return answer if is_readable(answer) else value_in(answer) or answer


def last_box(text: str) -> str | None:
    """Returns the content of the last balanced box, a reference solution's answer."""
    found = _boxes(text)
    return found[-1][2] if found else None


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Returns (start, end, content) of each balanced, non-empty, innermost box."""
    closing = _matching_braces(text)
    found: list[tuple[int, int, str]] = []
    for match in _BOX.finditer(text):
        if match.group().endswith("{"):
            end = closing.get(match.end() - 1)
            content = text[match.end() : end].strip() if end is not None else ""
        else:
            bare = _BARE_BOX.match(text, match.end()) if match.group().startswith("\\") else None
            end, content = (bare.end() - 1, bare.group(1)) if bare else (None, "")
        if end is None or not content:
            continue
        while found and found[-1][0] < match.start() < found[-1][1]:
            found.pop()  # it contains this one
        found.append((match.start(), end + 1, content))
    return found


def _matching_braces(text: str) -> dict[int, int]:
    """Maps each opening brace to its closing brace; escaped braces do not count."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for match in _BRACES.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing


def _unclosed(text: str) -> Extracted | None:
    """Reads a box without its closing brace. Not if the text ends inside it, as the answer may go on."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    opening = text.index("{", start)
    if opening in _matching_braces(text):
        return None  # closed, but empty
    line, _, _ = text[opening + 1 :].strip().partition("\n")
    content = line.rstrip(" .").removesuffix("$").removesuffix("\\)").removesuffix("\\]").rstrip()
    cut_off = line == content and text.rstrip().endswith(line) and not content.endswith("}")
    if "\\{" not in content:
        content = content.removesuffix("\\}")  # a closing brace with a mistaken backslash
    if cut_off or not content or content.count("{") != content.count("}"):
        return Extracted(None, "boxed_unclosed")
    return Extracted(content, "boxed_unclosed")


def _neighbors(text: str, found: list[tuple[int, int, str]]) -> str | None:
    """Reads the last boxes of one sentence as a list: `\\boxed{1} and \\boxed{2}`."""
    chain, joint = [found[-1]], ", "
    for box in reversed(found[-_NEIGHBORS:-1]):
        gap = text[box[1] : chain[-1][0]]
        if len(gap) > 40 or "\n\n" in gap or re.search(r"[.!?]\s", gap) or not _joins(gap):
            break
        joint = " or " if _OR.search(gap) else joint
        chain.append(box)
    contents = list(dict.fromkeys(content for _, _, content in reversed(chain)))
    return joint.join(contents) if len(contents) > 1 else None


def _joins(gap: str) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", _COMMANDS.sub(" ", gap.replace(r"\text{and}", " and ")))
    return len(words) <= 3 and (not words or "and" in words or "or" in words)


# Text ----------------------------------------------------------------------------------------


def _tagged(text: str) -> Extracted | None:
    found = _TAGS.findall(text)
    content = found[-1][1].strip() if found else ""
    return Extracted(_stated(content), "tagged") if content else None


def _hashes(text: str) -> Extracted | None:
    found = _HASHES.findall(text)
    return Extracted(found[-1].strip(), "hashes") if found else None


def _bare(text: str) -> Extracted | None:
    """Reads a text that is only an answer."""
    line = _CONNECTIVE.sub("", text.strip())
    if not line or len(line) > 2 * guards.MAX_ANSWER or "\n\n" in line:
        return None
    if _PHRASE.search(line) or _BOX.search(line):
        return None
    if not _looks_bare(line):
        return None
    if is_readable(line):
        return Extracted(line, "bare")
    if (value := value_in(line)) is not None and (value in line or "=" not in line):
        return Extracted(value, "last_number" if line.endswith(".") else "bare")
    plain = _COMMANDS.sub(" ", FORMULA.sub(" ", line))
    ends = line.rstrip("$ ").endswith(".") and _LETTERS.search(plain)
    a_sentence = len(_PROSE.findall(plain)) > 1 or ends
    a_sentence = a_sentence and (_NUMBER.search(line) or FORMULA.search(line))
    return None if a_sentence else Extracted(line, "bare")


def _looks_bare(line: str) -> bool:
    """Returns whether a line is an answer, not prose. Few words are outside LaTeX commands and texts."""
    if "\n" in line and not re.search(r"\\begin|^\s{0,9}(?:\$\$|\\\[)", line):
        return False
    words = _PROSE.findall(_COMMANDS.sub(" ", line))
    script = len(_SCRIPT_LETTER.findall(line))
    if re.search(r"\d", line) and (script > 3 or (script > 1 and _TRAILING_STOP.search(line))):
        return False
    if re.search(r"[.!?]\s+[A-Z]", line) or len(words) > 8:
        return False
    return len(words) <= (4 if re.search(r"\d", line) else 6)


def _phrased(text: str) -> Extracted | None:
    match = _final(_PHRASE, text)
    if match is None:
        return None
    rest = text[match.end() : match.end() + _CLAUSE]
    answer = _clause(_NOT_BUT.sub("", rest))
    return Extracted(_stated(answer), "answer_is") if answer else None


def _clause(rest: str) -> str:
    """Reads the answer at the start of the text after the phrase."""
    rest = rest.lstrip(' :*\n\t"}').removeprefix("**").strip()
    display = re.match(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]", rest, re.DOTALL)
    if display:
        return (display.group(1) or display.group(2)).strip()
    end = _SENTENCE_END.search(rest)
    while end is not None and _inside_math(rest[: end.start()]):
        end = _SENTENCE_END.search(rest, end.end())
    clause = rest[: end.start()] if end else rest
    clause = clause.split("**")[0].strip() if clause.count("**") == 1 else clause
    cut = _CLAUSE_END.search(_COMMANDS.sub(lambda m: "#" * len(m.group()), clause))
    clause = clause[: cut.start()] if cut and cut.start() > 0 else clause
    clause = _COPULA.sub("", sentences.without_remark(clause.lstrip(' *"').rstrip(' *."')))
    clause = _predicate(clause if re.match(r"\.\d", clause) else clause.lstrip(' *."'))  # `.5` keeps its point
    if _looks_bare(clause):
        return clause
    inner = _last(clause)
    return inner.answer if inner is not None and inner.answer else clause


def _predicate(clause: str) -> str:
    """Returns the predicate of a sentence: 34 for `The largest $n$ is 34`."""
    parts = re.split(r"(?<=[\w$)}]) (?:is|are|equals) (?=[\d$\\(−∞-])", clause[-_TAIL:])
    return parts[-1] if len(parts) > 1 and not _inside_math(" is ".join(parts[:-1])) else clause


def _without_afterthought(sentence: str) -> str:
    """Removes remarks after the value. Example: `The minimum is $-8$, attained at $x = 2$`."""
    cut = _AFTERTHOUGHT.search(sentence)
    if cut is None or _CONDITION.match(sentence) or _GOES_ON.search(sentence, cut.start()):
        return sentence
    head = sentence[: cut.start()]
    return head if re.search(r"\d", head) and not _inside_math(head) else sentence


def _inside_math(head: str) -> bool:
    return len(re.findall(r"(?<!\\)\$", head)) % 2 == 1 or head.count("\\(") > head.count("\\)")


def _last(text: str) -> Extracted | None:
    """Reads the last line if it is only an answer. Else reads the last formula or number."""
    text = text[-_TAIL:].strip()
    if _DECLINES.search(text[:_OPENING]) or _DECLINES.search(text, max(0, text.rfind("\n"))):
        return Extracted(None, "declined")
    if guards.has_control_characters(text):
        return None
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    letter = _LONE_LETTER.match(lines[-1]) if len(lines) > 1 else None
    letter = letter or _final(_RIGHT_OPTION, text)
    if letter is not None:
        return Extracted(letter.group(1), "last_letter")
    if (listed := _listed_items(lines)) is not None:
        return Extracted(listed, "last_line")
    verdict = sentences.first_or_last_words(text)
    if verdict:
        return Extracted(verdict[-1], "last_words")
    if len(lines) > 1 and _stands_alone(lines[-1]):
        line = lines[-1].strip("* ")
        bare = _CONNECTIVE.sub("", line)
        answer = line if _PROSE.search(_COMMANDS.sub(" ", bare)) else bare
        if is_readable(answer) or (answer := value_in(answer) or "") or not _NUMBER.search(line):
            return Extracted(answer or line, "last_line")
    bold = _BOLD.search(lines[-1]) if lines else None
    if bold is not None:
        return Extracted(bold.group(1).strip(), "last_bold")
    start = max((match.end() for match in _SENTENCE_START.finditer(text)), default=0)
    if _SCRIPT.search(text[start:]) and sentences.denies(text[start:]):
        return None
    text = text[:start] + _without_afterthought(text[start:])
    text = _ORDINAL_LABEL.sub(lambda match: "#" * len(match.group()), text)
    formula, number = _final(FORMULA, text), _final(_NUMBER, text)
    if formula is not None and (number is None or formula.end() >= number.start()):
        several = sentences.listed_formulas(text[start:])
        return Extracted(several or sentences.body(formula), "last_math")
    if number is not None:
        return Extracted(
            number.group().strip() + sentences.unit_behind(text[number.end() : number.end() + 60]), "last_number"
        )
    if (count := sentences.counted(text[start:])) is not None:
        return Extracted(count, "last_number")
    letters = _LETTER.findall(text)
    return Extracted(letters[-1], "last_letter") if letters else None


def _listed_items(lines: list[str]) -> str | None:
    """Joins the final list items of a text if each is a bare value. Example: `- $x=1$` and `- $x=2$`."""
    items: list[str] = []
    for line in reversed(lines):
        item = _ITEM.match(line)
        if item is None:
            break
        items.append(item.group(1).strip("* ").removesuffix("."))
    values = [item for item in items if is_readable(item) and not _PROSE.search(_COMMANDS.sub(" ", item))]
    names = {named.group(1) if (named := _NAMED.match(item)) else "" for item in items}
    if (
        len(items) < 2
        or len(values) < len(items)
        or len(names) > 1
        or (names == {""} and any("=" in v for v in values))
    ):
        return None
    return ", ".join(value.strip("$ ") for value in reversed(values))


def _stands_alone(line: str) -> bool:
    """Returns whether the last line is an answer, not the end of a formula above it."""
    whole = not re.match(r"\\end|\\\]|\\\)|\$\$", line) and line.count("$") % 2 == 0
    whole = whole and line.count("(") + line.count("[") == line.count(")") + line.count("]")
    return whole and _looks_bare(line.strip("*")) and bool(re.search(r"\d|\\[a-zA-Z]", line))


def _final(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Returns the last match of a pattern."""
    return deque(pattern.finditer(text), maxlen=1).pop() if pattern.search(text) else None
