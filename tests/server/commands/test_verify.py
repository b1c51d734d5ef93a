"""``tickertape verify``: a tape that is right is found right, and what is wrong on one is named to the token.

The engine is a fake that is small enough to be exact: the distribution of the next token is a hash of the last ones and
of the weights' name, the same whether it samples or reads.
"""

import asyncio
import hashlib
import json
import math
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.engines import ScriptedEngine
from tests.materials import qwen3_dir
from tests.server.conftest import Proxy, qwen3_tokenizer, scripted
from tests.server.store.test_store import turn
from tickertape.clients.engines.choose import KINDS
from tickertape.clients.engines.engine import (
    Chunk,
    Engine,
    EngineInfo,
    Feature,
    LogprobKind,
    Sampling,
    Scored,
    Structure,
    StructureKind,
    TokenIds,
)
from tickertape.clients.engines.errors import EngineCannot, EngineRefused
from tickertape.server.commands.cli import app
from tickertape.server.commands.verify.checking import Verifier, why_not_comparable
from tickertape.server.commands.verify.findings import Check, SessionCheck, Tolerances
from tickertape.server.store.store import Store
from tickertape.server.trajectories.turn import Turn
from tickertape.server.turns.sampling import recorded, restored

END = 151645
#: What it can say; everything else it finds impossible.
WORDS = [*range(1000, 1060), END]
Play: TypeAlias = Callable[..., "Taped"]
Verify: TypeAlias = Callable[..., Result]
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


class FakeHashModel(Engine):
    """A fake model with ``weights``; ``changes`` says after how many tokens of a completion which ones follow."""

    features = frozenset({Feature.SCORE, Feature.MIN_TOKENS, Feature.VERSIONS})
    kind = LogprobKind.RAW
    max_context = 4096
    adapters: tuple[str, ...] = ()

    def __init__(self, weights: str = "A") -> None:
        self.weights = weights
        self.changes: dict[int, str] = {}
        self.read: list[int] = []

    async def start(self) -> EngineInfo:
        return EngineInfo(
            "fake", "http://fake", "hash", self.max_context, logprobs=self.kind, features=self.features,
            adapters=self.adapters,
        )  # fmt: skip

    async def check(self) -> None:
        return

    async def close(self) -> None:
        return

    async def policy_version(self) -> str | None:
        return self.weights

    def logprobs(self, before: Sequence[int], weights: str, temperature: float = 1.0) -> npt.NDArray[np.float64]:
        seed = hashlib.sha256(repr((list(before[-3:]), weights)).encode()).digest()
        logits = np.random.default_rng(list(seed)).normal(size=len(WORDS)) / temperature
        found: npt.NDArray[np.float64] = logits - np.log(np.exp(logits).sum())
        return found

    async def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        stream = prompt_ids.tolist()
        draws = np.random.default_rng(list(request_id.encode()))
        weights = self.weights
        for number in range(sampling.max_tokens):
            weights = self.changes.get(number, weights)
            told = sampling.temperature or 1.0 if self.kind is LogprobKind.PROCESSED else 1.0
            drawn = self.logprobs(stream, weights, sampling.temperature or 1.0)
            place = int(drawn.argmax() if not sampling.temperature else draws.choice(len(WORDS), p=np.exp(drawn)))
            stream.append(WORDS[place])
            logprob = float(self.logprobs(stream[:-1], weights, told)[place])
            yield Chunk([WORDS[place]], [logprob], policy_version=weights)
            if WORDS[place] in sampling.stop_token_ids:
                yield Chunk([], [], finish_reason="stop", stop_reason=WORDS[place])
                return
        yield Chunk([], [], finish_reason="length")

    async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
        if len(token_ids) > self.max_context:
            raise EngineRefused("too long", context_exceeded=True)
        self.read.append(len(token_ids))
        places = {word: place for place, word in enumerate(WORDS)}
        logprobs = [
            float(self.logprobs(token_ids[:at], self.weights)[places[token]]) if at and token in places else math.nan
            for at, token in enumerate(token_ids)
        ]
        return Scored(list(token_ids), logprobs)


