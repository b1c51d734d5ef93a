"""A GRPO-shaped rollout loop: `python -m examples.grpo_rollouts`.

Groups of 8 rollouts of one question each; a reward for every rollout; advantages within a group; and the exact tokens
as padded arrays, which `torch.from_numpy` takes as they are. What is missing is the optimiser's step.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from openai import OpenAI

from examples.serving import main
from tickertape.clients import Sample, TrajectoryClient

GROUP = 8
QUESTIONS = {"What is 2 + 3?": 5, "How many days has a week?": 7}


@dataclass
class Batch:
    """What a GRPO step needs. Every array is [samples, longest]; padding is 0."""

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    loss_mask: npt.NDArray[np.float32]
    old_logprobs: npt.NDArray[np.float32]
    """Of the engine that sampled; 0 where nothing was sampled."""
    advantages: npt.NDArray[np.float32]


def rollout(tape: TrajectoryClient, question: str, answer: int, step: int) -> None:
    """One rollout: an agent that knows nothing of the tape, and a reward."""
    group = f"step-{step}/{question}"
    with tape.session(group_id=group, task_id=question, metadata={"step": step}) as session:
        with OpenAI(base_url=session.base_url, api_key="none") as client:
            model = client.models.list().data[0].id
            said = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], temperature=1.0, max_tokens=16
            )
        session.reward(reward_of(said.choices[0].message.content or "", answer))


def reward_of(said: str, answer: int) -> float:
    """1 for the right number, a little less for every word."""
    right = str(answer) in re.findall(r"\d+", said)
    return float(right) - 0.01 * len(said.split())


def advantages_of(samples: Sequence[Sample]) -> dict[str, float]:
    """Of each session within its group: its reward less the group's mean, over the group's deviation."""
    groups: dict[str | None, dict[str, float]] = defaultdict(dict)
    for sample in samples:
        groups[sample.group_id][sample.session_id] = sample.reward or 0.0
    found = {}
    for rewards in groups.values():
        values = np.array(list(rewards.values()))
        found |= {name: float((reward - values.mean()) / (values.std() + 1e-6)) for name, reward in rewards.items()}
    return found


def batch_of(samples: Sequence[Sample]) -> Batch:
    """Samples of any lengths, padded on the right."""
    shape = len(samples), max(len(sample.token_ids) for sample in samples)
    batch = Batch(
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )
    advantages = advantages_of(samples)
    for row, sample in enumerate(samples):
        length = len(sample.token_ids)
        batch.input_ids[row, :length] = sample.token_ids
        batch.attention_mask[row, :length] = 1
        batch.loss_mask[row, :length] = sample.loss_mask
        batch.old_logprobs[row, :length] = np.where(sample.loss_mask == 1, sample.logprobs, 0)
        batch.advantages[row, :length] = advantages[sample.session_id] * sample.loss_mask
    return batch


def steps(tape: TrajectoryClient, n_steps: int) -> Iterator[Batch]:
    """Rollouts and their batch, step by step."""
    for step in range(n_steps):
        with ThreadPoolExecutor(GROUP) as pool:
            running = [
                pool.submit(rollout, tape, question, answer, step)
                for question, answer in QUESTIONS.items()
                for _ in range(GROUP)
            ]
            for each in running:
                each.result()
        # Other trainers may lease beside this one: what it holds nobody else gets, and what it acked never comes again.
        unfit = ["aborted", "engine_error", "undelivered"]
        for lease in tape.leases("trainer-0", limit=1000, metadata={"step": step}, drop_outcomes=unfit):
            yield batch_of(lease.samples)


def run(url: str, n_steps: int = 1) -> None:
    with TrajectoryClient(url, timeout=300) as tape:
        for number, batch in enumerate(steps(tape, n_steps)):
            trained = int(batch.loss_mask.sum())
            print(f"step {number}: input_ids {batch.input_ids.shape}, {trained} tokens trained")
            # loss = grpo_loss(policy(torch.from_numpy(batch.input_ids)), …)


if __name__ == "__main__":
    main(run)
