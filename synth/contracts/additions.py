r"""Find what models write around a problem: titles, solutions, commentary, chat.

    strip_additions("**Bees**\n\nHow many of 12 bees stay if 5 leave?\n\nAnswer: 7")    # "How many of 12 bees ..."
    check_additions("The rest is therefore 7. How many of 12 bees stay if 5 leave?")     # Rejected: contains_solution

An addition is cut only where this is safe: fences, quotation marks and a title around the problem, and a solution,
commentary or chat that starts after a question and is not followed by another question. Any other addition rejects the
problem. Strong patterns count anywhere in the text. Weak patterns (`Therefore`, `First, we`, `6 * 4 = 24`) also occur in
problems, so they count only after the question. docs/verification.md has the false alarms on MATH and GSM8K.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from personahub.core.errors import Rejected

SOLUTION, COMMENTARY, SEVERAL, INSTRUCTION = "contains_solution", "commentary", "several_problems", "instruction"


class Addition(NamedTuple):
    """An addition: why it does not belong to the problem, and where it starts. `clear` tells strong from weak."""

    reason: str
    start: int
    clear: bool
    heads_section: bool


_FLAGS = re.IGNORECASE
_OPENS = r"[\s>#*_(\[~`•-]*"  # what can stand before the first word of a section or sentence
_CLOSES = r"[ \t*_\])]*"
_THIS = r"(?:this|the (?:above|given|following|present|math|word)|the)(?: \w+){0,3}?"
_PROBLEM = r"(?:problem|question|puzzle|exercise|scenario|task|challenge|equation|calculation)s?"

# Labels that head a section with the solution; the second group only with a colon or in a heading.
_SOLVES = (
    r"(?:(?:complete |detailed |full |possible |sample |model |worked |short |brief |suggested |example )*"
    r"(?:step[- ]by[- ]step )?(?:solutions?|answers?|ans|sol|explanations?|hints?|derivation|walk-?through|workings?"
    r"|working out|rationale|justification|answer key|key|answer explanation|calculations?|computation|reasoning"
    r"|thought process|solving(?: (?:the|this) (?:problem|equation))?|how to solve(?: it)?|solution (?:steps|approach|method"
    r"|strategy|outline|process)|(?:final|correct|expected|exact|numerical|expected) (?:answer|result|value|solution|output)|results?"
    r"|method(?: of solution)?|approach|strategy|steps?(?: to solve)?|procedure|verification|check|conclusion|proof"
    r"|解|答|答案|解析|解释|解答|提示|solución|respuesta|lösung|antwort|réponse|risposta|soluzione|resposta|ответ|решение)|step (?:\d+|one|[ivx]+))"
)
_REMARKS = (
    r"(?:commentary|comments?|notes? (?:to|for|on) [\w ]{1,30}|teacher'?s? notes?|author'?s? notes?|about (?:this|the) problem"
    r"|(?:learning|educational) (?:objectives?|goals?|outcomes?)|objectives?|difficulty(?: level)?|grade(?: level)?"
    r"|(?:math(?:ematical)?|key|relevant|core) (?:concepts?|skills?|topics?|ideas?)|skills?(?: (?:tested|required|needed))?"
    r"|concepts?(?: (?:tested|used|involved))?|topics?|subject(?: area)?|tags?|keywords?|category|why (?:this|it) [\w ]{1,30}"
    r"|context(?: and relevance)?|relevance|design notes?|problem type|target audience|requirements?(?: check)?|extensions?"
    r"|follow-up(?: questions?)?|bonus(?: questions?)?|real-world (?:connection|application)|source|disclaimer|persona)"
)
_LABEL_END = rf"{_CLOSES}(?:[:：]|(?<=[*_)\]])[ \t]*$|[.)]?[ \t]*[*_]+[ \t]*$)"
_NUMBER = r"(?:\$+|\\[(\[])?\s*(?:\\boxed|-?\s*(?:[$€£]|\\\$)?\s*\d|-?\\[dt]?frac|-?\\sqrt)"
_SOLUTION_LABEL = re.compile(
    rf"(?:{_OPENS})(?:\d+[.)]\s*)?{_SOLVES}(?: \d+| \([^)\n]{{1,30}}\))?{_LABEL_END}|[ \t]*#+[ \t*_]*{_SOLVES}{_CLOSES}$"
    rf"|{_OPENS}ans(?:wer)?[.=]\s*{_NUMBER}|[ \t]*####? -?[\d.,]+[ \t]*$|{_OPENS}<(?:solution|answer|explanation|hint)s?>",
    _FLAGS | re.MULTILINE,
)
_REMARK_LABEL = re.compile(
    rf"(?:{_OPENS}){_REMARKS}{_LABEL_END}|[ \t]*#+[ \t*_]*{_REMARKS}{_CLOSES}$", _FLAGS | re.MULTILINE
)
# Sentences that tell how to solve the problem, or its answer, whatever stands around them.
_CLEAR_SOLUTION = re.compile(
    rf"{_OPENS}(?:"
    rf"(?:so |now,? |in order )?to (?:solve|answer|tackle|work out|approach) (?:{_THIS} {_PROBLEM}|this|it)\b"
    rf"|(?:here is|here's|below is|see) (?:the|a|my) (?:\w+ )?(?:solution|answer|explanation)"
    rf"|(?:you|we|one|this|it|the problem|the question|students?) (?:can|could|may|will|should|need to)(?: be)? "
    rf"(?:solved? (?:this|the|it|by|using|with|as)|approach(?:ed)? (?:this|by|with|as))"
    rf"|okay,? let|okey,? let|let(?:'s|’s| us|  me) (?:solve|work through|find (?:the|out)|break (?:it|this|the)|start by|tackle)"
    rf"|(?:therefore|thus|hence|so|consequently|in conclusion|finally)?,? ?"
    rf"(?:the|our|my) (?:(?:final|correct|right|required|desired|expected) )?(?:answer|solution)(?: to (?:this|the) \w+)?"
    rf" (?:is|would be|equals|comes to|turns out to be)(?: therefore| thus| then)?:?\s*(?:{_NUMBER}|(?:option |choice )?\(?[A-E]\b)"
    rf"|(?:the|this|our)(?: [\w'’-]+){{1,8}}? (?:is|are|was|were|equals|will be|would be) (?:therefore|thus|hence|then|consequently),? "
    rf"(?:(?:approximately|about|exactly|equal to|a total of|only) ){{0,2}}{_NUMBER}"
    rf")|.*\\f?boxed\b",
    _FLAGS | re.DOTALL,
)
_NOT_STATED = r"(?:greater|more|less|fewer|larger|smaller|higher|lower|at least|at most|between|an? |even|odd|above|below)"
_WEAK_SOLUTION = re.compile(
    rf"{_OPENS}(?:\d+[.)]\s+)?(?:"
    rf"(?:first(?:ly)?|second(?:ly)?|third(?:ly)?|next|then|finally|lastly|so|now|after that),"
    rf"|(?:therefore|thus|hence|consequently|accordingly|as a result|in conclusion|to begin|to start|starting (?:with|from)"
    rf"|after (?:sub|add|mult|divi)\w+ing)\b"
    rf"|so (?:the|we|there|he|she|they|it)\b"
    rf"|(?:you|one) (?:(?:can|could|need to|have to|must|should) (?:use|solve|set up|start|first|multiply|divide|add|subtract|calculate|apply)|multiply|divide|add|subtract|get|would)\b"
    rf"|(?:we|i) (?!(?:can|will|may)? ?assume)(?:can|could|need to|have to|must|will|would|should|want to|get|obtain|find|know|have|use|start|begin"
    rf"|apply|multiply|divide|add|subtract|substitute|calculate|compute|see|conclude|set|let|are (?:given|asked|told|looking))\b"
    rf"|let (?:\$?\\?\w{{1,6}}\$?|us|me|the \w+) (?:be|=|denote|represent|equal)\b|let['’]s\b|let us\b|let \$\w"
    rf"|to (?:find|determine|calculate|compute|get|obtain|figure out|work out|answer|solve|do this|check|verify|see)\b"
    rf"|by (?:multiplying|dividing|adding|subtracting|substituting|using|applying|solving|setting|the|combining|simplifying|working)\b"
    rf"|(?:using|substituting|simplifying|solving|multiplying|dividing|adding|subtracting|plugging|applying|combining|rearranging"
    rf"|factoring|expanding|comparing|squaring|integrating|differentiating|counting)\b"
    rf"|(?:since|because|given that|as)\b[^?]*?, (?:we|the|it|this|so|there|he|she|they|each)\b"
    rf"|(?:multiply|divide|subtract|substitute|plug|combine|sum up|simplify|set up|apply)\b(?! (?:your|the (?:answer|result)))"
    rf"|in this (?:problem|case|scenario|situation|question|example), (?:we|you|the|let|there|it|our|i)\b"
    rf"|[^.?=]{{3,80}} (?:can|could|may) be (?:calculated|found|computed|determined|solved|obtained|worked out|modell?ed|represented) (?:as|by|using|with|from|in|through|via)\b"
    rf"|[a-z][a-z ]{{3,40}} = [^?]*(?:\d|[a-z]{{3}})|```"
    rf"|(?:the|this|that|each|her|his|their|its)(?: [^\s=?]+){{0,12}}? (?:is|are|was|were|equals|becomes|gives|comes to|amounts to|will be|would be)"
    rf" (?:(?:equal to|therefore|thus|then|approximately|about|exactly|calculated|given by|found|obtained|determined)\b|(?!{_NOT_STATED}){_NUMBER})"
    rf"|(?:it|this|that|which) (?:is|equals|gives|means|yields|leaves|makes|results in|comes to)(?: \w+)? ?{_NUMBER}"
    rf"|(?:the (?:solution|answer|result) (?:is|involves|requires|uses|can be|will be|would be|to (?:this|the)))\b(?! (?:\w+ )?{_NOT_STATED}| (?:to be )?(?:expressed|written|given|rounded|stated|required))"
    rf")",
    _FLAGS,
)
_ARITHMETIC = re.compile(
    r"\d[\d.,]*[ \t$%]*(?:[-+*/×÷·^]|(?<=[ )])x(?= )|\\times|\\cdot|\\div)[ \t$€£]*\\?[$]?\d[^=A-Za-z?]{0,60}(?:=|≈|\\approx)[ \t$€£\\]*-?\d"
)
_BARE = re.compile(r"[\s>#*_\[=~`]*\$*\\?[$€£]?-?\d[\d.,/]*\W{0,4}(?:[a-z%]+\W*){0,3}\Z", _FLAGS)
_CHOICE = re.compile(r"(?:^|[\s(])[A-Fa-f][.):]\s*\Z")
_NOT_WORKED = re.compile(r"\W*(?:for (?:example|instance)|e\.g|enter|note|recall|where|assume|use|\$?\\text)\b", _FLAGS)

# Sentences about the problem instead of in it.
_TELLS = (
    r"(?:requires?|involves?|tests?|combines?|explores?|assess(?:es)?|challenges?|reflects?|incorporates?|captures?|illustrates?"
    r"|demonstrates?|helps?|encourages?|focuses|aims?|introduces|invites|showcases?|highlights?|allows?|adheres|follows|meets|satisfies"
    r"|fits|aligns|draws (?:on|from|upon)|relates? to|has been|was|can be (?:solved|adapted|used|answered|modified|extended|approached)|would be|may be|should be (?:solvable|suitable|solved|challenging|relevant|of interest)"
    r"|(?:is|are) (?:also |both |clearly |directly |fully |specifically |well |thus |therefore )*(?:designed|intended|meant|created|crafted|tailored|based on"
    r"|inspired|solvable|solved|suitable|appropriate|self-contained|consistent|relevant|challenging|well-posed|well-defined|related|about|framed"
    r"|structured|aimed|geared|formulated|posed|straightforward|simple|easy|difficult|hard|classic|realistic|practical|interesting|engaging"
    r"|rooted|a (?:\w+ ){0,3}(?:one|problem|application|example|exercise|way|question|test)|an (?:\w+ ){0,3}(?:problem|application|example|exercise|question)))"
)
_CLEAR_REMARK = re.compile(
    rf"{_OPENS}(?:note:? |notes?: |remark:? |please note (?:that )?)?(?:that )?(?:"
    rf"(?:overall, |in summary, |here, )?{_THIS} {_PROBLEM}(?: above)?(?: (?:that|which) [^.?!]{{0,40}})? {_TELLS}\b"
    rf"|this (?:\w+ )?(?:problem|question|exercise|puzzle) (?:asks|wants|deals with|uses|is asking)\b"
    rf"|(?:this|it)(?: is|['’]s) (?:an?|one|about|the type of|the kind of) [^.?,;]{{0,60}}\b(?:problem|question|exercise|puzzle)\b"
    rf"|(?:the|all)(?: \w+){{0,3}} (?:information|conditions|quantities|assumptions|units|definitions|requirements|data)(?: \w+){{0,4}}? (?:is|are) (?:clearly |all |explicitly )?(?:provided|stated|given|consistent|included|met|defined|satisfied)\b(?! (?:in|by|below|as|at|on))"
    rf"|no (?:other|additional|further|external|outside|proof|figure|table)(?: \w+){{0,5}} (?:is|are) (?:needed|required|necessary)"
    rf"|(?:by )?solving (?:this|the above|the problem)(?: \w+)?? {_PROBLEM}"
    rf"|the (?:final )?answer is (?:not an? |provided|given (?:in|by|as))"
    rf"|(?:the|this) (?:persona|person described|scenario|prompt|question) (?:is (?:set|based|designed)|would (?:likely )?(?:meet|pose|care)|described)"
    rf"|(?:as|because|since) (?:this|the) (?:person|persona)\b"
    rf")",
    _FLAGS,
)
_CLEAR_CHAT = re.compile(
    rf"{_OPENS}(?:"
    r"i (?:really )?hope (?:this|that|it|you)\b|hope (?:this|that) helps|(?:please )?let me know\b|please (?:feel free|give me|share|ask|try to solve)|(?:please )?remember to (?:show|check|explain)"
    r"|(?:would|do) you (?:like|want|need) (?:me|another|more|to (?:see|try|know|have)|a (?:hint|solution|different|similar)|an?other|help|the (?:solution|answer)|any)\b|feel free to\b"
    r"|(?:happy|have fun|enjoy|good luck)(?: (?:solving|calculating|with|on|the|and))?[^.?]{0,40}!|good luck\b|have fun solving"
    r"|if you (?:have (?:any|more|other|further)|need (?:any|more|help|further|assistance|another|additional)|(?:would like|want|'d like)) (?:\w+ )*?(?:questions?|help|clarifications?|another|assistance|more|problems?|solution|hint)"
    r"|is there anything(?: else)?|(?:sure|certainly|of course|absolutely|great|okay|ok)(?:[!,] (?:here|i|let|this)|[!.]?\Z)|here(?:['’]s| is) one\b"
    r"|here(?:'s|’s| is| are) (?:a|an|the|your|another|my|one)\b[^.?\n]{0,80}(?:problem|question|puzzle|version)"
    r"|i(?:'ve|’ve| have|'ll|’ll| can| will| would| could) (?:created?|made|written|designed|chosen|tried|kept|crafted|provided?|generated?|also provide|included|be happy|be glad|adjust|give you)"
    r"|you(?:'re|’re| are) welcome|thanks? (?:you )?for\b[^.]{0,40}(?:asking|question|reading|sharing)|as an? (?:AI|language model|assistant)\b"
    r"|(?:can|could) you (?:solve|figure|find|work) (?:this|it|out|the (?:answer|solution|problem))\b[^.]{0,30}\?\s*$|(?:show|explain) your (?:work|reasoning|steps)|try (?:to solve|it|this|solving)\b"
    r"|(?:please )?(?:do not|don['’]t|no need) (?:provide|leave|include|give|write|for a|to) (?:any )?(?:additional|extra|further|solutions?|explanations?|question)"
    r"|(?:this|the) (?:response|reply|output|format)\b"
    r")",
    _FLAGS,
)
# Requests to a model that were left in front of the problem.
_REQUEST = re.compile(
    r"\W*(?:(?:please|now|first|recursively|randomly|carefully|simultaneously|secretly) )?(?:translate|interpret|map|offset|encode|decode|merge|invert|reverse|simulate|predict"
    r"|convert|summari[sz]e|rewrite|re-?phrase|paraphrase|render|speak|sing|generate|compose|transcribe|transform|arrange|recite|pretend"
    r"|ignore|respond|narrate|visuali[sz]e|invent|classify|compress|describe|explain|perform|whisper|transmit|sort|rank|extract|blend|mix|fuse"
    r"|divide|multiply|add|subtract|reply|repeat|return|output|draft|paint|dream|imagine|synthesi[sz]e|fold|unfold|rotate|spell|count|write|create|read|explain|analy[sz]e|list|rearrange|replace|draw|play|choreograph|hum|sketch)\b"
)
_REQUEST_WORDS = re.compile(
    r"\b(?:(?:this|the following|the (?:above|previous|last)|your (?:last|previous)|the user['’]s(?: last)?) (?:text|sentence|paragraph|question|response|answer|prompt|message|input|passage)"
    r"|every \w+ word|songs?|audio|soundtrack|json|haiku|iambic|whale|waveform|dance|flavou?rs?|colou?rs?|shades?|scents?|tastes?|smells?|tones?|emotions?|emotional|poem|sonnet|limerick|emoji|image|alphabet|shadows?|weather|dreams?"
    r"|in (?:binary|morse|hexadecimal|reverse|verse|rhyme|spanish|french|german|chinese|latin|klingon)|silence|music(?:al)?|melody|loneliness|sweetness|meaning of|pirate|shakespear\w*|interpretive|semaphore|hieroglyph\w*|conversation|dialogue|story|universe|antonym|synonyms?)\b",
    _FLAGS,
)
_REQUEST_LABEL = re.compile(
    r"\W*(?:instruction|rewrite|re-?phrase|paraphrase|prompt|task|system|user|assistant|rewritten|new)\W{0,3}[:：]", _FLAGS
)
_NUMBERED = re.compile(
    rf"^{_OPENS}(?:(?:math|word|new|original|modified|next|sample|example|practice|another|similar|the|your|revised|updated) )*"
    rf"(?:(?:problem|exercise|puzzle)(?: statement)?(?: (?:is|\#?\d+|[ivx]+|one|two|three|[a-d]))?|question (?:\#?\d+|[ivx]+|one|two|three))"
    rf"(?: \([^)\n]{{1,40}}\))?{_CLOSES}[:：]",
    _FLAGS | re.MULTILINE,
)

_ASKS = (
    r"(?:what|which|who|whom|whose|why|how|when|where|find|compute|calculate|determine|evaluate|estimate|express|simplify"
    r"|solve|give|state|prove|show|list|name|write|round|factor|expand|convert|draw|graph|identify|derive|describe|decide"
    r"|predict|verify|approximate|maximi[sz]e|minimi[sz]e|rationali[sz]e"
    r"|work out|enter|figure out|sketch|establish|rewrite|reduce|deduce|explain)\b"
)
_POLITE = r"(?:then|now|also|and|finally|please|hence|next|thus|instead|using [^,]{1,60}|help \w+)"
_COMMAND = re.compile(rf"^[\s>#*_(\[~`•-]*(?:[a-h\divx]{{1,3}}[.)]\s*)?(?:{_POLITE},? )*{_ASKS}", _FLAGS)
_MENTIONS = re.compile(rf"(?:\b(?:and|then|must|should|please|your task is to)|,) {_ASKS}|求|多少|_{{2,}}|\\underline|\(\s*\)", _FLAGS)
_FINAL = r"(?:find|compute|calculate|determine|evaluate|express|simplify|give|enter|state|what|how many|how much|prove|show|list)\b"
_POSES = re.compile(rf"(?:,| then| and| if) (?:then )?{_FINAL}|=\s*\$?\s*\Z", _FLAGS)  # a condition that ends in a question
_POSED = re.compile(rf"^[\s(]*(?:{_POLITE},? )*{_FINAL}(?!.*=\s*\$*\s*\d)|.*(?:,| then| and) {_FINAL}|.*=\s*\$?\s*\Z", _FLAGS | re.DOTALL)
_ASKS_AT_ALL = re.compile(
    rf"[?？]|(?<![a-z])(?:{_ASKS[3:-3]}|fill|complete|choose|select|order|arrange|add|subtract|multiply|divide|construct|tell|answer"
    r"|count)\b|_{2,}|\(\s*\)|\\underline|求|=\W*\Z|\(A\)|\\qquad",
    _FLAGS,
)
_ASKS_MARK = re.compile(r"[?？][\"'”’)\]*_$\s]*\Z")
_BLOCKED = re.compile(r"\[asy\].*?\[/asy\]|\\begin\{(tabular|array|align\*?|cases|[pb]?matrix)\}.*?\\end\{\1\}", re.DOTALL)
_BREAK = re.compile(
    r"(?<!\n\d\.)(?<=[.?!？。])[\"'”’)\]*_$]*\s+|(?<=[?？])(?=[(\[*])|\n\s*\n|\n(?=\s*(?:[#>*(\[-]|\d+[.)]|[A-Z][\w' -]{0,40}[*_]*[:：]))|(?<=[:：)*$])[ \t]*\n"
    r"|(?<=[.?!)])\s*\n|(?<=[\]}$])\s*(?=[A-Z][a-z]+ )|(?=(?:答案|解析|解释|解答|提示)[ \t*_]*[:：])|[ \t]*(?=[(\[][*_]*(?:final |correct )?(?:answer|solution|ans|hint)[*_]*[:：=])"
)


class _Piece(NamedTuple):
    text: str
    start: int
    fresh: bool  # starts a line


def _pieces(text: str) -> list[_Piece]:
    """Splits a text into sentences and labelled lines. Figures and tables are blanked."""
    text = _BLOCKED.sub(lambda block: "x" * len(block.group()), text)
    pieces, start = [], 0
    for gap in [*_BREAK.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if text[start:end].strip():
            pieces.append(_Piece(text[start:end], start, "\n" in text[max(0, start - 3) : start] or start == 0))
        start = gap.end() if gap else end
    return pieces


def _asks(piece: str) -> bool:
    return bool(re.search(r"[?？]", piece) or _COMMAND.search(piece) or _MENTIONS.search(piece))


def _restates(text: str, before: str) -> bool:
    """Whether a section headed `Question:` repeats what the text in front of it has asked."""
    label = _RESTATED.match(text)
    if label is None or not _ASKS_MARK.search(before):
        return False
    words = set(re.findall(r"\w{3,}", text[label.end() :].lower()))
    return len(words & set(re.findall(r"\w{3,}", before.lower()))) >= 0.6 * len(words)


def _classify(piece: _Piece, before: str, asked: bool, last: bool) -> Addition | None:
    """Returns the addition that a sentence starts, or None. `before` is the text in front of it."""
    text, start = re.sub(r"[ \t]+", " ", piece.text), piece.start
    if piece.fresh or asked or text[0] in "([":
        for reason, label in ((SOLUTION, _SOLUTION_LABEL), (COMMENTARY, _REMARK_LABEL)):
            if label.match(text):
                return Addition(reason, start, True, True)
    if asked and _restates(text, before):
        return Addition(COMMENTARY, start, True, True)
    if _CLEAR_CHAT.match(text) or _CLEAR_REMARK.match(text):
        return Addition(COMMENTARY, start, True, False)
    if _ASKS_MARK.search(text):
        return None
    if _CLEAR_SOLUTION.match(text):
        return Addition(SOLUTION, start, True, False)
    inside = text[0] == "(" or before.count("(") > before.count(")")
    if re.match(rf"[\s(]*(?:{_POLITE},? )*{_FINAL}", text, _FLAGS) and not _ARITHMETIC.search(text):
        return None
    if not asked or inside or _CHOICE.search(before) or _POSES.search(text) or _NOT_WORKED.match(text):
        return None
    if _WEAK_SOLUTION.match(text) or _ARITHMETIC.search(text) or (last and piece.fresh and _BARE.match(text)):
        return Addition(SOLUTION, start, False, False)
    return None


def _find(text: str) -> tuple[Addition, bool] | None:
    """Returns the first addition in a text and whether it can be cut with all that follows, or None."""
    numbered = list(_NUMBERED.finditer(text))
    pieces = _pieces(text)
    asked = False
    for index, piece in enumerate(pieces):
        if asked and any(label.start() >= piece.start - 1 for label in numbered):
            return Addition(SEVERAL, piece.start, True, True), False
        found = _classify(piece, text[: piece.start], asked, index == len(pieces) - 1)
        if found is None:
            asked = asked or _asks(piece.text)
            continue
        rest = [piece.text for piece in pieces[index + 1 :] if not _CLEAR_CHAT.match(piece.text)]
        later = any(map(_ASKS_MARK.search, rest)) or bool(rest and _POSED.match(rest[-1]))
        if later and not found.clear:
            continue
        several = found.heads_section and any(label.start() > found.start for label in numbered)
        if several and asked:
            return Addition(SEVERAL, piece.start, True, True), False
        if found.heads_section:
            later = any(map(_ASKS_MARK.search, rest)) or any(map(_PART.match, rest))
            later = later or (bool(rest) and piece.text[0] == "(")
        return found, asked and not later
    return None


_RESTATED = re.compile(rf"{_OPENS}(?:(?:so|the|final|main|actual) )*question(?: is)?{_CLOSES}[:：]{_CLOSES}", _FLAGS)
_PART = re.compile(r"\(?[b-h][.)]|\(?(?:2|ii)\)")
_FENCE = re.compile(r"\A\s*(`{3,}|~{3,})[\w-]*[ \t]*\n(.*?)\n?[ \t]*\1\s*", re.DOTALL)
_TAGGED = re.compile(r"\A\s*<(problem|question|math_problem|text|output)>\s*(.*?)\s*</\1>\s*", re.DOTALL | re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "`": "`", "**": "**", "*": "*", "__": "__"}
_TITLE = re.compile(
    r"\A\s*(?:[#>*_\s]*(?:problem )?(?:title|name|heading|topic|theme|subject|category|difficulty|level|grade)[ \t*_]*[:：][^\n]*"
    r"|#{1,6}[ \t][^\n.?!]*|(\*\*|__)(?:(?!\1)[^\n.?!]){1,90}[!]?\1:?|(?-i:[A-Z\"“][\w'’\"“”-]*(?:[ -](?:[A-Z&][\w'’\"“”:-]*|an?|the|of|and|in|for|to|on|at|with|by|from|[IVX\d]+))*[ -][A-Z][\w'’\"“”]*):?)[ \t]*\n+",
    re.IGNORECASE,
)
_HEADING = re.compile(
    rf"\A{_OPENS}(?:\d+(?:\.\d+)*[.)][*_ ]*)?(?:(?:the|math|word|your|new|sample|example|original) )*"
    r"(?:(?:problem|question|exercise|puzzle|task|challenge)(?: (?:statement|description|text))?(?: (?:\#?\d+(?:\.\d+)*|[ivx]+|one))?|statement|description|scenario|situation|background|story|setup)"
    rf"(?: ?\([^)\n]{{1,30}}\))?(?:[*_ \t]*[:：][*_ \t]*|[.]?[*_]+\s*\n|\.[*_]*\s+|[ \t]*\n(?=\s*\S))"
    r"|\A[\s*_]*(?:\d+\.[ ])?\(\d+ (?:points?|marks?|pts)\.?\)[\s*_:.]*|\A\s*\*\*\d+(?:\.\d+)*\.?\*\*\s+"
    r"|\A\s*(?:(?:sure|certainly|of course|okay)[!,.]? )?(?:(?:here(?: is|['’]s)|this is) )?(?:the|a|my|your|our|another) (?:(?:new|math|rewritten|modified|revised|word) )+problem(?: [\w ,]{1,60})??(?: is)?:\s*",
    _FLAGS,
)
_RULE = re.compile(r"[\s>#*_(\[~`•-]+\Z")


def _unwrap(text: str) -> str:
    """Removes fences, tags, quotation marks, a title and a label around a problem."""
    while True:
        before, text = text, text.strip()
        for wrapper in (_FENCE, _TAGGED):
            if (found := wrapper.match(text)) and _asks(found.group(2)):
                text = found.group(2) + "\n\n" + text[found.end() :]
                text = text.strip()
        for opening, closing in _QUOTES.items():
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and opening not in inner and closing not in inner:
                text = inner.strip()
        for heading in (_TITLE, _HEADING):
            found = heading.match(text)
            if found and _asks(text[found.end() :]) and not ("$" in found.group() or "\\" in found.group()):
                text = text[found.end() :]
        if text.strip() == before.strip():
            return text.strip()


def strip_additions(text: str) -> str:
    """Returns the problem in a text without what surrounds it.

    Raises:
        Rejected: `contains_solution`, `commentary`, `several_problems` or `instruction`: an addition that cannot be
            cut safely.
    """
    text = _unwrap(text)
    while (found := _find(text)) is not None and found[1]:
        kept = _RULE.sub("", text[: found[0].start]).rstrip()
        text = _unwrap(kept if kept.count("**") % 2 == 0 else kept + "**")
    check_additions(text)
    return text


def check_additions(text: str) -> None:
    """Checks that a problem has no solution, commentary or second problem, and is not preceded by another request.

    Raises:
        Rejected: `contains_solution`, `commentary`, `several_problems` or `instruction`.
    """
    text = _unwrap(text)
    sentences = [piece.text.strip() for piece in _pieces(text) if len(piece.text) > 25]
    if (again := next((s for s in sentences if sentences.count(s) > 2), None)) is not None:
        raise Rejected(SEVERAL, f"repeats {again[:80]!r}")
    first, *rest = [piece.text for piece in _pieces(text)] or [""]
    if rest and any(map(_asks, rest)):
        plain = not re.search(r"[$\\=]", first)
        if _REQUEST_LABEL.match(text) or (plain and _REQUEST.match(first.lower()) and _REQUEST_WORDS.search(first)):
            raise Rejected(INSTRUCTION, first[:80])
    found = _find(text)
    if found is not None:
        raise Rejected(found[0].reason, text[found[0].start :].strip()[:80])


def asks(text: str) -> bool:
    """Whether a text asks anything at all: a question mark, an imperative such as `find`, a gap or choices."""
    return _ASKS_AT_ALL.search(text) is not None


_RESULT = re.compile(
    r"\b(?:therefore|thus|hence|so(?! (?:that|far|many|much|on|long|called))|consequently|in total|altogether|(?:which|this|that) (?:is|gives|means|makes|comes to|leaves)"
    r"|amounts? to|comes? (?:out )?to|adds? up to|results? in|yields?|we (?:get|find|obtain)"
    r"|(?:the|her|his|their|our) (?:\w+ )?(?:answer|result|solution|total)(?: \w+){0,4} (?:is|was|will be))\b",
    _FLAGS,
)
_CHOICES = re.compile(r"\\q?quad|\(A\)|\\text", _FLAGS)
_SUPPOSES = re.compile(r"\b(?:if|suppose|assum\w+|let|given|where|with|for which|such that|when|whenever|unless|at least|at most|more than|less than|greater than|define\w*|known)\b|[?？]", _FLAGS)
_VALUES = re.compile(r"(?<![\w.\\{^_/])-?(?:\\\$|\$)?\d[\d,]*(?:\.\d+)?(?![\w^/]|\.\d)|\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\}")


def find_stated_answer(problem: str, answer: str) -> str | None:
    """Returns the sentence of a problem that states the answer as a result, or None.

    A number that is merely given does not count: the sentence must say that something follows (`therefore`, `in total`,
    `=`), or stand after the question. Sentences with a condition or a question do not count either.
    """
    wanted = answer.strip().strip("$").replace(",", "").replace("\\$", "").replace("dfrac", "frac").replace("tfrac", "frac")
    if not re.search(r"\d", wanted) or len(wanted) > 40:
        return None
    pieces = _pieces(problem)
    last = max((i for i, piece in enumerate(pieces) if re.search(r"[?？]", piece.text) or _COMMAND.search(piece.text)), default=len(pieces))
    for index, piece in enumerate(pieces):
        text = piece.text
        if _SUPPOSES.search(text) or _CHOICES.search(text) or _NOT_WORKED.match(text) or text[0] == "(":
            continue
        result = _RESULT.search(text) or _ARITHMETIC.search(text)
        if index <= last and _COMMAND.match(text):
            continue
        if index > last and len(re.findall(r"\b[a-z]{2,}\b", text)) >= 3 and "=" not in text:
            begin = 0  # nothing is asked after it, and a question has been asked
        elif result is not None:
            begin = result.start() if text[result.start()].isdigit() else result.end()
        else:
            continue
        if any(_same(value.group(), wanted) for value in _VALUES.finditer(text, begin)):
            return text.strip()
    return None


def _same(value: str, wanted: str) -> bool:
    value = value.replace(",", "").replace("$", "").replace("\\", "").replace("dfrac", "frac").replace("tfrac", "frac")
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted.replace("\\", "").replace(" ", "")
