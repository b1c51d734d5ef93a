"""The examples do what they say, on the embedded model."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples import grpo_rollouts, sft_from_tape, tool_agent
from tests.server.conftest import Proxy, qwen3_tokenizer, running
from tickertape.clients.engines.embedded.engine import EmbeddedEngine
from tickertape.renderers.choose import choose_renderer, get_renderer
from tickertape.renderers.tokenizer import Tokenizer
from tickertape.server.settings import Settings

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, smollm2_file: Path, smollm2_tokenizer: Tokenizer
) -> Iterator[Proxy]:
    engine = EmbeddedEngine(smollm2_file, smollm2_tokenizer, context=4096, parallel=4, threads=1)
    settings = Settings(port=0, db=tmp_path_factory.mktemp("tape") / "tape.db")
    with running(engine, choose_renderer(smollm2_tokenizer), settings) as proxy:
        yield proxy


def test_grpo_batch_is_what_was_sampled_with_advantages_within_groups(proxy: Proxy) -> None:
    (batch,) = grpo_rollouts.steps(proxy.tape, 1)
    n_samples = grpo_rollouts.GROUP * len(grpo_rollouts.QUESTIONS)
    assert batch.input_ids.shape == batch.advantages.shape == (n_samples, batch.input_ids.shape[1])
    by_session = {sample.session_id: sample for sample in proxy.tape.finished_samples(metadata={"step": 0})}
    assert len(by_session) == n_samples
    for row, sample in enumerate(by_session.values()):  # both are in the order of finishing
        length = len(sample.token_ids)
        assert batch.attention_mask[row].sum() == length
        assert np.array_equal(batch.input_ids[row, :length], sample.token_ids)
        assert np.array_equal(batch.loss_mask[row, :length], sample.loss_mask)
        trained = sample.loss_mask == 1
        assert np.array_equal(batch.old_logprobs[row, :length][trained], sample.logprobs[trained])
        assert np.isfinite(batch.old_logprobs[row]).all()
        assert len(set(batch.advantages[row, :length][trained])) == 1
    assert np.unique(batch.advantages[batch.loss_mask == 1]).size > 3, "rewards differ, and so do advantages"
    assert all(session.acked_by == "trainer-0" for session in proxy.tape.sessions(metadata={"step": 0}))
    for question in grpo_rollouts.QUESTIONS:
        group = [row for row, sample in enumerate(by_session.values()) if sample.task_id == question]
        values = [batch.advantages[row][batch.loss_mask[row] == 1][0] for row in group]
        assert len(values) == grpo_rollouts.GROUP
        assert abs(sum(values)) < 1e-3


def test_tool_agent_calls_its_tool_and_is_one_sample(proxy: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    tool_agent.run(proxy.url)
    (session,) = proxy.tape.sessions(metadata={"agent": "tool_agent"})
    (sample,) = proxy.tape.samples(session.id)
    assert "tool_calls" in sample.outcomes
    assert sample.reward is not None
    assert sample.reward > 0
    assert sample.turn_rewards == [1.0] * len(sample.turn_ids)
    assert session.statistics is not None
    assert (session.statistics["per_turn_tokens"] or 0) > 3 * len(sample.token_ids)
    assert "one sample of" in capsys.readouterr().out


def test_fine_tuning_data_is_the_best_of_each_group_for_this_model_and_another(proxy: Proxy) -> None:
    sft_from_tape.roll_out(proxy.tape)
    best = sft_from_tape.best_of_each_group(proxy.tape)
    assert sorted(str(sample.group_id) for sample in best) == sorted(sft_from_tape.QUESTIONS)
    every = list(proxy.tape.finished_samples(metadata={"use": "sft"}))
    for sample in best:
        assert sample.reward == max(other.reward or 0 for other in every if other.group_id == sample.group_id)
        ids, labels = sft_from_tape.labelled(sample)
        assert np.array_equal(ids[labels != sft_from_tape.IGNORED], sample.token_ids[sample.loss_mask == 1])
        renderer = get_renderer("qwen3", qwen3_tokenizer())
        other_ids, weights = sft_from_tape.for_another_model(proxy.tape, sample, renderer)
        trained = renderer.tokenizer.decode([token for token, weight in zip(other_ids, weights, strict=True) if weight])
        (turn,) = proxy.tape.turns(sample.session_id)
        assert turn.response is not None
        assert (turn.response["content"] or "").strip() in trained


def test_example_runs_as_the_readme_says(proxy: Proxy) -> None:
    command = [sys.executable, "-m", "examples.sft_from_tape", "--url", proxy.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "of them labelled" in done.stdout
