"""The in-process engine on a tiny random Qwen2: batching changes nothing, limits hold, errors are one line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Message, Request, RequestRefused, Sampling

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(chat_template: str | None = TEMPLATE):
    """One token for each ASCII character, with the special tokens of ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = [*map(chr, range(33, 127)), "\u0120", "\u010a"]  # the last two stand for a space and a line break
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|pad|>"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>", chat_template=chat_template
    )


def save_model(folder: Path, chat_template: str | None = TEMPLATE, **overrides) -> Path:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(chat_template)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.6,  # random weights of this size still prefer some tokens to others
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**{**settings, **overrides}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("tiny"))


def ask(folder: Path, requests: list[Request], **config) -> list[Completion]:
    async def run() -> list[Completion]:
        engine = open_engine(engine_config({"kind": "transformers", "model": str(folder), **config}, "engines.tiny"))
        try:
            return await asyncio.gather(*(engine.complete(request) for request in requests))
        finally:
            await engine.close()

    return asyncio.run(run())


def request(text: str, seed: int = 0, **sampling) -> Request:
    return Request(
        (Message(role="user", content=text),), Sampling(**{"temperature": 0, "max_tokens": 24, **sampling}), seed
    )


PROMPTS = [f"{'How many ' * (i % 7)}apples do {i} baskets hold?" for i in range(16)]


