"""Arrow schemas of the records that stages exchange. Every `id` is a content hash.

Lineage is stored in columns, not in a metadata dict. A solution names its problem, a problem its
persona, and a persona its parent persona or web text, so any record can be traced back to the text it
came from. Text that a model wrote carries the model's name.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

Row = dict[str, Any]

_TEXT = pa.string()

DOCUMENT = pa.schema([("id", _TEXT), ("text", _TEXT), ("kind", _TEXT), ("source", _TEXT), ("licence", _TEXT)])

PERSONA = pa.schema(
    [
        ("id", _TEXT),
        ("persona", _TEXT),
        ("document_id", _TEXT),  # the web text at the root of the lineage
        ("parent_id", _TEXT),  # the persona this one is related to; null at hop 0
        ("relation", _TEXT),  # null at hop 0
        ("hop", pa.int32()),  # 0 = Text-to-Persona, 1..6 = Persona-to-Persona
        ("mode", _TEXT),  # read, write, like or dislike
        ("granularity", _TEXT),  # coarse, medium or fine; null if none was requested
        ("profile", _TEXT),  # occupation, expertise, interests, ... as JSON; null if only a description was requested
        ("source", _TEXT),
        ("licence", _TEXT),
        ("model", _TEXT),
        ("machine_generated", pa.bool_()),
    ]
)

PROBLEM = pa.schema(
    [
        ("id", _TEXT),
        ("problem", _TEXT),
        ("persona_id", _TEXT),  # also set in the no-persona arm, which uses the same ids without the text
        ("persona", _TEXT),  # as shown to the model; null in the no-persona arm
        (
            "drawn",
            pa.list_(_TEXT),
        ),  # entries of other lists shown to the model, such as key points or words; null if none
        ("document_id", _TEXT),
        ("template", _TEXT),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("licence", _TEXT),
        ("model", _TEXT),
        ("machine_generated", pa.bool_()),
    ]
)

SAMPLE = pa.struct(
    [
        ("kind", _TEXT),  # cot or pot
        ("text", _TEXT),
        ("model", _TEXT),
        ("seed", pa.int64()),
        ("finish_reason", _TEXT),
    ]
)

SOLUTIONS = pa.schema([*PROBLEM, ("samples", pa.list_(SAMPLE))])

VOTE = pa.struct(
    [
        ("kind", _TEXT),
        ("model", _TEXT),
        ("answer", _TEXT),  # null if none could be extracted
        ("cluster", pa.int32()),  # equivalent answers share a cluster; -1 without an answer
        ("status", _TEXT),  # answered, judged, no_answer, timeout, error or truncated
        ("flaw", _TEXT),  # why the answer of a program does not count as evidence; null otherwise
    ]
)

VERIFIED = pa.schema(
    [
        *PROBLEM,
        ("answer", _TEXT),
        ("solution", _TEXT),  # the chosen CoT of the winning cluster
        ("solution_model", _TEXT),
        ("votes", pa.list_(VOTE)),
        ("vote_share", pa.float64()),  # winning cluster / all samples: the solve rate without a reference
        ("difficulty", _TEXT),  # easy, medium or hard, by vote_share; null if nothing was compared
        ("policy", _TEXT),
        ("reason", _TEXT),  # why it was kept
    ]
)

SYNTHETIC = pa.schema(
    [
        ("id", _TEXT),
        ("use_case", _TEXT),
        ("text", _TEXT),  # the whole reply; without its label if it has only one part
        ("fields", _TEXT),  # the reply's parts by name, as JSON
        ("persona_id", _TEXT),  # also set in the no-persona arm
        ("persona", _TEXT),  # as shown to the model; null in the no-persona arm
        ("document_id", _TEXT),
        ("template", _TEXT),
        ("prompting", _TEXT),  # zero_shot, few_shot or persona_few_shot
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("licence", _TEXT),
        ("model", _TEXT),
        ("machine_generated", pa.bool_()),
    ]
)

TOOL = pa.schema(
    [
        ("id", _TEXT),
        ("interface_id", _TEXT),
        ("interface", _TEXT),  # as JSON
        ("interface_model", _TEXT),
        ("code", _TEXT),
        ("example_result", _TEXT),  # what the code returned for the interface's example, as JSON
        ("persona_id", _TEXT),
        ("persona", _TEXT),
        ("document_id", _TEXT),
        ("template", _TEXT),
        ("seed", pa.int64()),
        ("licence", _TEXT),
        ("model", _TEXT),  # the model that wrote the code
        ("machine_generated", pa.bool_()),
    ]
)

MESSAGES = pa.list_(pa.struct([("role", _TEXT), ("content", _TEXT)]))

CONVERSATION = pa.schema(
    [
        ("id", _TEXT),
        ("opening_id", _TEXT),  # id of the instruction or persona that it started with
        ("kind", _TEXT),  # assistant or two_personas
        ("messages", MESSAGES),  # in a dialogue of two personas, the first has the role `user`
        ("persona_id", _TEXT),
        ("persona", _TEXT),
        ("partner_id", _TEXT),  # the other persona; null with an assistant
        ("partner", _TEXT),
        ("document_id", _TEXT),
        ("seed", pa.int64()),
        ("licence", _TEXT),
        ("model", _TEXT),  # the model that wrote the last message
        ("machine_generated", pa.bool_()),
    ]
)

SFT = pa.schema(
    [
        ("id", _TEXT),  # the problem's id
        ("split", _TEXT),  # train or test; a problem is in only one of them
        ("prompt", MESSAGES),
        ("completion", MESSAGES),
        ("problem", _TEXT),
        ("answer", _TEXT),
        ("persona_id", _TEXT),
        ("document_id", _TEXT),
        ("licence", _TEXT),
        ("model", _TEXT),  # the model that wrote the solution
        ("machine_generated", pa.bool_()),
    ]
)

REFERENCE = pa.schema(
    [
        ("id", _TEXT),  # content hash over the benchmark's name and the problem's text
        ("benchmark", _TEXT),
        ("item", _TEXT),  # the benchmark's own id, or the row number, starting at 0
        ("problem", _TEXT),
        ("answer", _TEXT),
        ("subject", _TEXT),
        ("level", _TEXT),
    ]
)

GRADED = pa.schema(  # one row per sample; the samples of a problem are consecutive
    [
        ("id", _TEXT),  # the problem's id
        ("sample", pa.int32()),  # 0 with one completion per problem
        ("benchmark", _TEXT),
        ("problem", _TEXT),
        ("reference", _TEXT),
        ("predicted", _TEXT),
        ("verdict", _TEXT),  # correct, wrong, no_answer, timeout or error
        ("rule", _TEXT),  # the rules of extraction and of equivalence that applied
        ("cluster", pa.int32()),  # equivalent answers share a cluster; -1 without an answer; null with one sample
        ("judged", _TEXT),  # the LLM judge's verdict: correct, wrong or unread; null if it was not asked
        ("judgement", _TEXT),  # the judge's reply in full
        ("completion", _TEXT),
        ("finish_reason", _TEXT),
        ("completion_tokens", pa.int64()),
        ("subject", _TEXT),
        ("level", _TEXT),
    ]
)

DISCORDANT = pa.schema(  # problems that two models do not solve equally well
    [
        ("id", _TEXT),  # the problem's id
        ("benchmark", _TEXT),
        ("a", _TEXT),  # names of the two runs
        ("b", _TEXT),
        ("problem", _TEXT),
        ("reference", _TEXT),
        ("subject", _TEXT),
        ("level", _TEXT),
        ("answer_a", _TEXT),  # with several samples, the most frequent answer
        ("answer_b", _TEXT),
        ("score_a", pa.float64()),  # share of correct samples
        ("score_b", pa.float64()),
    ]
)

REJECTED = pa.schema(
    [
        ("id", _TEXT),
        ("reason", _TEXT),
        ("detail", _TEXT),
        ("record", _TEXT),  # the rejected record as JSON
        ("raw", _TEXT),  # the model's text that did not qualify, if a model wrote it
    ]
)

TRUTH = pa.schema(
    [
        ("record_id", _TEXT),  # the input record the request was made for
        ("sample", pa.int32()),
        ("attempt", pa.int32()),
        ("truth", _TEXT),  # JSON
    ]
)
