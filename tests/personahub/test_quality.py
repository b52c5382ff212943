"""Quality heuristics: what they drop, what they must keep, and their rates on the released personas."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from personahub.core.config import parse_config
from personahub.core.errors import Rejected, UserError
from personahub.personas.lexicon import detect_language, names_person
from personahub.personas.names import introduced_name, mentioned_name
from personahub.quality import CHECKS, Config, check, contact_data, named_person, prompt_copy

BAD = {
    "too_short": ["", "   ", "Nurse", "...", "-"],
    "too_long": ["A nurse who " + "works and " * 100, "A nurse " + "x" * 10_000, "A " + "é" * 4000],
    "vague": ["A person", "Someone who is interested", "An individual with various interests", "A student"],
    "refusal": [
        "I'm sorry, but I can't help with that.",
        "I am sorry, I cannot describe people.",
        "I apologize, there is no one to describe here.",
        "Unfortunately, I am unable to determine who would read it.",
        "I cannot infer personal characteristics from this content.",
        "As an AI language model, I have no view on who might write it.",
        "As an AI, I do not know any people.",
        "A person whose role cannot be determined",
        "There is not enough information to describe anyone.",
    ],
    "prompt_copy": [
        "Persona: a nurse at a small clinic",
        "A nurse. Relation: colleague",
        "A teacher who is likely to read this kind of page, that is, who is likely to read it",
        "A farmer interested in the text",
        "A doctor who agrees with the given text and its claims",
        "The author of the article, a botanist",
        "Sure, here is a persona: a florist",
        "Here are two people: a florist and a baker",
        "A model citizen, </persona> and a florist",
        "states what makes this person who they are (occupation or role, expertise, situation, goals, interests)",
        "A baker; someone they serve, teach, treat, supply or depend on, a colleague",
    ],
    "markup": [
        "**A nurse** at a small clinic",
        "# A nurse at a small clinic",
        "- A nurse at a small clinic",
        "2. A nurse at a small clinic",
        "A [profession] who works in [city]",
        "A {{ role }} who works in a city",
        "A <role> who works in a city",
        "A nurse<br>at a small clinic",
        "A nurse &amp; a midwife",
        "A nurse\nat a small clinic",
        "A nurse\\nat a small clinic",
        "A nurse \ufffd\ufffd at a clinic",
        "A nurse \x00 at a clinic",
        "A nurse, lorem ipsum dolor",
        "A nurse who ```print(1)``` daily",
        "A TBD working in a hospital",
        "insert name here, a nurse",
    ],
    "contact_data": [
        "A nurse who can be reached at mira.kovac@example.org",
        "A nurse, mira (at) example (dot) org",
        "A nurse, mira＠example.org",
        "A nurse (call 555-0123)",
        "A nurse with the number +44 20 7946 0018",
        "A nurse with the number (212) 555 0187",
        "A nurse whose phone is ０１６３ ５５５ ０１２３",
        "A nurse who writes on https://nurse.example/blog",
        "A nurse who writes on www.nurse.example",
        "A nurse with a page at nurses.org/mira",
        "A nurse who posts as @mira_kovac",
        "A nurse living at 12 Old Mill Road",
        "A nurse living at 221b Baker Street",
    ],
    "repetition": [
        "A nurse nurse nurse nurse nurse in a clinic",
        "A nurse who works a lot and works a lot and works a lot and works a lot",
        "A nurse!!!!!!!!!!!!!!!! in a clinic",
        "the nurse saw the nurse, a nurse saw a nurse, nurse the nurse, a the nurse",
    ],
    "language": [
        "一位退休的历史老师，喜欢在周末徒步旅行",
        "Старший разработчик с опытом работы в банке",
        "Un agricoltore biologico che coltiva ingredienti di alta qualità e offre prodotti freschi",
        "Ein Geschichtslehrer, der sich besonders für die Kolonialgeschichte interessiert",
        "Una enfermera que trabaja en un hospital de la costa",
        "นักพัฒนาซอฟต์แวร์ที่เชี่ยวชาญในงานการพัฒนาเว็บไซต์",
        "看護師として小さな病院で働いています",
    ],
    "named_person": [
        "Jane Smith, a nurse at a small clinic",
        "Dr. Jane Smith, a nurse at a small clinic",
        "Professor Jane A. Smith is a botanist",
        "I am Johnny Walker, a novelist",
        "Maria de la Cruz, who teaches chemistry",
        "Jürgen Müller is a retired engineer",
        "A person named Greg Peters who enjoys humour",
        "My name is Anna Karlsson and I teach",
        "Name: Anna Karlsson, a teacher",
        "Sam, a travel blogger who paints",
        "Dorte is an independent historian",
        "I am Helga, a woman from a small village",
        "An old friend and classmate of Takumi Nakano",
        "Jane Smith",
    ],
    "not_a_person": [
        "A pharmaceutical company seeking to optimize drug discovery",
        "A large museum that needs to store its collection",
        "The history of bread in northern towns",
        "Water quality in karst springs",
        "An old, lazy dog that watches the cat",
        "A tech startup developing delivery robots",
        "Would a nurse like it?",
        "Long walks on the beach and good food",
    ],
}

GOOD = [
    "A retired bus driver who restores old cameras",
    "a nurse",  # coarse, and short
    "A computer scientist",
    "PHP programmer",
    "an NZR employee",
    "I'm a basketball blogger and an avid fan",
    "As an AI researcher, she studies how models forget",
    "As a physician with 20 years of experience, I can't imagine another life",
    "A developer of Node.js and ASP.NET services",
    "A fan of bands from the years 1990-2005, born on 12-05-1983",
    "A trader who lost 1,250,000 dollars between 2008 and 2010",
    "A collector of issues 1234567 and 7654321",
    "A hacker who reads about C++ and F# at 3:30",
    "Senior Java developer specialised in options",
    "Taxi Driver, a veteran of the night shift",
    "Public Relations Manager for a metro line",
    "African American, a proud mother of two",
    "South Asian American, who teaches dance",
    "General Practitioner, a mother of two",
    "Beekeeper, an early riser",
    "Retired, a widower with a dog",
    "Norwegian, a sailor and cook",
    "As a teacher, the day starts early for her",
    "An afghan immigrant in New Hampshire who dreams of becoming a hairdresser",
    "A customer of the Bank of New Zealand",
    "A K-pop fan en route to Seoul",
    "A chef from Curaçao who cooks crème brûlée à la maison",
    "A Chinese teacher who explains the character 好 to beginners",
    "Occupation: hydrologist; setting: a town waterworks; goal: predict turbidity in a karst spring",
    "Role: court reporter. Interests: local history and leeks. Situation: writes one column a week.",
    "The mayor of a small town by the sea",
    "Someone who repairs organs and dislikes electronics",
    "Head of operations at a fast-food chain",
    "A follower of the painters of the Costa de la Luz",
    "A grandmother of eleven who sends parcels",
    "A sheep farmer who counts in an old rhyme",
    "A mother who is a nurse and a nurse who is a mother",
    "A woman who, after 30 years, left her job",
    "A high school junior preparing for a geography contest",
    "A person who apologises for everything",
    "An employee who was told sorry too late",
    "A web designer inserting ads here and there",
]


def reason(persona: str, config: Config | None = None) -> str | None:
    try:
        check(persona, config or Config())
    except Rejected as error:
        return error.reason
    return None


@pytest.mark.parametrize(("expected", "persona"), [(name, persona) for name, bad in BAD.items() for persona in bad])
def test_faults_are_dropped_for_the_right_reason(expected: str, persona: str) -> None:
    assert reason(persona) == expected


@pytest.mark.parametrize("persona", GOOD)
def test_sound_personas_are_kept(persona: str) -> None:
    assert reason(persona) is None


BACK_REFERENCES = [
    "The author seems to be interested in astronomy and old telescopes",
    "The historian who wrote about this history",
    "Author of the history document",
    "The writer of this article",
    "Someone who read the above passage",
    "A reader of this blog post",
    "The person described in the text",
    "The author is a historian with a focus on Rome",
    "A scientist who agrees with the author on climate policy",
    "The researcher appears to be an expert in lasers",
    "A teacher mentioned in the article",
    "A student who wrote this essay on bees",
    "This person is a nurse who works nights",
    "The individual is likely a history student",
    "A person who has read the abstract on lasers",
    "The blogger behind this travel site",
    "The audience of this page: young parents",
    "A reader of the aforementioned report",
    "The person who wrote the blog post about sourdough",
    "A critic of the author's views on farming",
    "The poster is a gamer who dislikes updates",
    "A hiker, the narrator of this story",
    "People who might read this article",
    "A chemist interested in the material described above",
    "The reviewer, a foodie from Ohio",
    "The author of the article, a botanist",
    "The speaker in the passage",
    "The author of this text is likely to dislike it.",
    "A mathematician who would enjoy reading this paper",
    "The writer's friend, a nurse",
    "Individuals mentioned in this document",
    "The person who probably wrote it",
    "Someone interested in the topic discussed.",
    "A chemist who knows the person who wrote this",
]

NO_BACK_REFERENCES = [
    "A historian who writes about medieval history",
    "An author of children's books",
    "The mayor of a small town by the sea",
    "A reader of the local newspaper",
    "A writer of the company blog",
    "The author of a bestselling cookbook",
    "The author who writes for teenagers",
    "A literary agent who reads manuscripts of young authors",
    "A researcher who studies how people read news articles",
    "A journalist who wrote about the history of rowing",
    "An editor of a scientific journal who checks abstracts",
    "A teacher who grades essays and reports",
    "The researcher who studies karst springs",
    "A text editor developer",
    "A developer of the text editor Vim",
    "A blogger who writes about this year's football season",
    "A student writing a paper on the history of Rome",
    "A lawyer who reads the fine print of documents",
    "A speaker at conferences on material science",
    "A nurse who has read every report on sepsis",
    "A reviewer of restaurants in small towns",
    "The reader of a mountain weather station",
    "A fan who has seen the musical described by critics as daring",
    "The writer in residence at a small library",
    "A translator of the Bible who discusses the text of the Psalms",
    "A web developer who maintains the page of a choir",
    "A content writer, reader of science fiction",
    "A librarian who catalogs historical documents",
    "The owner of a bakery that appears in travel guides",
    "The chef may be strict but is loved by all",
    "A reader who wants more information about the study of bees",
    "Someone who writes reviews of the history documentaries",
    "The author and illustrator of picture books",
]

NAMED = [
    "Leussink Engineering CEO, Jason Leussink",
    "Emily, a seasoned librarian",
    "Dr. Sarah Chen, a marine biologist",
    "Named Ahmed, a taxi driver in Cairo",
    "Maria Gonzalez is a nurse",
    "Alex, a student",
    "Dr. Li, immunologist",
    "Dr. Wang, molecular biologist at a university",
    "Kimberly, an avid gardener",
    "Mohammed, 34, a mechanic",
    "Sarah (42) teaches chemistry",
    "Peter works as a bus driver",
    "Oliver - a retired plumber",
    "A nurse named Heather who works nights",
    "A farmer called Victor",
    "Coach Williams, who trains sprinters",
    "Captain John Reyes, a pilot",
    "Nurse Patel works at a hospice",
    "The head librarian, Anil Gupta",
    "Mrs. Okafor runs a bakery",
    "Susan, retired teacher",
    "Ryan's a plumber",
    "A nurse, Ana Silva, who loves hiking",
    "Software engineer: Tom Baker",
    "A 35-year-old teacher named Wei",
    "Professor Nguyen, historian",
    "Her name is Olga and she teaches",
    "John Smith (45), accountant",
    "Priya, software engineer at a startup",
    "Meet Esther, a potter",
    "Ahmed is a driver",
    "Jean-Luc Martin, baker",
]

NOT_NAMED = [  # as the subject; some mention names of places or public figures
    "A Shakespeare scholar",
    "A fan of Taylor Swift",
    "A Baptist minister, Texas native",
    "A lawyer, Harvard graduate",
    "A Texan, proud father",
    "Quantitative Finance Analyst",
    "Mathematical Physicist",
    "Head Chef, mother of two",
    "Software Engineer in computational physics",
    "Nurse Practitioner, who works nights",
    "Father, husband and coach",
    "Registered Nurse, who works nights",
    "Retired Teacher who works",
    "A nurse from Boston, Massachusetts",
    "A teacher in Austin, Texas, who paints",
    "A Ford mechanic",
    "A Christian pastor, Sunday school teacher",
    "A Beatles fan, Liverpool native",
    "A Java developer",
    "Georgia resident who teaches",
    "Jordan native, a cook",
    "Virginia native, farmer",
    "Princeton alumna, novelist",
    "Old Navy employee who sews",
    "General Motors employee",
    "Detective novelist, a cat owner",
    "Judge Advocate, who works",
    "A World War II veteran",
    "An Einstein biographer",
    "Chess player, Russian",
    "Marketing is a passion of hers",
    "A citizen of Saint Lucia",
    "A Jane Austen reader",
    "Sales Manager at Acme",
    "A curious student, Muslim",
    "A chef, Michelin starred",
    "A Scout leader, Boy Scouts",
    "A student of the Madison High School",
    "A resident of San Jose, Costa Rica",
    "Chief Executive, who runs a bank",
    "A Marxist, Leninist",
    "Google employee, a runner",
    "A developer, Google",
    "Tax economist, Financial Times",
    "Policy analyst, Federal Reserve",
    "A broker, Goldman Sachs",
    "Flight attendant, Delta Airlines",
    "An engineer, General Motors",
    "A teacher, New Yorker",
    "A Star Trek fan and a Marvel collector",
    "A gamer who plays Mario",
]


@pytest.mark.parametrize("persona", BACK_REFERENCES)
def test_references_to_the_source_text_are_dropped(persona: str) -> None:
    assert prompt_copy(persona, Config()) is not None
    assert reason(persona) in ("prompt_copy", "vague")


@pytest.mark.parametrize("persona", NO_BACK_REFERENCES)
def test_people_who_deal_with_texts_are_kept(persona: str) -> None:
    assert reason(persona) is None


@pytest.mark.parametrize("persona", NAMED)
def test_introduced_people_are_dropped(persona: str) -> None:
    assert reason(persona, Config(named_person="subject")) == "named_person"


@pytest.mark.parametrize("persona", NOT_NAMED)
def test_capitals_alone_are_not_a_name(persona: str) -> None:
    assert introduced_name(persona) is None


def test_every_check_has_labelled_faults() -> None:
    assert set(BAD) == set(CHECKS)


@pytest.mark.parametrize("name", list(CHECKS))
def test_a_skipped_check_is_not_made(name: str) -> None:
    persona = BAD[name][0] or "x"
    assert reason(persona, Config(skip=(name,))) != name
    assert reason(persona, Config(skip=tuple(CHECKS))) is None


def test_thresholds_move_the_border() -> None:
    persona = "A retired bus driver who restores old cameras"
    assert reason(persona, Config(min_words=8)) is None
    assert reason(persona, Config(min_words=9)) == "too_short"
    assert reason(persona, Config(max_words=8)) is None
    assert reason(persona, Config(max_words=7)) == "too_long"
    assert reason("一位退休的历史老师", Config(languages=(), min_words=9)) is None
    assert reason("一位退休的历史老师", Config(languages=(), min_words=10)) == "too_short"
    assert reason("A nurse who nurses and nurses who nurse the nurses", Config(min_distinct_share=0.9)) is None
    loop = "A nurse in a ward and a nurse in a clinic and a doctor in a ward"
    assert reason(loop, Config(min_distinct_share=0.6)) == "repetition"
    assert reason(loop, Config(min_distinct_share=0.4)) is None


def test_languages_choose_what_is_kept() -> None:
    german = "Ein Geschichtslehrer, der sich für die Kolonialgeschichte interessiert"
    assert reason(german, Config(languages=("de", "en"))) is None
    assert reason(german, Config(languages=())) is None
    assert reason("A nurse who works at the coast", Config(languages=("de",))) == "language"
    with pytest.raises(UserError, match=r"c\.languages: .*'eng' is unknown\. Did you mean 'en'"):
        parse_config(Config, {"languages": ["eng"]}, "c")


def test_named_person_mention_also_drops_ties_to_people() -> None:
    subject, mention = Config(named_person="subject"), Config()
    for persona in (
        "A patient of Dr. Shirin Agha",
        "A former classmate of Takumi Nakano",
        "Bruce Miller's colleague and friend, also a soil scientist",
        "A devoted Sara Lindqvist fan",
        "A coach who admires Linda Page",
    ):
        assert reason(persona, subject) is None
        assert reason(persona, mention) == "named_person"
    for persona in (
        "A student of New York University",
        "A fan of South Korea",
        "A lover of Computer Science",
        "A resident of Örnsköldsvik Municipality",
        "A meteorologist who watches Tampa Bay's games",
    ):
        assert reason(persona, mention) is None


def test_names_are_returned_whole() -> None:
    assert introduced_name("Dr. Sophia L. Turner, an economist") == "Dr. Sophia L. Turner"
    assert introduced_name("Ludwig van Beek is a potter") == "Ludwig van Beek"
    assert introduced_name("Senior Software Engineer, a mentor of many") is None
    assert mentioned_name("a neighbour of Ayşe Yılmaz who bakes") == "Ayşe Yılmaz"
    assert mentioned_name("a neighbour who bakes") is None


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A nurse in a small clinic", "en"),
        ("PHP programmer", None),
        ("Soy un desarrollador con años de experiencia", "es"),
        ("Um professor de estatística que orienta o aluno", "pt"),
        ("Een wiskundeleraar op een school die het leuk vindt", "nl"),
        ("En lärare som tycker om att undervisa", "sv"),
        ("Un historien passionné par la généalogie des familles", "fr"),
        ("프랑스 요리를 좋아하는 회사원", "ko"),
        ("", None),
        ("12 34", None),
    ],
)
def test_detect_language(text: str, language: str | None) -> None:
    assert detect_language(text) == language


def test_person_words() -> None:
    for word in ("nurse", "teachers", "Teacher's", "hydrologist", "set-designer", "women", "Norwegian", "clerk"):
        assert names_person(word), word
    for word in ("paper", "waters", "government", "river", "clinic", "company", "very", "department", "is"):
        assert not names_person(word), word


@pytest.mark.parametrize(
    "persona",
    [
        "a" * 200_000,
        "a " * 100_000,
        "A" + " A" * 100_000,
        "1 " * 100_000,
        "a-" * 100_000,
        "[" * 100_000,
        "{a" * 50_000,
        "a@" * 50_000,
        "a." * 50_000,
        "\n" * 100_000,
        "Aa Bb " * 30_000,
    ],
)
def test_hostile_input_takes_no_time(persona: str) -> None:
    started = time.process_time()
    assert reason(persona) is not None
    assert reason(persona[:2900]) is not None
    assert time.process_time() - started < 1


def test_released_personas_pass(test_data: Path) -> None:
    lines = (test_data / "personas/personahub_tool_personas.jsonl").read_text().splitlines()
    personas = [json.loads(line)["persona"] for line in lines]
    subject = Config(named_person="subject")
    every_language = Counter(reason(persona, Config(languages=(), named_person="subject")) for persona in personas)
    assert every_language[None] / len(personas) >= 0.98
    for name in ("too_short", "too_long", "vague", "refusal", "markup", "contact_data", "repetition"):
        assert every_language[name] <= 2, name
    english = [persona for persona in personas if detect_language(persona) in ("en", None)]
    assert len(english) > 4800
    assert sum(reason(persona, subject) is None for persona in english) / len(english) >= 0.98
    assert every_language["named_person"] <= 35
    assert every_language["prompt_copy"] <= 8
    named = sum(reason(persona) == "named_person" for persona in english)
    assert 0.04 < named / len(english) < 0.08  # fans, friends and colleagues of named people


def test_the_stage_counts_reasons_and_keeps_lineage(run: Any, repository: Path) -> None:
    artifacts = run(
        {
            "documents": {
                "run": "personahub.sources",
                "config": {"path": str(repository / "configs/data/walks_of_life.jsonl"), "limit": 30},
            },
            "first": {
                "run": "personahub.text_to_persona",
                "inputs": {"documents": "documents"},
                "config": {"engine": "teacher"},
            },
            "good": {"run": "personahub.quality", "inputs": {"personas": "first"}},
        },
        {"teacher": {"kind": "simulated", "model": "s", "persona_rates": {"low_quality": 0.2, "contact": 0.1}}},
    )
    faults = {}
    for row in artifacts["first"].truth():
        faults |= {persona["text"]: persona["fault"] for persona in json.loads(row["truth"])["personas"]}
    good, manifest = artifacts["good"], artifacts["good"].manifest
    before = {row["id"]: row for row in artifacts["first"].rows()}
    assert all(row == before[row["id"]] for row in good.rows())
    dropped = [json.loads(row["record"]) for row in good.rejected()]
    assert {row["id"] for row in good.rows()} | {row["id"] for row in dropped} == set(before)
    assert sum(manifest.counts.rejected.values()) == len(dropped) > 30
    assert manifest.summary["pass_rate"] == good.num_rows / len(before)
    bad = {"low_quality", "prompt_copy", "contact"}
    assert not any(faults[row["persona"]] in bad for row in good.rows())
    assert all(faults[row["persona"]] in bad for row in dropped)


def test_names_and_contact_data_in_labelled_descriptions() -> None:
    """See `benchmarks/persona_quality.py`; written by hand, in ten locales, with words that only look like names."""
    file = Path(__file__).parent / "data" / "people_and_contacts.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def share(found: list[bool]) -> float:
        return sum(found) / len(found)

    for part, recall, passed in (("tuned", 0.95, 0.94), ("held_out", 0.8, 0.7)):
        own = [row for row in rows if row["part"] == part]
        private = [named_person(row["text"], Config()) is not None for row in own if row.get("person") == "private"]
        nobody = [named_person(row["text"], Config()) is None for row in own if row.get("person") == "none"]
        assert share(private) >= recall
        assert share(nobody) >= passed
        contacts = [(contact_data(row["text"]) is not None) == row["contact"] for row in own if "contact" in row]
        assert all(contacts)