def reference(folder: Path, text: str, max_tokens: int) -> str:
    """Returns the output of `generate` for the prompt alone."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        output = model.generate(**ids, max_new_tokens=max_tokens, do_sample=False)
    return tokenizer.decode(output[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def test_greedy_equals_generate_whatever_the_batch(model_folder):
    requests = [request(text, max_tokens=8 + 5 * (i % 4)) for i, text in enumerate(PROMPTS)]
    alone = [c.text for c in ask(model_folder, requests, batch_size=1)]
    assert alone == [reference(model_folder, t, r.sampling.max_tokens) for t, r in zip(PROMPTS, requests, strict=True)]
    for batch_size in (5, 64):
        assert [c.text for c in ask(model_folder, requests, batch_size=batch_size)] == alone
    assert len(set(alone)) > len(alone) / 2, "the model says the same to all prompts: the test shows nothing"


def test_sampling_depends_on_the_seed_alone(model_folder):
    requests = [request(text, seed=i, temperature=0.9, top_p=0.95) for i, text in enumerate(PROMPTS)]
    mixed = [r if i % 3 else request(PROMPTS[i]) for i, r in enumerate(requests)]
    alone = [c.text for c in ask(model_folder, requests, batch_size=1)]
    assert [c.text for c in ask(model_folder, requests, batch_size=16)] == alone
    assert [c.text for i, c in enumerate(ask(model_folder, mixed, batch_size=16)) if i % 3] == [
        text for i, text in enumerate(alone) if i % 3
    ]
    other = [
        c.text for c in ask(model_folder, [request(r.messages[0]["content"], 99, temperature=0.9) for r in requests])
    ]
    assert other != alone


def test_sampling_follows_the_distribution():
    from personahub.core.engines.local.decoding import DecodeRow, sample

    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05])).repeat(4000, 1)

    def shares(**sampling) -> list[float]:
        uniforms = torch.rand(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        rows = [DecodeRow([0], 1, 0, uniforms=u[None], **sampling) for u in uniforms]
        return (torch.bincount(sample(rows, logits), minlength=4) / 4000).tolist()

    assert shares(temperature=1.0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert shares(temperature=1.0, top_p=0.6) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert shares(temperature=1.0, top_k=1) == [1, 0, 0, 0]
    assert shares(temperature=0.5)[0] == pytest.approx(0.25 / 0.365, abs=0.03)
    assert shares(temperature=1.0, top_p=1e-9) == [1, 0, 0, 0]


def test_counts_and_length_limit(model_folder):
    (completion,) = ask(model_folder, [request("Hi", max_tokens=5, temperature=1.0)])
    assert completion.finish_reason == "length"
    assert completion.completion_tokens == 5
    assert completion.prompt_tokens == len("user\nHi\nassistant\n") + 3
    assert completion.truncated


def test_end_of_sequence_ends_a_row_and_not_the_others(tmp_path):
    folder = save_model(tmp_path)
    first = ask(folder, [request(text, max_tokens=30) for text in PROMPTS])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    end = tokenizer.encode(first[0].text)[6]  # made the end of a sequence, this token cuts the first answer short
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [end]}))
    second = ask(folder, [request(text, max_tokens=30) for text in PROMPTS])
    mark = tokenizer.decode([end])
    assert second[0].text == first[0].text.partition(mark)[0]
    assert second[0].finish_reason == "stop"
    assert [c.text for c in second] == [c.text.partition(mark)[0] for c in first]
    assert {c.finish_reason for c in second} == {"stop", "length"}


def test_stop_strings(model_folder):
    (whole,) = ask(model_folder, [request(PROMPTS[1])])
    stop = whole.text[7:10]
    (stopped,) = ask(model_folder, [request(PROMPTS[1], stop=(stop, "never said"))])
    assert stopped.text == whole.text.partition(stop)[0]
    assert stopped.finish_reason == "stop"


def test_a_tokenizer_without_template_gets_the_plain_prompt(tmp_path):
    folder = save_model(tmp_path, chat_template=None)
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="1 + 1?"))
    (completion,) = ask(folder, [Request(messages, Sampling(temperature=0, max_tokens=3), 0)])
    assert completion.prompt_tokens == len("Be brief.\n\n1 + 1?\n")


def test_the_format_decides_between_chat_template_and_plain_text(model_folder, tmp_path):
    lengths = {
        name: ask(model_folder, [request("1 + 1?", max_tokens=3)], format=name)[0].prompt_tokens
        for name in ("auto", "chat", "plain")
    }
    assert lengths["plain"] == len("1 + 1?\n")
    assert lengths["auto"] == lengths["chat"] > lengths["plain"]
    with pytest.raises(EngineUnavailable, match=r"no chat template\. Set format to plain or auto"):
        ask(save_model(tmp_path, chat_template=None), [request("x")], format="chat")


def test_a_plain_continuation_ends_at_the_templates_stop_string(model_folder):
    (whole,) = ask(model_folder, [request(PROMPTS[1])], format="plain")
    stop = whole.text[5:8]
    (stopped,) = ask(model_folder, [request(PROMPTS[1], stop=(stop,))], format="plain")
    assert (stopped.text, stopped.finish_reason) == (whole.text.partition(stop)[0], "stop")


@pytest.mark.parametrize("shared_heads", [1, 2, 4])
def test_decoding_gives_the_logits_of_a_single_pass(shared_heads):
    """Step by step, with padding and through several moves of the cache, against PyTorch's own attention."""
    from personahub.core.engines.local.decode_attention import BufferedLayer, use_decode_attention

    torch.manual_seed(1)
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.Qwen2Config(vocab_size=50, num_key_value_heads=shared_heads, **settings)
    model = transformers.Qwen2ForCausalLM(config).eval()
    lengths, total = torch.tensor([80, 47, 3]), 80
    ids = torch.randint(50, (3, total))
    mask = (torch.arange(total) >= total - lengths[:, None]).long()  # padded on the left
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        expected = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        use_decode_attention(model)
        assert model.config._attn_implementation == "personahub_decode"
        cache = transformers.DynamicCache(config=config)
        cache.layers = [BufferedLayer() for _ in cache.layers]
        for begin, end in [(0, 2), *((i, i + 1) for i in range(2, total))]:
            part = {"input_ids": ids[:, begin:end], "position_ids": positions[:, begin:end]}
            logits = model(**part, attention_mask=mask[:, :end], past_key_values=cache).logits
            real = mask[:, begin:end].bool()
            torch.testing.assert_close(logits[real], expected[:, begin:end][real], atol=1e-5, rtol=1e-4)


def test_prompts_that_do_not_fit_are_refused_alone(model_folder):
    async def run() -> list[Completion | BaseException]:
        config = {"kind": "transformers", "model": str(model_folder), "max_model_len": 100}
        engine = open_engine(engine_config(config, "engines.tiny"))
        return await asyncio.gather(
            engine.complete(request("short", max_tokens=20)),
            engine.complete(request("x" * 100, max_tokens=20)),
            return_exceptions=True,
        )

    fine, refused = asyncio.run(run())
    assert isinstance(fine, Completion)
    assert isinstance(refused, RequestRefused)
    assert refused.reason == "prompt_too_long"


