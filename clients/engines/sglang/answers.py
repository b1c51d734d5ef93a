"""Answers of SGLang's ``/generate``, read into chunks. Shapes were recorded from SGLang 0.5.23.

Streamed ``output_ids`` are cumulative, unless the server runs with ``--incremental-streaming-output``; logprobs are of
the same tokens in both. Which of the two a server does is read (``/server_info``), never guessed. A stop token is among
the sampled ones and has its logprob; on a stop string all tokens are there, whatever becomes of the text.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from tickertape.clients.engines.answers import best, known_version, logprob, padded, version_spans
from tickertape.clients.engines.engine import Chunk, Feature, Sampling, Scored
from tickertape.clients.engines.errors import EngineError, EngineNonsense, EngineUnavailable
from tickertape.clients.engines.http import refusal


class AnswerReader:
    """Reads the events of one generation.

    Args:
        url: the endpoint's, for messages.
        n_prompt: tokens of the prompt.
        sampling: what was asked.
        incremental: whether events have new tokens only.
    """

    def __init__(self, url: str, n_prompt: int, sampling: Sampling, *, incremental: bool) -> None:
        self._url = url
        self._n_prompt = n_prompt
        self.asked = sampling
        """The sampling that was asked for."""
        self._incremental = incremental
        self._n_tokens = 0
        self._masks: list[list[int]] = []
        self.finished = False
        """True if it has said how the generation ended: then there is nothing left to abort."""
        self.n_events = 0
        """Events that have come."""
        self.features: set[Feature] = set()
        """Features that the answer has proven the server to have."""

    def read(self, payloads: Sequence[bytes]) -> Iterator[Chunk]:
        """A chunk for each event, if it has new tokens or ends the generation.

        Raises:
            EngineError: what the engine says of itself, or an answer that makes no sense; after the tokens that came
                before it.
        """
        self.n_events += sum(payload != b"[DONE]" for payload in payloads)
        for payload in payloads if self._incremental else _last_tokens(payloads):
            if payload == b"[DONE]":
                self.check_ended()
            elif (chunk := self._take(payload)).token_ids or chunk.finish_reason is not None:
                yield chunk

    def check_ended(self) -> None:
        """Raises unless the complete answer has come."""
        if not self.finished:
            raise EngineUnavailable(f"{self._url} ended its answer after {self._n_tokens} tokens without finishing it")

    def _take(self, payload: bytes) -> Chunk:
        try:
            event = orjson.loads(payload)
            if "error" in event:
                raise self._error(event["error"], payload)
            meta = event["meta_info"]
            finish = meta["finish_reason"]
            if finish is not None and finish["type"] == "abort" and finish.get("status_code"):
                # Refused by the scheduler. The token and the versions beside it are made up.
                self.finished = True
                raise refusal(int(finish["status_code"]), orjson.dumps(finish), self._url)
            return self._chunk(event["output_ids"], meta, finish)
        except EngineError:
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise EngineNonsense(f"{self._url} answered with {payload[:300]!r}: {error or type(error)}") from error

    def _error(self, error: Any, payload: bytes) -> EngineError:
        self.finished = True
        code = error.get("code") if isinstance(error, dict) else None
        return refusal(code if isinstance(code, int) else 500, payload, self._url)

    def _chunk(self, output_ids: Any, meta: dict[str, Any], finish: dict[str, Any] | None) -> Chunk:
        if self.finished:
            raise ValueError("more after its finish_reason")
        known = 0 if self._incremental else self._n_tokens
        token_ids, told = output_ids[known:], meta["output_token_logprobs"][known:]
        if set(map(type, output_ids)) - {int}:
            raise ValueError("token ids that are no integers")
        if [each[1] for each in told] != token_ids:
            raise ValueError(f"{len(token_ids)} token ids, and {len(told)} logprobs, of other tokens")
        self._n_tokens += len(token_ids)
        if "output_token_sampling_mask" in meta:
            self._masks += meta["output_token_sampling_mask"][known:]
        chunk = {
            "token_ids": token_ids,
            "logprobs": [logprob(each[0]) for each in told],
            "top_logprobs": self._tops(meta, known, len(token_ids)) if self.asked.top_logprobs else None,
            "policy_version": known_version(meta.get("weight_version")),
            "cached_tokens": meta.get("cached_tokens"),
        }
        return Chunk(**chunk) if finish is None else Chunk(**chunk, **self._end(meta, finish))

    def _end(self, meta: dict[str, Any], finish: dict[str, Any]) -> dict[str, Any]:
        if finish["type"] not in ("stop", "length", "abort"):
            raise ValueError(f"the unknown finish_reason {finish!r}")
        if meta["completion_tokens"] != self._n_tokens:
            raise ValueError(f"{self._n_tokens} tokens came, of {meta['completion_tokens']} that were sampled")
        spans = meta.get("weight_versions")
        self.features |= {Feature.VERSIONS} if spans is not None else set()
        self.features |= {Feature.CACHED_TOKENS} if meta.get("cached_tokens") is not None else set()
        end = {
            "finish_reason": finish["type"],
            "stop_reason": finish.get("matched"),
            "version_spans": None if spans is None else version_spans(spans, self._n_tokens),
            "token_arrays": self._token_arrays(meta) or None,
        }
        self.finished = True
        return end

    def _tops(self, meta: dict[str, Any], known: int, count: int) -> list[dict[int, float]]:
        tops = meta["output_top_logprobs"][known:]
        if len(tops) != count:
            raise ValueError(f"{count} tokens and {len(tops)} top_logprobs")
        wanted = self.asked.top_logprobs
        return [best(((int(each[1]), each[0]) for each in top), wanted) for top in tops]

    def _token_arrays(self, meta: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Those that were asked for.

        * ``routed_experts``: int32[n_read, n_layers * n_experts_per_token], for every token that the model read: the
          prompt and the completion without its last token. SGLang does not say how many layers there are.
        * ``sampling_mask``: int32[n_tokens, n_widest], the tokens that top-k, top-p and the like left to choose from,
          filled up with -1.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        if "routed_experts" in self.asked.token_arrays:
            flat = np.frombuffer(base64.b64decode(meta["routed_experts"], validate=True), np.int32)
            arrays["routed_experts"] = flat.reshape(self._n_prompt + self._n_tokens - 1, -1)
        if "sampling_mask" in self.asked.token_arrays:
            if len(self._masks) != self._n_tokens:
                raise ValueError(f"{self._n_tokens} tokens and {len(self._masks)} sampling masks")
            arrays["sampling_mask"] = padded(self._masks)
        return arrays


def scored(answer: Any) -> Scored:
    """The answer to :func:`~tickertape.clients.engines.sglang.requests.scoring`.

    Raises:
        EngineNonsense: a field is missing.
    """
    try:
        told = answer["meta_info"]["input_token_logprobs"]
        return Scored([int(each[1]) for each in told], [logprob(each[0]) for each in told])
    except (LookupError, TypeError, ValueError) as error:
        raise EngineNonsense(f"/generate gave no logprobs of the prompt: {error}: {answer!r:.300}") from error


def _last_tokens(payloads: Sequence[bytes]) -> Sequence[bytes]:
    """Of cumulative events the last one with tokens, which repeats those before it, and what comes after it."""
    with_tokens = [
        number for number, payload in enumerate(payloads) if not payload.startswith((b"[DONE]", b'{"error"'))
    ]
    return payloads[with_tokens[-1] :] if with_tokens else payloads
