"""Per-token extras of an engine, such as routed experts: what its requests reported, as what a turn adds to its stream.

Engines tell each once, at the end of a request, from the first token on. A generation may have taken several requests,
and a turn's stream begins with its parent's, whose turn has these tokens' rows already: neither is kept twice on tape.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tickertape.clients.engines.engine import Feature
from tickertape.clients.engines.errors import EngineNonsense

Array: TypeAlias = npt.NDArray[Any]

#: A row for each token that the model has read: the prompt, and the completion without its last token.
OF_TOKENS_READ = frozenset({Feature.ROUTED_EXPERTS.value})
#: A row for each token of the completion.
OF_TOKENS_SAMPLED = frozenset({Feature.SAMPLING_MASK.value})
#: All that can be asked for, by name.
KNOWN = OF_TOKENS_READ | OF_TOKENS_SAMPLED

#: In rows of tokens of which the engine reported nothing.
_UNKNOWN = -1


class TokenArrays:
    """The arrays of one generation.

    Args:
        n_prompt: tokens of its prompt.
    """

    def __init__(self, n_prompt: int) -> None:
        self._n_prompt = n_prompt
        self._arrays: dict[str, Array] = {}

    def take(self, told: Mapping[str, Array], *, n_before: int, n_sampled: int, aborted: bool = False) -> None:
        """Adds what a request reported at its end.

        Args:
            told: the arrays, by name.
            n_before: tokens that were sampled before this request, which were part of its prompt.
            n_sampled: tokens sampled by its end.
            aborted: whether the engine broke the request off: an array that was not reported to the end is then left
                out.

        Raises:
            EngineNonsense: an array has more or fewer rows than there are tokens, or is none that was ever asked for.
        """
        for name, array in told.items():
            of_sampled = name in OF_TOKENS_SAMPLED
            if name not in KNOWN:
                raise EngineNonsense(f"the engine told of {name!r}, which nobody asks for")
            expected = n_sampled - n_before if of_sampled else self._n_prompt + n_sampled - 1
            if len(array) != expected:
                if aborted:
                    continue
                raise EngineNonsense(f"the engine gave {name} of {len(array)} tokens where there are {expected}")
            kept = self._arrays.get(name)
            if of_sampled:
                self._arrays[name] = _follow(kept, array, n_before)
            else:  # what was reported first is what its tokens were sampled with; the weights may be others by now
                self._arrays[name] = array if kept is None else np.concatenate([kept, array[len(kept) :]])

    def of_turn(self, *, n_delta: int, n_sampled: int) -> dict[str, Array]:
        """Returns what a turn keeps: arrays that are reported to the end.

        ``routed_experts`` begins with the last token of the parent's stream, which the parent's turn could not report,
        so that those of a path's turns, one after the other, are of all its tokens but the last.

        Args:
            n_delta: tokens that the turn adds to its parent's stream before its completion.
            n_sampled: tokens of its completion.
        """
        complete = {name: n_sampled if name in OF_TOKENS_SAMPLED else self._n_prompt + n_sampled - 1 for name in KNOWN}
        first = max(0, self._n_prompt - n_delta - 1)
        return {
            name: array if name in OF_TOKENS_SAMPLED else array[first:]
            for name, array in self._arrays.items()
            if len(array) == complete[name]
        }


def _follow(kept: Array | None, array: Array, n_before: int) -> Array:
    """Two arrays of sampled tokens one after the other, as wide as the wider, the gap between them filled up."""
    parts = [np.empty((0, *array.shape[1:]), array.dtype) if kept is None else kept, array]
    gap = n_before - len(parts[0])
    parts.insert(1, np.full((gap, *array.shape[1:]), _UNKNOWN, array.dtype))
    if array.ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=_UNKNOWN) for part in parts]
    )
