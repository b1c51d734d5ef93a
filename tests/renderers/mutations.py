"""Completions that went wrong: sampled answers cut, spliced, repeated, and sprinkled with tags and noise."""

from collections.abc import Iterator
from random import Random

from tests.renderers.answers import answer, draw_message
from tests.renderers.subjects import Subject

_STRUCTURE = ('"', "{", "}", "[", "]", ",", ":", "\n", " ", '{"name": "look_up", ', '"arguments": {', "look_up", "\\")


class Mutator:
    """Makes completions for one subject, each from its own seed."""

    def __init__(self, subject: Subject, *, n_answers: int = 12) -> None:
        self._answers = [answer(subject, draw_message(subject, Random(k))).token_ids for k in range(n_answers)]
        response, tokenizer = subject.exact.response_format, subject.tokenizer
        self._tags = [subject.spell(tag) for tag in response.tags]
        self._literal_tags = [tokenizer.encode_text(tag) for tag in response.tags]
        self._structure = [tokenizer.encode_text(text) for text in _STRUCTURE]
        self._stops = list(response.stop_ids)
        self._control = sorted(tokenizer.control_ids)
        self._size = tokenizer.vocab_size

    def __call__(self, seed: int) -> list[int]:
        """Token ids, well-formed once in a while."""
        rng = Random(seed)
        ids = list(rng.choice(self._answers)) if rng.random() < 0.9 else self._noise(rng, rng.randrange(30))
        for _ in range(rng.randrange(4)):
            self._mutate(ids, rng)
        return ids

    def _mutate(self, ids: list[int], rng: Random) -> None:
        at = rng.randint(0, len(ids))
        to = min(len(ids), at + rng.randint(0, 8))
        match rng.randrange(6):
            case 0:
                del ids[at:]
            case 1:
                del ids[at:to]
            case 2:
                ids[at:at] = ids[at:to] * rng.randint(1, 3)
            case 3:
                other = rng.choice(self._answers)
                ids[at:] = other[rng.randint(0, len(other)) :]
            case 4:
                ids[at : rng.choice((at, to))] = self._noise(rng, rng.randint(1, 4))
            case 5 if ids:
                ids.pop()  # a stop token, most often

    def _noise(self, rng: Random, length: int) -> list[int]:
        return [i for _ in range(length) for i in next(self._one(rng))]

    def _one(self, rng: Random) -> Iterator[list[int]]:
        kinds = [self._structure, self._literal_tags, [[rng.randrange(self._size)]], [[rng.choice(self._control)]]]
        weighted = [*kinds, self._tags, self._tags] if self._tags else kinds
        yield rng.choice(rng.choice([kind for kind in weighted if kind]))