def test_late_requests_join_a_running_batch(model_folder):
    async def run() -> tuple[Completion, Completion]:
        engine = open_engine(engine_config({"kind": "transformers", "model": str(model_folder)}, "engines.tiny"))
        long = asyncio.create_task(engine.complete(request(PROMPTS[2], max_tokens=200)))
        await asyncio.sleep(0.05)
        late = await engine.complete(request(PROMPTS[4], max_tokens=2))
        assert not long.done(), "the late request waited for the long one"
        result = await long, late
        await engine.close()
        return result

    assert list(asyncio.run(run())) == ask(
        model_folder, [request(PROMPTS[2], max_tokens=200), request(PROMPTS[4], max_tokens=2)], batch_size=1
    )


def test_a_cancelled_request_leaves_the_batch(model_folder):
    from personahub.core.engines.local.decoding import DecodeBatch, DecodeRow

    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    batch = DecodeBatch(model, frozenset(), 0, lambda _: "")
    wanted, unwanted = DecodeRow([5, 6, 7], 100, 0), DecodeRow([8], 100, 0)
    batch.admit([wanted, unwanted])
    unwanted.is_dropped = lambda: True
    assert batch.step() == [unwanted]
    assert batch.rows == [wanted]


def test_a_failure_reaches_everyone_and_the_engine_goes_on(model_folder, monkeypatch):
    async def run() -> None:
        engine = open_engine(engine_config({"kind": "transformers", "model": str(model_folder)}, "engines.tiny"))
        with monkeypatch.context() as patch:
            patch.setattr(engine._batch, "step", lambda: 1 / 0)
            answers = await asyncio.gather(
                *(engine.complete(request(text)) for text in PROMPTS), return_exceptions=True
            )
        assert {type(answer) for answer in answers} == {ZeroDivisionError}
        assert (await engine.complete(request(PROMPTS[0]))).completion_tokens > 0
        await engine.close()

    asyncio.run(run())


def test_sliding_windows_and_other_caches_finish_their_batch_first(tmp_path):
    folder = save_model(tmp_path, use_sliding_window=True, sliding_window=16, max_window_layers=1)
    requests = [request(text, max_tokens=8 + 5 * (i % 4)) for i, text in enumerate(PROMPTS[:9])]
    alone = [c.text for c in ask(folder, requests, batch_size=1)]
    assert [c.text for c in ask(folder, requests, batch_size=4)] == alone


def test_what_it_cannot_do_is_said(model_folder):
    schema = Request((Message(role="user", content="x"),), Sampling(), 0, json_schema={"type": "object"})
    with pytest.raises(EngineUnavailable, match="JSON schema"):
        ask(model_folder, [schema])
    with pytest.raises(EngineUnavailable, match="min_p"):
        ask(model_folder, [request("x", extra={"min_p": 0.1})])


def test_a_template_that_refuses_the_messages(tmp_path):
    folder = save_model(tmp_path, chat_template="{{ raise_exception('no system role') }}")
    with pytest.raises(EngineUnavailable, match="no system role"):
        ask(folder, [request("x")])


def _nothing(folder: Path) -> Path:
    return folder / "missing"


def _no_config(folder: Path) -> Path:
    return folder


def _broken_weights(folder: Path) -> Path:
    save_model(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    return folder


def _missing_weights(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    save_model(folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _bad_config(folder: Path) -> Path:
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("spoil", [_nothing, _no_config, _broken_weights, _missing_weights, _bad_config])
def test_models_that_cannot_be_loaded_are_one_line(tmp_path, spoil):
    folder = spoil(tmp_path)
    with pytest.raises(EngineUnavailable) as error:
        ask(folder, [])
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_code_of_a_model_is_never_run(tmp_path):
    save_model(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    settings = json.loads((tmp_path / "config.json").read_text())
    settings |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(EngineUnavailable):
        ask(tmp_path, [])
    assert not (tmp_path / "ran").exists()
