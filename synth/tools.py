"""Write code for a tool interface, and keep it only if it runs as the interface says.

    tools:
      run: synth.tools
      inputs: {interfaces: interfaces}        # from synth.usecases, use_case: tool_interface
      config: {engine: teacher}

This is the second of the paper's two steps. Each program is loaded in the sandbox (`synth.sandbox.programs`).
The parameters of its function must match the interface. The interface's own example is called twice: the
result must be JSON of the declared type, and the same both times.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from personahub.core.config import EngineName, StageConfig, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast
from personahub.core.generation.llm_stage import estimate_tokens, forecast_requests, usable_results
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import TOOL, Row
from personahub.core.stage import Stage
from personahub.core.template import load_template
from personahub.core.texts.replies import find_refusal
from synth.contracts.tool_interface import has_type
from synth.prompts import PROMPTS
from synth.sandbox.programs import Limits, ProgramResult, Sandbox
from synth.voting.votes import program_of

VERSION = "2"
INPUTS = ("interfaces",)

_MARK = "tool check: "  # starts the lines of the check; the code itself may print, too
_CODE_TOKENS = 350


class Config(StageConfig):
    """Configuration for tool code."""

    engine: EngineName
    template: Annotated[str, TemplateFolder(PROMPTS)] = "tool_code"
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=2048)
    attempts: int = Field(default=3, gt=0, description="Attempts per interface until a reply has code.")
    programs: Limits = Field(default=Limits(timeout_s=5), description="Limits for the code in the sandbox.")


def run(stage: Stage[Config]) -> None:
    """Writes the tools whose code does what their interface says."""
    map_completions(stage, _process, stage.input("interfaces"), TOOL)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    template = load_template(config.template, PROMPTS)

    def prompts(row: Row) -> list[Request]:
        seed = derive_seed(config.seed, row["id"])
        return [Request(template.render(interface=row["text"]), config.sampling, seed, engine=config.engine)]

    with Sandbox(config.programs) as sandbox:
        async for row, _, (code, model) in usable_results(shard, shard.rows(), prompts, parse_code, config.attempts):
            try:
                value = await asyncio.to_thread(check_tool, sandbox, code, json.loads(row["fields"]))
            except Rejected as error:
                shard.reject(row, error, code)
            else:
                shard.write(_record(row, code, value, model))


def parse_code(_: Request, completion: Completion) -> tuple[str, str]:
    """Returns the program of a reply (`synth.voting.votes.program_of`) and the model.

    Raises:
        Rejected: `truncated`, `refusal` or `no_code`.
    """
    reply = completion.whole_text()
    code = program_of(reply)
    if code is None:
        raise Rejected("refusal" if find_refusal(reply) else "no_code", "the reply has no closed ```python block")
    return code, completion.model


_CHECK = """
import inspect, json
code, name, names, example = json.loads({given!r})
space = {{"__name__": "tool"}}
def report(step, **more):
    print("\\n" + {mark!r} + json.dumps({{"step": step, **more}}), flush=True)
report("import_failed")
exec(compile(code, "<tool>", "exec"), space)
function = space.get(name)
if not inspect.isfunction(function):
    report("no_function")
elif list(inspect.signature(function).parameters) != names:
    report("signature_mismatch", found=list(inspect.signature(function).parameters))
else:
    report("example_failed")
    results = [json.dumps(function(**json.loads(json.dumps(example))), allow_nan=False) for _ in range(2)]
    if results[0] != results[1]:
        report("not_deterministic")
    else:
        report("ok", result=json.loads(results[0]))
"""


def check_tool(sandbox: Sandbox, code: str, interface: Mapping[str, Any]) -> Any:
    """Runs the code on the interface's example and returns the result.

    Raises:
        Rejected: `import_failed`, `no_function`, `signature_mismatch`, `example_failed` (the code raises, or its result
            is not JSON), `not_deterministic`, `wrong_return_type`, `timeout` or `output_limit`.
    """
    names = [argument["name"] for argument in interface["input_args"]]
    given = json.dumps([code, interface["function_name"], names, interface["example"]])
    (result,) = sandbox.run([_CHECK.format(given=given, mark=_MARK)])
    reported = _last_report(result)
    if result.status in ("timeout", "output_limit"):
        raise Rejected(result.status, f"at step {reported['step']}")
    if reported["step"] != "ok":
        raise Rejected(reported["step"], result.detail or str(reported.get("found", "")))
    if not has_type(reported["result"], interface["return"]["type"]):
        raise Rejected("wrong_return_type", f"{reported['result']!r:.80} is not of type {interface['return']['type']}")
    return reported["result"]


def _last_report(result: ProgramResult) -> dict[str, Any]:
    """Returns the last step that the check reported."""
    lines = re.findall(rf"^{re.escape(_MARK)}(.*)$", result.output, re.MULTILINE)
    try:
        reported = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        reported = None
    return (
        reported if isinstance(reported, dict) and isinstance(reported.get("step"), str) else {"step": "import_failed"}
    )


def _record(row: Row, code: str, value: Any, model: str) -> Row:
    return {
        **{
            key: value for key, value in row.items() if key not in ("text", "use_case", "fields", "sample", "prompting")
        },
        "id": content_id("tool", code, row["id"]),
        "interface_id": row["id"],
        "interface": row["text"],
        "interface_model": row["model"],
        "code": code,
        "example_result": json.dumps(value, ensure_ascii=False),
        "model": model,
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per interface. Repeated requests after rejected replies are not counted."""
    count = rows_in["interfaces"]
    prompt = estimate_tokens(load_template(config.template, PROMPTS).render(interface="x" * 900))
    return Forecast(
        rows_out=count,
        requests=forecast_requests((config.engine, count, prompt, _CODE_TOKENS)),
        disk_bytes=count * 3000,
        notes=(f"assumes {_CODE_TOKENS} tokens out per tool",),
    )
