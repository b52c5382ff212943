"""Words of texts in many scripts, and dedup of such texts."""

from __future__ import annotations

import itertools
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personahub.core.duplicates import minhash
from personahub.core.duplicates.surface import deduplicate, jaccard, nearest
from personahub.core.texts.words import words_of

DISTINCT = {  # spellings that differ only in vowel signs, tone marks, points or signs
    "Devanagari": ["दिन", "दान", "दीन", "दून", "देन", "दन"],
    "Bengali": ["কাল", "কুল", "কিল", "কোল", "কল", "কূল"],
    "Gurmukhi": ["ਦਿਨ", "ਦਾਨ", "ਦੀਨ", "ਦਨ", "ਦੰਨ"],
    "Gujarati": ["દિન", "દાન", "દીન", "દન"],
    "Tamil": ["கல்", "கால்", "கோல்", "கீல்", "கல", "கொல்"],
    "Telugu": ["కల", "కాల", "కీల", "కొల", "కోల"],
    "Kannada": ["ಕಲ", "ಕಾಲ", "ಕೀಲ", "ಕೋಲ"],
    "Malayalam": ["കല", "കാല", "കോല", "കൊല"],
    "Sinhala": ["මල", "මාල", "මිල", "මූල"],
    "Thai": ["มา", "ม้า", "หมา", "มี", "มือ", "แม่", "เมา", "ไม่", "ไม้", "เก่า", "เกา", "เข้า", "ขาว", "ข่าว", "ข้าว"],
    "Lao": ["ມາ", "ມ້າ", "ໝາ", "ມີ", "ແມ່", "ເມົາ", "ໄມ້"],
    "Khmer": ["កា", "កី", "កុ", "កូ", "ក", "ក្រ", "ក្ល"],
    "Myanmar": ["စာ", "စား", "စိ", "စီး", "စု", "စ", "တ္ထ"],
    "Tibetan": ["ཀ", "ཀི", "ཀུ", "ཀེ", "ཀོ"],
    "Arabic": ["كَتَبَ", "كُتِبَ", "كُتُب", "كتب", "كِتاب"],
    "Persian": ["نامه‌ای", "نامهای"],
    "Hebrew": ["סֵפֶר", "סָפַר", "סַפָּר", "סִפֵּר", "ספר"],
    "Greek": ["πότε", "ποτέ", "ποτε"],
    "Latin": ["résumé", "resume", "resumé", "Mädchen", "Madchen"],
    "Vietnamese": ["ma", "má", "mà", "mả", "mã", "mạ"],
    "Kana": ["はは", "ばば", "ぱぱ", "かき", "カキ", "ガキ", "カーキ"],
    "Han": ["大", "太", "犬", "大犬"],
    "Hangul": ["감", "강", "간", "갑"],
    "Ethiopic": ["ሰላም", "ሰለም"],
    "programming languages": ["C", "C++", "C#", "F", "F#", "J#", "C+"],
    "grades": ["A", "A+", "B", "B+"],
}