class FakeWithForeignStart(FakeHashModel):
    """Puts a token before what it reads, as a server does that adds a beginning of its own."""

    async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
        return await super().score([7, *token_ids], adapter=adapter)


@dataclass
class Taped:
    """A tape, and the model that it was played with."""

    path: Path
    model: FakeHashModel

    def turns(self, session: str) -> list[Turn]:
        async def read() -> list[Turn]:
            store = Store(self.path)
            try:
                return await store.turns(session) or []
            finally:
                store.close()

        return asyncio.run(read())

    def check(
        self,
        session: str,
        rules: Tolerances = Tolerances(),  # noqa: B008
        turns: Sequence[Turn] | None = None,
    ) -> SessionCheck:
        whole = self.turns(session) if turns is None else turns

        async def check() -> SessionCheck:
            return await Verifier(self.model, await self.model.start(), rules).session(whole)

        return asyncio.run(check())


def play(proxy: Proxy, session: str, turns: int = 3, **fields: Any) -> None:
    messages = [*HELLO]
    for number in range(turns):
        answer = proxy.chat(session, messages, **{"max_tokens": 12, **fields})
        assert answer.status_code == 200, answer.text
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": f"More, {number}"}]


@pytest.fixture
def tape(tmp_path: Path) -> Play:
    """Plays sessions: ``tape(model, session=fields of its calls, …)``."""

    def played(model: FakeHashModel, **sessions: dict[str, Any]) -> Taped:
        with scripted(model, tmp_path) as proxy:
            for session, fields in sessions.items():
                play(proxy, session, **fields)
        return Taped(tmp_path / "tape.db", model)

    return played


# What is right.


def test_each_turn_of_a_forest_is_compared_once_and_each_leaf_read_once(tmp_path: Path) -> None:
    model = FakeHashModel()
    with scripted(model, tmp_path) as proxy:
        play(proxy, "s", 3)
        first = proxy.tape.turns("s")[0].response
        for text in ("left", "right"):
            proxy.chat("s", [*HELLO, first, {"role": "user", "content": text}], n=2, max_tokens=12)  # type: ignore[list-item]
        proxy.chat("s", [{"role": "user", "content": "Another beginning"}], max_tokens=12)
        samples = proxy.tape.samples("s")
    found = Taped(tmp_path / "tape.db", model).check("s", Tolerances(tolerance=1e-6))
    assert [check.seq for check in found.turns] == list(range(8))
    assert all(check.compared == check.sampled > 0 for check in found.turns)
    assert max(check.max_difference for check in found.turns) < 1e-6
    assert not any(check.deviations for check in found.turns)
    assert found.streams == len(samples) == 6
    assert sorted(model.read) == sorted(len(sample.token_ids) for sample in samples)


def test_greedy_turns_are_sampled_again(tape: Play) -> None:
    taped = tape(FakeHashModel(), greedy={"temperature": 0}, drawn={"temperature": 1})
    assert [check.greedy for check in taped.check("greedy").turns] == [True] * 3
    assert [check.greedy for check in taped.check("drawn").turns] == [None] * 3


# What is wrong.


def test_changed_logprob_is_named_to_the_token(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={"ignore_eos": True})
    first, second, third = turns = taped.turns("s")
    right = float(second.logprobs[4])
    second.logprobs = second.logprobs.copy()
    second.logprobs[4] += 0.25
    found = taped.check("s", turns=turns)
    assert [check.off for check in found.turns] == [0, 1, 0]
    (deviation,) = found.turns[1].deviations
    assert (deviation.check, deviation.session_id, deviation.turn_id) == (Check.LOGPROB, "s", second.id)
    before = len(first.prompt_delta) + len(first.completion) + len(second.prompt_delta)
    assert (deviation.position, deviation.token) == (before + 4, second.completion[4])
    assert deviation.logprob == pytest.approx(right + 0.25)
    assert deviation.engine_logprob == pytest.approx(right)
    assert found.turns[1].max_difference == pytest.approx(0.25)
    assert found.turns[1].mean_difference == pytest.approx(0.25 / second.completion.size, rel=1e-4)
    assert third.seq == 2


