"""Fine-tuning data from the tape: `python -m examples.sft_from_tape`.

The best rollout of every group becomes an example, in two ways:

* for the model that sampled it: its own tokens, with labels where the tape says that they were sampled;
* for another model: the conversation rendered in that model's format, with weights from its renderer.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from openai import OpenAI

from examples.serving import main
from tickertape.clients import Sample, TrajectoryClient, Turn
from tickertape.renderers.renderer import Renderer
from tickertape.renderers.supervised import TrainOn

#: What losses leave out, in PyTorch and elsewhere.
IGNORED = -100
QUESTIONS = ["Name a colour.", "Name an animal."]
ROLLOUTS = 3


def roll_out(tape: TrajectoryClient) -> None:
    """Some conversations to choose from; a shorter answer is a better one."""
    for question in QUESTIONS:
        for _ in range(ROLLOUTS):
            with tape.session(group_id=question, metadata={"use": "sft"}) as session:
                with OpenAI(base_url=session.base_url, api_key="none") as client:
                    model = client.models.list().data[0].id
                    said = client.chat.completions.create(
                        model=model, messages=[{"role": "user", "content": question}], temperature=1.0, max_tokens=24
                    )
                session.reward(-float(said.usage.completion_tokens if said.usage else 0))


def best_of_each_group(tape: TrajectoryClient) -> list[Sample]:
    """Turns that were cut, or whose calls could not be read, are not worth imitating."""
    best: dict[str | None, Sample] = {}
    for sample in tape.finished_samples(metadata={"use": "sft"}, drop_outcomes=["parse_failed", "aborted"]):
        if sample.group_id not in best or (sample.reward or 0) > (best[sample.group_id].reward or 0):
            best[sample.group_id] = sample
    return list(best.values())


def labelled(sample: Sample) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids, and labels for a model that is given them all: the id itself where it is trained."""
    ids = sample.token_ids.astype(np.int64)
    return ids, np.where(sample.loss_mask == 1, ids, IGNORED)


def conversation(sample: Sample, turns: dict[str, Turn]) -> Iterator[dict[str, Any]]:
    """The messages of a path, the model's own among them."""
    for turn_id in sample.turn_ids:
        yield from turns[turn_id].messages
        response = turns[turn_id].response
        if response is not None:
            yield response


def for_another_model(tape: TrajectoryClient, sample: Sample, renderer: Renderer) -> tuple[list[int], list[float]]:
    """Ids and weights in the format of ``renderer``."""
    turns = {turn.id: turn for turn in tape.turns(sample.session_id)}
    tools = turns[sample.turn_ids[-1]].tools
    messages = list(conversation(sample, turns))
    return renderer.build_supervised_example(messages, tools, train_on=TrainOn.ALL_ASSISTANT_MESSAGES)


def run(url: str) -> None:
    with TrajectoryClient(url, timeout=300) as tape:
        roll_out(tape)
        for sample in best_of_each_group(tape):
            ids, labels = labelled(sample)
            trained = int((labels != IGNORED).sum())
            print(f"{sample.group_id!r}: {len(ids)} tokens, {trained} of them labelled, reward {sample.reward}")


if __name__ == "__main__":
    main(run)