@pytest.mark.parametrize("script", DISTINCT)
def test_spellings_that_differ_in_marks_are_distinct(script: str) -> None:
    spellings = DISTINCT[script]
    for one, other in itertools.combinations(spellings, 2):
        assert set(words_of(one)) != set(words_of(other)), (one, other)
    result = deduplicate([f"x {spelling} y" for spelling in spellings], 1.0)
    assert len(result.kept) == len(spellings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी के शिक्षक", ["हिन्दी", "के", "शिक्षक"]),
        ("தமிழ் ஆசிரியர்", ["தமிழ்", "ஆசிரியர்"]),
        ("東京タワーへ行くGPT-4", ["東", "京", "タワー", "へ", "行", "く", "gpt", "4"]),
        ("เก่าไก่น้ำ ๑๒๓", ["เก่า", "ไก่", "น\u0e49\u0e4d\u0e32", "๑๒๓"]),
        ("ព្រះរាជា", ["ព្រះ", "រា", "ជា"]),
        ("ဝတ္ထု", ["ဝ", "တ္ထု"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        ("대한민국 교사", ["대한민국", "교사"]),
        ("C++, C#; (F#) A+ C++/C# x+y 18+ C++11 issue#5 Ｃ＋＋ я+",
         ["c++", "c#", "f#", "a+", "c++", "c#", "x", "y", "18", "c", "11", "issue", "5", "c++", "я+"]),
        ("can\u00adteen \u200fשלום\u200e a\u2060b", ["canteen", "שלום", "ab"]),
        ("one\u200btwo", ["one", "two"]),
        ("a\u200d b\u200c, c\u200dd", ["a", "b", "c\u200dd"]),
        ("👩🏽‍⚕️ nurse👩🏿‍⚕️ ❤️ 🇩🇪", ["nurse"]),
        ("\u0301 \u0301a -\u093f", ["a"]),
        ("葛\U000e0100城", ["葛", "城"]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", "CAFE\u0301"),
        ("naïve", "nai\u0308ve"),
        ("Việt", "Vie\u0323\u0302t"),
        ("ΐ", "\u03aa\u0301"),
        ("per\u00adson", "person"),
        ("\u200eperson\u200f", "person"),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("ガギ", "ｶﾞｷﾞ"),
        ("क़लम", "क\u093cलम"),
        ("கொல்", "க\u0bc6\u0bbeல்"),
        ("น\u0e49\u0e33", "น\u0e49\u0e4d\u0e32"),
        ("Ｃ＃ ﬁsh", "c# FISH"),
        ("❤️ love", "❤ love"),
    ],
)
def test_spellings_of_the_same_word_are_equal(one: str, other: str) -> None:
    assert jaccard(one, other) == 1
    assert len(deduplicate([one, other], 1.0).kept) == 1


NEAR = {
    "Chinese": "一位住在北京的退休历史老师热爱京剧书法和园艺每天早上在公园里打太极拳",
    "Japanese": "東京の小さなパン屋で毎朝四時から働いている若い職人で週末にはギターを弾いて歌う",
    "Thai": "ครูสอนภาษาไทยที่เกษียณแล้วอาศัยอยู่ในเชียงใหม่ชอบปลูกต้นไม้และทำอาหารให้หลานกินทุกวันหยุด",
    "Lao": "ຄູສອນພາສາລາວທີ່ອອກບຳນານແລ້ວອາໄສຢູ່ໃນວຽງຈັນມັກປູກຕົ້ນໄມ້ແລະເຮັດອາຫານໃຫ້ຫຼານກິນທຸກມື້",
    "Khmer": "គ្រូបង្រៀនភាសាខ្មែរដែលចូលនិវត្តន៍រស់នៅក្នុងទីក្រុងភ្នំពេញចូលចិត្តដាំដើមឈើនិងធ្វើម្ហូប",
    "Myanmar": "ရန်ကုန်မြို့မှာနေထိုင်တဲ့အငြိမ်းစားကျောင်းဆရာမတစ်ယောက်သည်စာအုပ်ဖတ်ခြင်းနှင့်ပန်းစိုက်ခြင်းကိုနှစ်သက်သည်",
}


@pytest.mark.parametrize("language", NEAR)
def test_near_duplicates_without_spaces_are_found(language: str) -> None:
    text = NEAR[language]
    result = deduplicate([text, text + text[-1], "x " + text, text[:9]], 0.9)
    assert result.kept.tolist() == [0, 3]
    shuffled = [other for name, other in NEAR.items() if name != language]
    assert all(jaccard(text, other) < 0.5 for other in shuffled)


def _personas(pattern: str, *choices: str) -> list[str]:
    lists = [choice.split() for choice in choices]
    combined = [pattern.format(*(word.replace("_", " ") for word in words)) for words in itertools.product(*lists)]
    return random.Random(7).sample(combined, 2000)


def test_distinct_hindi_personas_are_kept() -> None:
    """Personas that differ in one of eight words are at most 7/9 similar, also if only a vowel sign differs."""
    rows = _personas(
        "{0} {1} में {2} {3} {4}",
        "दीन दानी दूनी देनी दिन दान मिल माल मेल मूल मोल कल काल कील कुल",
        "दिल्ली पटना पुणे काशी कोटा केरल सूरत गोवा",
        "बाल बोल बेल बिल बल फल फूल फाल",
        "पीना पाना पूना पोना जीना जाना",
        "शिक्षक लेखक चित्रकार किसान",
    )
    result = deduplicate(rows, 0.9)
    assert len(result.kept) == 2000


def test_distinct_thai_personas_are_kept() -> None:
    rows = _personas(
        "{0}ที่{1}ชอบ{2}และ{3}",
        "ครู หมอ ชาวนา ช่างไม้ พยาบาล ทหาร ตำรวจ นักเขียน นักร้อง วิศวกร",
        "เชียงใหม่ ขอนแก่น ภูเก็ต อยุธยา ลำปาง ระยอง สงขลา น่าน",
        "ว่ายน้ำ เล่นดนตรี อ่านหนังสือ ปลูกผัก ตกปลา วาดรูป วิ่ง",
        "ดูหนัง ถ่ายภาพ เดินป่า ทำอาหาร เลี้ยงแมว ปั่นจักรยาน",
    )
    assert len(deduplicate(rows, 1.0).kept) == 2000
    assert len(deduplicate(rows, 0.9).kept) == 1970  # the letters of หมอ are also elsewhere in its row
    assert len(minhash.deduplicate(rows, 0.9, ngram=2).kept) == 2000


def test_every_character_counts_as_it_does_in_python() -> None:
    """The compiled folding agrees with `words_of` on all code points: in words, at their ends, and next to marks."""
    singles = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xF900]
    rows = [f"{c}a{c} ก{c}{c} e{c}\u0301 カ{c}#" for c in singles if unicodedata.category(c) != "Cn"]
    others = [c for code in range(0x110000) if unicodedata.category(c := chr(code)) in ("Cn", "Co")]
    others += [chr(code) for code in range(0x20000, 0x110000) if unicodedata.category(chr(code)) not in ("Cn", "Co")]
    rows += ["-".join(others[first : first + 64]) + "b" for first in range(0, len(others), 64)]
    check(rows)


CHARACTERS = st.sampled_from(
    "abC+#_9 .éÉß<北カかーกเแาะ\u1000\u1039\u17d2\u1780\u0301\u0327\u0338\u0345\u093c\u0928\u094d\u09c7\u09be\u200c\u200d"
    "\u00ad\ufe0f\u200f\u3099ㅋㅏ가\u11a8😀𝐀𠀀ｶﾞＡ＋\u0f71\u0f72"
)


@settings(max_examples=500, deadline=None)
@given(rows=st.lists(st.text(CHARACTERS, max_size=40), max_size=8))
def test_the_kernel_agrees_with_python_on_texts(rows: list[str]) -> None:
    check(rows)


def check(rows: list[str]) -> None:
    """Compares the words that the kernel hashes in each row with those of `words_of`, spelled one by one."""
    spelled = [" ".join(words_of(row)) for row in rows]
    wordless = np.array([not text for text in spelled], bool)
    matches, similarities = nearest(rows, spelled, 1.0)
    wrong = np.flatnonzero(~wordless & (similarities != 1))
    assert not [ascii(rows[row]) for row in wrong[:5].tolist()]
    for row, match in enumerate(matches.tolist()):
        assert wordless[row] or set(spelled[match].split()) == set(spelled[row].split())