def test_changed_token_is_found_by_its_logprob_and_by_sampling_again(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={"temperature": 0})
    turns = taped.turns("s")
    turns[1].completion = turns[1].completion.copy()
    sampled, turns[1].completion[2] = int(turns[1].completion[2]), 1 if turns[1].completion[2] != 1000 else 1001
    found = taped.check("s", turns=turns)
    by_check = {deviation.check: deviation for deviation in found.turns[1].deviations}
    assert set(by_check) == {Check.LOGPROB, Check.GREEDY}
    start = sum(len(t.prompt_delta) + len(t.completion) for t in turns[:1]) + len(turns[1].prompt_delta)
    assert by_check[Check.LOGPROB].position == start + 2, "no token is as impossible as this one"
    assert math.isnan(by_check[Check.LOGPROB].engine_logprob or 0)
    greedy = by_check[Check.GREEDY]
    assert (greedy.position, greedy.token, greedy.engine_token) == (start + 2, 1, sampled)
    assert not found.turns[0].deviations
    assert found.turns[1].greedy is False


def test_greedy_turn_that_goes_on_behind_its_end_is_named(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={"temperature": 0, "turns": 1})
    (only,) = taped.turns("s")
    n_stream = len(only.prompt_delta) + len(only.completion)
    assert only.completion[-1] == END
    only.completion, only.logprobs = np.append(only.completion, END), np.append(only.logprobs, np.float32(-1))
    found = taped.check("s", turns=[only])
    greedy = next(each for each in found.turns[0].deviations if each.check is Check.GREEDY)
    assert (greedy.position, greedy.token, greedy.engine_token) == (n_stream, END, None)


def test_other_weights_are_off_everywhere(tape: Play) -> None:
    taped = tape(FakeHashModel("A"), s={})
    taped.model = FakeHashModel("B")
    assert all(check.off > 0 for check in taped.check("s").turns)


def test_engine_that_reads_something_else_is_caught_by_its_echo(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={})
    taped.model = FakeWithForeignStart()
    found = taped.check("s")
    (deviation,) = [each for check in found.turns for each in check.deviations]
    first = taped.turns("s")[0]
    assert (deviation.check, deviation.turn_id, deviation.position) == (Check.ECHO, first.id, 0)
    assert (deviation.token, deviation.engine_token) == (first.prompt_delta[0], 7)
    assert {check.not_comparable for check in found.turns} == {"the engine read another stream from position 0 on"}


def test_deviation_is_found_for_any_token(tape: Play) -> None:
    """The comparison has no blind spot: at the beginning, at the end, on the stop token."""
    taped = tape(FakeHashModel(), s={})
    for at in range(3):
        for place in range(len(taped.turns("s")[at].completion)):
            turns = taped.turns("s")
            turns[at].logprobs = turns[at].logprobs.copy()
            turns[at].logprobs[place] -= 0.01
            found = taped.check("s", turns=turns)
            assert [check.off for check in found.turns] == [int(k == at) for k in range(3)], (at, place)


# Versions.


def test_only_tokens_of_the_version_that_is_asked_for_are_compared(tape: Play) -> None:
    model = FakeHashModel("A")
    model.changes = {5: "B"}  # in every turn
    taped = tape(model, s={"ignore_eos": True})
    model.changes = {}
    for weights, n_tokens in (("A", 5), ("B", 7)):
        taped.model = FakeHashModel(weights)
        found = taped.check("s", Tolerances(version=weights))
        assert [(check.compared, check.off) for check in found.turns] == [(n_tokens, 0)] * 3
        everything = taped.check("s")
        assert [check.compared for check in everything.turns] == [12] * 3
        assert all(0 < check.off <= 12 - n_tokens for check in everything.turns)
        assert everything.sampled_under == {"A": 15, "B": 21}


def test_turn_without_a_token_of_the_version_is_said_to_be_left_out(tape: Play) -> None:
    taped = tape(FakeHashModel("A"), s={"temperature": 0})
    found = taped.check("s", Tolerances(version="B"))
    assert {check.not_comparable for check in found.turns} == {"no token of version B"}
    assert {check.not_sampled_again for check in found.turns} == {"not all of it was sampled under version B"}
    assert found.streams == 0, "the engine was not asked for nothing"


