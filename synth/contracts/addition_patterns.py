"""Patterns of what models write around a problem; see `synth.contracts.additions`."""

from __future__ import annotations

import re

FLAGS = re.IGNORECASE
OPENS = r"[\s>#*_(\[~`•-]*"  # what can stand before the first word of a section or sentence
CLOSES = r"[ \t*_\])]*"
THIS = r"(?:this|the (?:above|given|following|present|math|word)|the)(?: \w+){0,3}?"
PROBLEM = r"(?:problem|question|puzzle|exercise|scenario|task|challenge|equation|calculation)s?"
# Labels that head a section with the solution; the second group only with a colon or in a heading.
SOLVES = (
    r"(?:(?:complete |detailed |full |possible |sample |model |worked |short |brief |suggested |example )*"
    r"(?:step[- ]by[- ]step )?(?:solutions?|answers?|ans|sol|explanations?|hints?|derivation|walk-?through|workings?"
    r"|working out|rationale|justification|answer key|key|answer explanation|calculations?|computation|reasoning"
    r"|thought process|solving(?: (?:the|this) (?:problem|equation))?|how to solve(?: it)?|solution (?:steps|approach|method"
    r"|strategy|outline|process)|(?:final|correct|expected|exact|numerical|expected) (?:answer|result|value|solution|output)|results?"
    r"|method(?: of solution)?|approach|strategy|steps?(?: to solve)?|procedure|verification|check|conclusion|proof"
    r"|解|答|答案|解析|解释|解答|提示|solución|respuesta|lösung|antwort|réponse|risposta|soluzione|resposta|ответ|решение)|step (?:\d+|one|[ivx]+))"
)
REMARKS = (
    r"(?:commentary|comments?|notes? (?:to|for|on) [\w ]{1,30}|teacher'?s? notes?|author'?s? notes?|about (?:this|the) problem"
    r"|(?:learning|educational) (?:objectives?|goals?|outcomes?)|objectives?|difficulty(?: level)?|grade(?: level)?"
    r"|(?:math(?:ematical)?|key|relevant|core) (?:concepts?|skills?|topics?|ideas?)|skills?(?: (?:tested|required|needed))?"
    r"|concepts?(?: (?:tested|used|involved))?|topics?|subject(?: area)?|tags?|keywords?|category|why (?:this|it) [\w ]{1,30}"
    r"|context(?: and relevance)?|relevance|design notes?|problem type|target audience|requirements?(?: check)?|extensions?"
    r"|follow-up(?: questions?)?|bonus(?: questions?)?|real-world (?:connection|application)|source|disclaimer|persona)"
)
LABEL_END = rf"{CLOSES}(?:[:：]|(?<=[*_)\]])[ \t]*$|[.)]?[ \t]*[*_]+[ \t]*$)"
NUMBER = r"(?:\$+|\\[(\[])?\s*(?:\\boxed|-?\s*(?:[$€£]|\\\$)?\s*\d|-?\\[dt]?frac|-?\\sqrt)"
SOLUTION_LABEL = re.compile(
    rf"(?:{OPENS})(?:\d+[.)]\s*)?{SOLVES}(?: \d+| \([^)\n]{{1,30}}\))?{LABEL_END}|[ \t]*#+[ \t*_]*{SOLVES}{CLOSES}$"
    rf"|{OPENS}ans(?:wer)?[.=]\s*{NUMBER}|[ \t]*####? -?[\d.,]+[ \t]*$|{OPENS}<(?:solution|answer|explanation|hint)s?>",
    FLAGS | re.MULTILINE,
)
REMARK_LABEL = re.compile(rf"(?:{OPENS}){REMARKS}{LABEL_END}|[ \t]*#+[ \t*_]*{REMARKS}{CLOSES}$", FLAGS | re.MULTILINE)
# Sentences that tell how to solve the problem, or its answer, whatever stands around them.
CLEAR_SOLUTION = re.compile(
    rf"{OPENS}(?:"
    rf"(?:so |now,? |in order )?to (?:solve|answer|tackle|work out|approach) (?:{THIS} {PROBLEM}|this|it)\b"
    rf"|(?:here is|here's|below is|see) (?:the|a|my) (?:\w+ )?(?:solution|answer|explanation)"
    rf"|(?:you|we|one|this|it|the problem|the question|students?) (?:can|could|may|will|should|need to)(?: be)? "
    rf"(?:solved? (?:this|the|it|by|using|with|as)|approach(?:ed)? (?:this|by|with|as))"
    rf"|okay,? let|okey,? let|let(?:'s|’s| us|  me) (?:solve|work through|find (?:the|out)|break (?:it|this|the)|start by|tackle)"
    rf"|(?:therefore|thus|hence|so|consequently|in conclusion|finally)?,? ?"
    rf"(?:the|our|my) (?:(?:final|correct|right|required|desired|expected) )?(?:answer|solution)(?: to (?:this|the) \w+)?"
    rf" (?:is|would be|equals|comes to|turns out to be)(?: therefore| thus| then)?:?\s*(?:{NUMBER}|(?:option |choice )?\(?[A-E]\b)"
    rf"|(?:the|this|our)(?: [\w'’-]+){{1,8}}? (?:is|are|was|were|equals|will be|would be) (?:therefore|thus|hence|then|consequently),? "
    rf"(?:(?:approximately|about|exactly|equal to|a total of|only) ){{0,2}}{NUMBER}"
    rf")|.*\\f?boxed\b",
    FLAGS | re.DOTALL,
)
NOT_STATED = (
    r"(?:greater|more|less|fewer|larger|smaller|higher|lower|at least|at most|between|an? |even|odd|above|below)"
)
WEAK_SOLUTION = re.compile(
    rf"{OPENS}(?:\d+[.)]\s+)?(?:"
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
    rf" (?:(?:equal to|therefore|thus|then|approximately|about|exactly|calculated|given by|found|obtained|determined)\b|(?!{NOT_STATED}){NUMBER})"
    rf"|(?:it|this|that|which) (?:is|equals|gives|means|yields|leaves|makes|results in|comes to)(?: \w+)? ?{NUMBER}"
    rf"|(?:the (?:solution|answer|result) (?:is|involves|requires|uses|can be|will be|would be|to (?:this|the)))\b(?! (?:\w+ )?{NOT_STATED}| (?:to be )?(?:expressed|written|given|rounded|stated|required))"
    rf")",
    FLAGS,
)
ARITHMETIC = re.compile(
    r"\d[\d.,]*[ \t$%]*(?:[-+*/×÷·^]|(?<=[ )])x(?= )|\\times|\\cdot|\\div)[ \t$€£]*\\?[$]?\d[^=A-Za-z?]{0,60}(?:=|≈|\\approx)[ \t$€£\\]*-?\d"
)
BARE = re.compile(r"[\s>#*_\[=~`]*\$*\\?[$€£]?-?\d[\d.,/]*\W{0,4}(?:[a-z%]+\W*){0,3}\Z", FLAGS)
CHOICE = re.compile(r"(?:^|[\s(])[A-Fa-f][.):]\s*\Z")
NOT_WORKED = re.compile(r"\W*(?:for (?:example|instance)|e\.g|enter|note|recall|where|assume|use|\$?\\text)\b", FLAGS)
# Sentences about the problem instead of in it.
TELLS = (
    r"(?:requires?|involves?|tests?|combines?|explores?|assess(?:es)?|challenges?|reflects?|incorporates?|captures?|illustrates?"
    r"|demonstrates?|helps?|encourages?|focuses|aims?|introduces|invites|showcases?|highlights?|allows?|adheres|follows|meets|satisfies"
    r"|fits|aligns|draws (?:on|from|upon)|relates? to|has been|was|can be (?:solved|adapted|used|answered|modified|extended|approached)|would be|may be|should be (?:solvable|suitable|solved|challenging|relevant|of interest)"
    r"|(?:is|are) (?:also |both |clearly |directly |fully |specifically |well |thus |therefore )*(?:designed|intended|meant|created|crafted|tailored|based on"
    r"|inspired|solvable|solved|suitable|appropriate|self-contained|consistent|relevant|challenging|well-posed|well-defined|related|about|framed"
    r"|structured|aimed|geared|formulated|posed|straightforward|simple|easy|difficult|hard|classic|realistic|practical|interesting|engaging"
    r"|rooted|a (?:\w+ ){0,3}(?:one|problem|application|example|exercise|way|question|test)|an (?:\w+ ){0,3}(?:problem|application|example|exercise|question)))"
)
CLEAR_REMARK = re.compile(
    rf"{OPENS}(?:note:? |notes?: |remark:? |please note (?:that )?)?(?:that )?(?:"
    rf"(?:overall, |in summary, |here, )?{THIS} {PROBLEM}(?: above)?(?: (?:that|which) [^.?!]{{0,40}})? {TELLS}\b"
    rf"|this (?:\w+ )?(?:problem|question|exercise|puzzle) (?:asks|wants|deals with|uses|is asking)\b"
    rf"|(?:this|it)(?: is|['’]s) (?:an?|one|about|the type of|the kind of) [^.?,;]{{0,60}}\b(?:problem|question|exercise|puzzle)\b"
    rf"|(?:the|all)(?: \w+){{0,3}} (?:information|conditions|quantities|assumptions|units|definitions|requirements|data)(?: \w+){{0,4}}? (?:is|are) (?:clearly |all |explicitly )?(?:provided|stated|given|consistent|included|met|defined|satisfied)\b(?! (?:in|by|below|as|at|on))"
    rf"|no (?:other|additional|further|external|outside|proof|figure|table)(?: \w+){{0,5}} (?:is|are) (?:needed|required|necessary)"
    rf"|(?:by )?solving (?:this|the above|the problem)(?: \w+)?? {PROBLEM}"
    rf"|the (?:final )?answer is (?:not an? |provided|given (?:in|by|as))"
    rf"|(?:the|this) (?:persona|person described|scenario|prompt|question) (?:is (?:set|based|designed)|would (?:likely )?(?:meet|pose|care)|described)"
    rf"|(?:as|because|since) (?:this|the) (?:person|persona)\b"
    rf")",
    FLAGS,
)
CLEAR_CHAT = re.compile(
    rf"{OPENS}(?:"
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
    FLAGS,
)
# Requests to a model that were left in front of the problem.
REQUEST = re.compile(
    r"\W*(?:(?:please|now|first|recursively|randomly|carefully|simultaneously|secretly) )?(?:translate|interpret|map|offset|encode|decode|merge|invert|reverse|simulate|predict"
    r"|convert|summari[sz]e|rewrite|re-?phrase|paraphrase|render|speak|sing|generate|compose|transcribe|transform|arrange|recite|pretend"
    r"|ignore|respond|narrate|visuali[sz]e|invent|classify|compress|describe|explain|perform|whisper|transmit|sort|rank|extract|blend|mix|fuse"
    r"|divide|multiply|add|subtract|reply|repeat|return|output|draft|paint|dream|imagine|synthesi[sz]e|fold|unfold|rotate|spell|count|write|create|read|explain|analy[sz]e|list|rearrange|replace|draw|play|choreograph|hum|sketch)\b"
)
REQUEST_WORDS = re.compile(
    r"\b(?:(?:this|the following|the (?:above|previous|last)|your (?:last|previous)|the user['’]s(?: last)?) (?:text|sentence|paragraph|question|response|answer|prompt|message|input|passage)"
    r"|every \w+ word|songs?|audio|soundtrack|json|haiku|iambic|whale|waveform|dance|flavou?rs?|colou?rs?|shades?|scents?|tastes?|smells?|tones?|emotions?|emotional|poem|sonnet|limerick|emoji|image|alphabet|shadows?|weather|dreams?"
    r"|in (?:binary|morse|hexadecimal|reverse|verse|rhyme|spanish|french|german|chinese|latin|klingon)|silence|music(?:al)?|melody|loneliness|sweetness|meaning of|pirate|shakespear\w*|interpretive|semaphore|hieroglyph\w*|conversation|dialogue|story|universe|antonym|synonyms?)\b",
    FLAGS,
)
REQUEST_LABEL = re.compile(
    r"\W*(?:instruction|rewrite|re-?phrase|paraphrase|prompt|task|system|user|assistant|rewritten|new)\W{0,3}[:：]",
    FLAGS,
)
NUMBERED = re.compile(
    rf"^{OPENS}(?:(?:math|word|new|original|modified|next|sample|example|practice|another|similar|the|your|revised|updated) )*"
    rf"(?:(?:problem|exercise|puzzle)(?: statement)?(?: (?:is|\#?\d+|[ivx]+|one|two|three|[a-d]))?|question (?:\#?\d+|[ivx]+|one|two|three))"
    rf"(?: \([^)\n]{{1,40}}\))?{CLOSES}[:：]",
    FLAGS | re.MULTILINE,
)
ASKS = (
    r"(?:what|which|who|whom|whose|why|how|when|where|find|compute|calculate|determine|evaluate|estimate|express|simplify"
    r"|solve|give|state|prove|show|list|name|write|round|factor|expand|convert|draw|graph|identify|derive|describe|decide"
    r"|predict|verify|approximate|maximi[sz]e|minimi[sz]e|rationali[sz]e"
    r"|work out|enter|figure out|sketch|establish|rewrite|reduce|deduce|explain)\b"
)
POLITE = r"(?:then|now|also|and|finally|please|hence|next|thus|instead|using [^,]{1,60}|help \w+)"
COMMAND = re.compile(rf"^[\s>#*_(\[~`•-]*(?:[a-h\divx]{{1,3}}[.)]\s*)?(?:{POLITE},? )*{ASKS}", FLAGS)
MENTIONS = re.compile(
    rf"(?:\b(?:and|then|must|should|please|your task is to)|,) {ASKS}|求|多少|_{{2,}}|\\underline|\(\s*\)", FLAGS
)
FINAL = r"(?:find|compute|calculate|determine|evaluate|express|simplify|give|enter|state|what|how many|how much|prove|show|list)\b"
POSES = re.compile(
    rf"(?:,| then| and| if) (?:then )?{FINAL}|=\s*\$?\s*\Z", FLAGS
)  # a condition that ends in a question
POSED = re.compile(
    rf"^[\s(]*(?:{POLITE},? )*{FINAL}(?!.*=\s*\$*\s*\d)|.*(?:,| then| and) {FINAL}|.*=\s*\$?\s*\Z", FLAGS | re.DOTALL
)
FINAL_COMMAND = re.compile(rf"[\s(]*(?:{POLITE},? )*{FINAL}", FLAGS)
ASKS_AT_ALL = re.compile(
    rf"[?？]|(?<![a-z])(?:{ASKS[3:-3]}|fill|complete|choose|select|order|arrange|add|subtract|multiply|divide|construct|tell|answer"
    r"|count)\b|_{2,}|\(\s*\)|\\underline|求|=\W*\Z|\(A\)|\\qquad",
    FLAGS,
)
ASKS_MARK = re.compile(r"[?？][\"'”’)\]*_$\s]*\Z")
BLOCKED = re.compile(
    r"\[asy\].*?\[/asy\]|\\begin\{(tabular|array|align\*?|cases|[pb]?matrix)\}.*?\\end\{\1\}", re.DOTALL
)
BREAK = re.compile(
    r"(?<!\n\d\.)(?<!Ans\.)(?<=[.?!？。])[\"'”’)\]*_$]*\s+|(?<=[?？])(?=[(\[*])|\n\s*\n|\n(?=\s*(?:[#>*(\[-]|\d+[.)]|[A-Z][\w' -]{0,40}[*_]*[:：]))|(?<=[:：)*$])[ \t]*\n"
    r"|(?<=[.?!)])\s*\n|(?<=[\]}$])\s*(?=[A-Z][a-z]+ )|(?=(?:答案|解析|解释|解答|提示)[ \t*_]*[:：])|[ \t]*(?=[(\[][*_]*(?i:(?:final |correct )?(?:answer|solution|ans|hint))[*_]*[:：=])"
)
RESTATED = re.compile(rf"{OPENS}(?:(?:so|the|final|main|actual) )*question(?: is)?{CLOSES}[:：]{CLOSES}", FLAGS)
PART = re.compile(r"\(?[b-h][.)]|\(?(?:2|ii)\)")
FENCE = re.compile(r"\A\s*(`{3,}|~{3,})[\w-]*[ \t]*\n(.*?)\n?[ \t]*\1\s*", re.DOTALL)
TAGGED = re.compile(r"\A\s*<(problem|question|math_problem|text|output)>\s*(.*?)\s*</\1>\s*", re.DOTALL | re.IGNORECASE)
QUOTES = {
    '"': '"',
    "'": "'",
    "“": "”",
    "‘": "’",
    "«": "»",
    "„": "“",
    "「": "」",
    "`": "`",
    "**": "**",
    "*": "*",
    "__": "__",
}
TITLE = re.compile(
    r"\A\s*(?:[#>*_\s]*(?:problem )?(?:title|name|heading|topic|theme|subject|category|difficulty|level|grade)[ \t*_]*[:：][^\n]*"
    r"|#{1,6}[ \t][^\n.?!]*|(?:\*\*|__)?(?:(?!\*\*|__)[^\n.?!]){1,90}!?(?:\*\*|__):?|(?-i:[A-Z\"“][\w'’\"“”-]*(?:[ -](?:[A-Z&][\w'’\"“”:-]*|an?|the|of|and|in|for|to|on|at|with|by|from|[IVX\d]+))*[ -][A-Z][\w'’\"“”]*):?)[ \t]*\n+",
    re.IGNORECASE,
)
HEADING = re.compile(
    rf"\A{OPENS}(?:\d+(?:\.\d+)*[.)][*_ ]*)?(?:(?:the|math|word|your|new|sample|example|original) )*"
    r"(?:(?:problem|question|exercise|puzzle|task|challenge)(?: (?:statement|description|text))?(?: (?:\#?\d+(?:\.\d+)*|[ivx]+|one))?|statement|description|scenario|situation|background|story|setup)"
    rf"(?: ?\([^)\n]{{1,30}}\))?(?:[*_ \t]*[:：][*_ \t]*|[.]?[*_]+\s*\n|\.[*_]*\s+|[ \t]*\n(?=\s*\S))"
    r"|\A[\s*_]*(?:\d+\.[ ])?\(\d+ (?:points?|marks?|pts)\.?\)[\s*_:.]*|\A\s*\*\*\d+(?:\.\d+)*\.?\*\*\s+"
    r"|\A\s*(?:(?:sure|certainly|of course|okay)[!,.]? )?(?:(?:here(?: is|['’]s)|this is) )?(?:the|a|my|your|our|another) (?:(?:new|math|rewritten|modified|revised|word) )+problem(?: [\w ,]{1,60})??(?: is)?:\s*",
    FLAGS,
)
RULE = re.compile(r"[\s>#*_(\[~`•-]+\Z")
RESULT = re.compile(
    r"\b(?:therefore|thus|hence|so(?! (?:that|far|many|much|on|long|called))|consequently|in total|altogether|(?:which|this|that) (?:is|gives|means|makes|comes to|leaves)"
    r"|amounts? to|comes? (?:out )?to|adds? up to|results? in|yields?|we (?:get|find|obtain)"
    r"|(?:the|her|his|their|our) (?:\w+ )?(?:answer|result|solution|total)(?: \w+){0,4} (?:is|was|will be))\b",
    FLAGS,
)
CHOICES = re.compile(r"\\q?quad|\(A\)|\\text", FLAGS)
SUPPOSES = re.compile(
    r"\b(?:if|suppose|assum\w+|let|given|where|with|for which|such that|when|whenever|unless|at least|at most|more than|less than|greater than|define\w*|known)\b|[?？]",
    FLAGS,
)
VALUES = re.compile(
    r"(?<![\w.\\{^_/])-?(?:\\\$|\$)?\d[\d,]*(?:\.\d+)?(?![\w^/]|\.\d)|\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\}"
)
