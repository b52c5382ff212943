"""Tools: the code of an interface, kept only if it runs in the sandbox as the interface says.

    tools:
      run: synth.tools
      inputs: {interfaces: interfaces}        # of synth.usecases, use_case: tool_interface
      config: {engine: teacher}

The second of the paper's two steps. Every program is loaded in the sandbox (`synth.sandbox.programs`), its function's
parameters are compared with the interface, and the interface's own example is called twice: the result
has to be JSON of the type that the interface promises, and the same both times.
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
from personahub.core.forecast import Forecast, Requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
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

_MARK = "tool check: "  # in front of the line that the check prints, whatever else is printed
_CODE_TOKENS = 350


class Config(StageConfig):
    """Who writes the code, and what it may use when it is tried."""

    engine: EngineName
    template: Annotated[str, TemplateFolder(PROMPTS)] = "tool_code"
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=2048)
    attempts: int = Field(default=3, gt=0, description="How often code is asked for, when the reply holds none.")
    programs: Limits = Field(default=Limits(timeout_s=5), description="What the code may use.")


def run(stage: Stage[Config]) -> None:
    """Write the tools whose code does what their interface says."""
    map_completions(stage, _process, stage.input("interfaces"), TOOL)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    template = load_template(config.template, PROMPTS)

    def prompts(row: Row) -> list[Request]:
        seed = derive_seed(config.seed, row["id"])
        return [Request(template.render(interface=row["text"]), config.sampling, seed, engine=config.engine)]

    with Sandbox(config.programs) as sandbox:
        async for row, (result,) in shard.generate(shard.rows(), prompts, parse_code, config.attempts):
            if isinstance(result, Failure):
                shard.reject(row, result.error, result.raw)
                continue
            code, model = result
            try:
                value = await asyncio.to_thread(check_tool, sandbox, code, json.loads(row["fields"]))
            except Rejected as error:
                shard.reject(row, error, code)
            else:
                shard.write(_record(row, code, value, model))


def parse_code(_: Request, completion: Completion) -> tuple[str, str]:
    """The program of a reply (`synth.voting.votes.program_of`), and the model.

    Raises:
        Rejected: `truncated`, `refusal` or `no_code`.
    """
    reply = completion.whole_text()
    code = program_of(reply)
    if code is None:
        raise Rejected("refusal" if find_refusal(reply) else "no_code", "the reply holds no closed ```python block")
    return code, completion.model


_CHECK = """
import inspect, json
code, name, names, example = json.loads({given!r})
space = {{"__name__": "tool"}}
def tell(step, **more):
    print("\\n" + {mark!r} + json.dumps({{"step": step, **more}}), flush=True)
tell("import_failed")
exec(compile(code, "<tool>", "exec"), space)
function = space.get(name)
if not inspect.isfunction(function):
    tell("no_function")
elif list(inspect.signature(function).parameters) != names:
    tell("signature_mismatch", found=list(inspect.signature(function).parameters))
else:
    tell("example_failed")
    results = [json.dumps(function(**json.loads(json.dumps(example))), allow_nan=False) for _ in range(2)]
    if results[0] != results[1]:
        tell("not_deterministic")
    else:
        tell("ok", result=json.loads(results[0]))
"""


def check_tool(sandbox: Sandbox, code: str, interface: Mapping[str, Any]) -> Any:
    """What the code returns for the interface's example.

    Raises:
        Rejected: `import_failed`, `no_function`, `signature_mismatch`, `example_failed` (it raises, or the result is
            no JSON), `not_deterministic`, `wrong_return_type`, `timeout` or `output_limit`.
    """
    names = [argument["name"] for argument in interface["input_args"]]
    given = json.dumps([code, interface["function_name"], names, interface["example"]])
    (result,) = sandbox.run([_CHECK.format(given=given, mark=_MARK)])
    told = _told(result)
    if result.status in ("timeout", "output_limit"):
        raise Rejected(result.status, f"at step {told['step']}")
    if told["step"] != "ok":
        raise Rejected(told["step"], result.detail or str(told.get("found", "")))
    if not has_type(told["result"], interface["return"]["type"]):
        raise Rejected("wrong_return_type", f"{told['result']!r:.80} is not of type {interface['return']['type']}")
    return told["result"]


def _told(result: ProgramResult) -> dict[str, Any]:
    """The last step that the check reached."""
    lines = re.findall(rf"^{re.escape(_MARK)}(.*)$", result.output, re.MULTILINE)
    try:
        told = json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        told = None
    return told if isinstance(told, dict) and isinstance(told.get("step"), str) else {"step": "import_failed"}


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
    """One request per interface."""
    count = rows_in["interfaces"]
    messages = load_template(config.template, PROMPTS).render(interface="x" * 900)
    prompt = sum(len(message["content"]) for message in messages) // 4
    return Forecast(
        rows_out=count,
        requests={config.engine: Requests(count, count * prompt, count * _CODE_TOKENS)},
        disk_bytes=count * 3000,
        notes=(f"assumes {_CODE_TOKENS} tokens out per tool",),
    )