# What cannot be compared.


@pytest.mark.parametrize(
    ("kind", "changed", "why"),
    [
        ("raw", {"temperature": 0.7, "logit_bias": {"5": 1.0}, "top_p": 0.9}, None),
        ("processed", {}, None),
        ("processed", {"temperature": 0.0}, None),
        ("", {}, None),
        ("processed", {"temperature": 0.7}, "logprobs are processed, with temperature 0.7"),
        ("processed", {"top_p": 0.9, "top_k": 20}, "logprobs are processed, with top_p 0.9, top_k 20"),
        ("processed", {"presence_penalty": 0.5}, "logprobs are processed, with presence_penalty 0.5"),
        ("processed", {"frequency_penalty": -0.5}, "logprobs are processed, with frequency_penalty -0.5"),
        ("processed", {"repetition_penalty": 1.1}, "logprobs are processed, with repetition_penalty 1.1"),
        ("processed", {"min_p": 0.1, "min_tokens": 3}, "logprobs are processed, with min_p 0.1, min_tokens 3"),
        ("processed", {"logit_bias": {"5": 1.0}}, "logprobs are processed, with logit_bias"),
        ("processed", {"structure": {"kind": "json_object"}}, "logprobs are processed, with structure"),
        ("", {"temperature": 0.7}, "logprobs are of a kind that the tape does not tell, with temperature 0.7"),
    ],
)
def test_logprobs_that_a_prefill_cannot_give_are_told(kind: str, changed: dict[str, Any], why: str | None) -> None:
    made = turn(0, logprob_kind=kind, sampling={**recorded(Sampling(8)), **changed})
    assert why_not_comparable(made) == why


def test_processed_logprobs_are_compared_where_nothing_was_processed(tape: Play) -> None:
    model = FakeHashModel()
    model.kind = LogprobKind.PROCESSED
    taped = tape(model, plain={}, greedy={"temperature": 0}, hot={"temperature": 1.5})
    for session in ("plain", "greedy"):
        assert all(check.compared == check.sampled and not check.off for check in taped.check(session).turns)
    for check in taped.check("hot").turns:
        assert (check.compared, check.not_comparable) == (0, "logprobs are processed, with temperature 1.5")


def test_missing_logprobs_are_counted_and_no_deviation(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={"ignore_eos": True})
    turns = taped.turns("s")
    for each, missing in zip(turns, (slice(0, 2), slice(None), slice(0, 0)), strict=True):
        each.logprobs = each.logprobs.copy()
        each.logprobs[missing] = np.nan
    found = taped.check("s", turns=turns)
    assert [(check.nan, check.off) for check in found.turns] == [(2, 0), (len(turns[1].completion), 0), (0, 0)]
    assert [check.not_comparable for check in found.turns] == [None, "the tape has no logprobs", None]


def test_stream_that_the_engine_cannot_hold_and_adapter_that_it_has_not_are_told(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={})
    taped.model.max_context = 20
    told = taped.check("s").turns[0].not_comparable
    assert told is not None
    assert "tokens is longer than the engine reads" in told
    turns = taped.turns("s")
    for each in turns:
        each.sampling = {**each.sampling, "adapter": "lora-1"}
    assert taped.check("s", turns=turns).turns[0].not_comparable == "the engine has no adapter 'lora-1'"


def test_greedy_turn_that_the_engine_refuses_is_told(tape: Play) -> None:
    taped = tape(FakeHashModel(), s={"temperature": 0})

    class Refusing(FakeHashModel):
        """A fake that has no such grammar."""

        async def generate(self, *_: object, **__: object) -> AsyncGenerator[Chunk, None]:  # type: ignore[override]
            raise EngineCannot("no structures here")
            yield

    taped.model = Refusing()
    assert {check.not_sampled_again for check in taped.check("s").turns} == {"no structures here"}


