"""What it is worth that a session stays with the engine that has its prefix cached: prompt tokens that two real engines
had to read anew, turn by turn, beside requests that go anywhere.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.conftest import need
from tests.real.engines import RealServer, started
from tests.real.models import tiny_model
from tests.server.conftest import Proxy, running
from tickertape.clients.engines.pool import pool
from tickertape.clients.engines.pool.member import Member
from tickertape.clients.engines.pool.request import EngineRequest
from tickertape.clients.engines.pool.routing import Router
from tickertape.clients.engines.vllm.engine import VllmEngine
from tickertape.renderers.choose import choose_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

pytestmark = [pytest.mark.real, pytest.mark.slow]

MODEL = tiny_model(0, "smollm2")
SESSIONS, TURNS, MAX_TOKENS = 8, 8, 16
#: Words of what comes in with each turn, as of a tool's result: the conversation ends near 3,500 tokens.
WORDS = 250


class AnywhereRouter(Router):
    """What the pool's router is measured against: any engine, whatever it has cached."""

    def __init__(self) -> None:
        super().__init__()
        self._random = random.Random(0)

    def choose(self, candidates: Sequence[Member], request: EngineRequest, *, alone: bool) -> Member:
        return self._random.choice(candidates)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RealServer]]:
    """Two servers that tell how much of a prompt they had cached."""
    need("vllm")
    directory = tmp_path_factory.mktemp("vllm")
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                started("vllm", MODEL, directory / f"{number}.log", options=("--enable-prompt-tokens-details",))
            )
            for number in range(2)
        ]


def test_sessions_find_their_prefix_cached(
    servers: list[RealServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    with_affinity = play(servers, tmp_path / "with", f"{session}-with")
    monkeypatch.setattr(pool, "Router", AnywhereRouter)
    without = play(servers, tmp_path / "without", f"{session}-without")
    print("\n| turn | prompt tokens | read anew, with affinity | without |\n| ---: | ---: | ---: | ---: |")
    for number, ((prompt, cached), (other_prompt, other_cached)) in enumerate(zip(with_affinity, without, strict=True)):
        print(f"| {number + 1} | {prompt:.0f} | {prompt - cached:.0f} | {other_prompt - other_cached:.0f} |")
    anew = [sum(prompt - cached for prompt, cached in each[1:]) for each in (with_affinity, without)]
    prompts = sum(prompt for prompt, _ in with_affinity[1:])
    shares = [f"{each / prompts:.0%}" for each in anew]
    print(f"after the first turn {shares[0]} of prompts were read anew with affinity, {shares[1]} without")
    assert anew[0] < 0.6 * anew[1]
    for (before, _), (prompt, cached) in itertools.pairwise(with_affinity):
        assert cached >= before - 128, "all but the new messages, up to vLLM's blocks of 128 tokens"
        assert cached < prompt


def play(servers: Sequence[RealServer], directory: Path, session: str) -> list[tuple[float, float]]:
    """Conversations that go on side by side; of each turn, the prompt's tokens and those cached, means over them."""
    directory.mkdir()
    engines = {f"vllm-{number}": VllmEngine(server.url) for number, server in enumerate(servers)}
    choice = choose_renderer(Tokenizer.load(MODEL))
    names = [f"{session}-{number}" for number in range(SESSIONS)]
    with running(engines, choice, Settings(port=0, db=directory / "tape.db")) as proxy:
        conversations = {name: [news(name, 0)] for name in names}
        for number in range(1, TURNS + 1):
            for name, messages in conversations.items():
                answer = proxy.chat(name, messages, max_tokens=MAX_TOKENS, ignore_eos=True)
                assert answer.status_code == 200, answer.text
                messages += [answer.json()["choices"][0]["message"], news(name, number)]
        return [mean_usage(proxy, names, number) for number in range(TURNS)]


def news(name: str, number: int) -> dict[str, str]:
    """A message of its own for each session and turn, which no other has the beginning of."""
    words = random.Random(f"{name} {number}")
    content = " ".join(words.choice(("alpha", "beta", "gamma", "delta", "omega")) for _ in range(WORDS))
    return {"role": "user", "content": f"{name} {number}: {content}"}


def mean_usage(proxy: Proxy, names: Sequence[str], number: int) -> tuple[float, float]:
    usages = [proxy.tape.turns(name)[number].usage for name in names]
    return tuple(sum(usage[of] for usage in usages) / len(usages) for of in ("prompt_tokens", "cached_tokens"))  # type: ignore[return-value]  # two of them