def test_sampling_comes_back_from_tape_as_it_was_sent() -> None:
    structure = Structure(StructureKind.CHOICE, ["a", "b"])
    sent = Sampling(
        9, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, presence_penalty=1, frequency_penalty=2,
        repetition_penalty=1.5, seed=7, stop=("x",), stop_token_ids=(1, 2), ignore_eos=True, min_tokens=2,
        logit_bias={5: -1.5}, top_logprobs=2, structure=structure, adapter="a", token_arrays=("routed_experts",),
    )  # fmt: skip
    plain = Sampling(9)
    assert all(
        getattr(sent, name) != getattr(plain, name) for name in Sampling.__dataclass_fields__ if name != "max_tokens"
    )
    for each in (sent, plain):
        assert restored(json.loads(json.dumps(recorded(each)))) == each


# The command.


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Runs the command with a model in place of a server."""

    def run(model: Engine, *arguments: str) -> Result:
        monkeypatch.setitem(KINDS, "fake", lambda *_: model)
        return CliRunner().invoke(app, ["verify", *arguments, "--engine", "fake=http://fake"], env={"COLUMNS": "160"})

    return run


def spoil(path: Path, session: str, seq: int, at: int, by: float) -> None:
    """Changes a logprob on tape."""
    connection = sqlite3.connect(path)
    place = (session, seq)
    (packed,) = connection.execute("SELECT logprobs FROM turns WHERE session_id = ? AND seq = ?", place).fetchone()
    logprobs = np.frombuffer(packed, "<f4").copy()
    logprobs[at] += by
    connection.execute("UPDATE turns SET logprobs = ? WHERE session_id = ? AND seq = ?", (logprobs.tobytes(), *place))
    connection.commit()
    connection.close()


def test_right_tape_exits_0_and_says_what_was_compared(tape: Play, verify: Verify) -> None:
    taped = tape(FakeHashModel(), one={}, two={"temperature": 0})
    done = verify(FakeHashModel(), str(taped.path))
    assert done.exit_code == 0, done.output
    n_tokens = sum(len(t.completion) for s in ("one", "two") for t in taped.turns(s))
    assert f"as on tape: 6 turns in 2 sessions, 0 off, 0 not comparable; {n_tokens} tokens compared" in done.output
    assert "echo equal in 2 of 2 streams; greedy equal in 3 of 3 turns" in done.output
    assert "weights A" in done.output


def test_wrong_tape_exits_1_and_names_session_turn_position_token_and_both_logprobs(tape: Play, verify: Verify) -> None:
    taped = tape(FakeHashModel(), one={}, two={"ignore_eos": True})
    was = taped.turns("two")[1]
    spoil(taped.path, "two", 1, 3, 0.5)
    done = verify(FakeHashModel(), str(taped.path), "--model", str(qwen3_dir()))
    assert done.exit_code == 1, done.output
    first = taped.turns("two")[0]
    position = len(first.prompt_delta) + len(first.completion) + len(was.prompt_delta) + 3
    token, right = int(was.completion[3]), float(was.logprobs[3])
    spelt = qwen3_tokenizer().decode([token])
    assert (
        f"off logprob: session two, turn {was.id} (1), position {position}: token {token} {spelt!r} with "
        in done.output
    )
    told = re.search(r"with (\S+) on tape, (\S+) recomputed", done.output)
    assert told is not None
    assert [float(value) for value in told.groups()] == pytest.approx([right + 0.5, right], abs=2e-6)  # six digits
    assert "off: 6 turns in 2 sessions, 1 off" in done.output
    rows = [line.split() for line in done.output.splitlines()]
    assert [rows[2][place] for place in (0, 1, -1)] == ["two", "1", "off"], "the worst turn stands first"
    assert verify(FakeHashModel(), str(taped.path), "--tolerance", "0.6").exit_code == 0
    assert verify(FakeHashModel(), str(taped.path), "--session", "one").exit_code == 0
    assert verify(FakeHashModel(), str(taped.path), "--limit", "1").exit_code == 0, "the first session is right"


def test_json_is_the_same_from_a_server_and_from_its_tape(tmp_path: Path, verify: Verify) -> None:
    model = FakeHashModel()
    with scripted(model, tmp_path) as proxy:
        play(proxy, "one", temperature=0)
        play(proxy, "two")
        proxy.tape.update_session("two", group_id="g")
        by_url, by_file = (
            verify(FakeHashModel(), source, "--json") for source in (proxy.url, str(tmp_path / "tape.db"))
        )
        filtered = [
            json.loads(verify(FakeHashModel(), source, "--json", "--where", "group_id=g").stdout)
            for source in (proxy.url, str(tmp_path / "tape.db"))
        ]
    assert by_url.exit_code == by_file.exit_code == 0, by_url.output
    said = json.loads(by_url.stdout)
    assert said == json.loads(by_file.stdout)
    assert (said["summary"]["turns_compared"], said["summary"]["greedy_turns"]) == (6, 3)
    assert said["engine"]["policy_version"] == "A"
    assert [{turn["session_id"] for turn in each["turns"]} for each in filtered] == [{"two"}] * 2


def test_several_versions_are_told_and_one_can_be_asked_for(tape: Play, verify: Verify) -> None:
    model = FakeHashModel("A")
    model.changes = {5: "B"}
    taped = tape(model, s={"ignore_eos": True})
    everything = verify(FakeHashModel("B"), str(taped.path))
    assert everything.exit_code == 1
    assert (
        "the tape has several policy versions: A (15 tokens), B (21 tokens); compare those of one with --version"
        in (everything.output)
    )
    assert verify(FakeHashModel("B"), str(taped.path), "--version", "B").exit_code == 0
    others = verify(FakeHashModel("B"), str(taped.path), "--version", "A")
    assert others.exit_code == 1
    assert "the engine says that its weights are B" in others.output


def test_what_is_not_compared_is_said_and_nothing_compared_is_2(tape: Play, verify: Verify) -> None:
    model = FakeHashModel()
    model.kind = LogprobKind.PROCESSED
    taped = tape(model, plain={}, hot={"temperature": 1.5})
    said = "not comparable: logprobs are processed, with temperature 1.5: 3 turns (hot 0, hot 1, hot 2)"
    both = verify(model, str(taped.path))
    assert (both.exit_code, said in both.output) == (0, True), both.output
    hot = verify(model, str(taped.path), "--session", "hot")
    assert (hot.exit_code, said in hot.output) == (2, True), hot.output
    assert "nothing could be compared" in hot.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.db"], "no tape file"),
        (["http://127.0.0.1:1"], "http://127.0.0.1:1"),
        (["TAPE", "--session", "nobody"], "there is no session 'nobody'"),
        (["TAPE", "--where", "group_id=nobody"], "there is no such session"),
        (["TAPE", "--where", "colour=red"], "there is no 'colour'"),
        (["TAPE", "--session", "s", "--where", "group_id=g"], "give one of the two"),
        (["TAPE", "--model", "nowhere/at/all"], "nowhere/at/all"),
        (["TAPE", "--engine", "abacus=http://fake"], "it must be"),
    ],
)
def test_what_cannot_be_done_is_2_and_says_why(tape: Play, verify: Verify, arguments: list[str], said: str) -> None:
    taped = tape(FakeHashModel(), s={"turns": 1})
    arguments = [str(taped.path) if each == "TAPE" else each for each in arguments]
    if "--engine" in arguments:
        done = CliRunner().invoke(app, ["verify", *arguments])
    else:
        done = verify(FakeHashModel(), *arguments)
    assert (done.exit_code, said in done.output) == (2, True), done.output


def test_engine_that_cannot_read_is_2(tape: Play, verify: Verify) -> None:
    taped = tape(FakeHashModel(), s={"turns": 1})
    done = verify(ScriptedEngine(lambda _ids, _sampling: [END]), str(taped.path))
    assert done.exit_code == 2
    assert "scripted at nowhere gives no logprobs of a prompt" in done.output


def test_engine_that_fails_midway_is_2_and_names_the_session(tape: Play, verify: Verify) -> None:
    taped = tape(FakeHashModel(), s={"turns": 1})

    class Failing(FakeHashModel):
        """A fake that does not know the tape's tokens."""

        async def score(self, token_ids: Sequence[int], *, adapter: str | None = None) -> Scored:
            raise EngineRefused("token 151645 is beyond the vocabulary")

    done = verify(Failing(), str(taped.path))
    assert done.exit_code == 2
    assert "session s: token 151645 is beyond the vocabulary" in done.output
