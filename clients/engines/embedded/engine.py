"""The embedded engine: llama.cpp inside this process, behind its own HTTP API on the loopback interface."""

import asyncio
import os
import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tickertape.clients.engines.embedded.llamacpp import LlamaCppEngine
from tickertape.clients.engines.engine import Chunk, Engine, EngineInfo, Sampling, TokenIds
from tickertape.clients.engines.errors import EngineNonsense, EngineUnavailable
from tickertape.clients.extras import needs
from tickertape.renderers.tokenizer import Tokenizer

#: Text in which vocabularies, split rules and byte handling differ, for the check against llama.cpp.
_TOKENISATION_PROBES = (
    "Hello, world! It's 12345 o'clock; they'll SAY \"no\".\n\n\n  Indented\tby   tabs \n",
    "Grüße aus Köln — naïve café, Ελληνικά, русский, 日本語テスト, 한국어, العربية, हिन्दी 🦫👩‍👩‍👧",
    'def f(x): return {"a": [1, 2.5, None], "b": "<|im_end|>"}  # <|im_start|>system\r\n',
    "   \n \n\t\t\n   a  b   c    d",
)


class EmbeddedEngine(Engine):
    """A GGUF model served by ``xllamacpp`` in this process.

    Args:
        model: the GGUF file.
        tokenizer: the model's; its tokenisation must equal llama.cpp's, which :meth:`start` checks.
        context: tokens of context for each of the concurrent generations.
        parallel: how many generations run at once; more wait in llama.cpp's queue.
        threads: CPU threads that read prompts, all cores by default; half of them sample. llama.cpp's threads wait for
            each other busily: with more of them than free cores, sampling becomes several times slower.
    """

    def __init__(
        self,
        model: str | Path,
        tokenizer: Tokenizer,
        *,
        context: int = 8192,
        parallel: int = 4,
        threads: int | None = None,
    ) -> None:
        self.model = Path(model)
        self._tokenizer = tokenizer
        self._context = context
        self._parallel = parallel
        self._threads = threads or os.cpu_count() or 1
        self._server: Any = None
        self._client: LlamaCppEngine | None = None
        self._info: EngineInfo | None = None

    async def start(self) -> EngineInfo:
        if self._info is not None:  # it is in this process, and was never away
            await self._started().check()
            return self._info
        api_key = secrets.token_urlsafe(24)  # others on this machine reach the loopback interface too
        self._server = await asyncio.to_thread(self._load, api_key)
        self._client = LlamaCppEngine(
            self._server.listening_address,
            api_key=api_key,
            token_bytes=self._tokenizer.token_bytes,
            vocab_size=self._tokenizer.vocab_size,
        )
        info = await self._client.start()
        await self._compare_tokenisation()
        self._info = replace(info, name="embedded", model=self.model.stem, version=version("xllamacpp"))
        return self._info

    def _load(self, api_key: str) -> Any:
        try:
            import xllamacpp
        except ImportError as error:
            raise EngineUnavailable(needs("the embedded engine", "embedded")) from error
        params = xllamacpp.CommonParams()
        params.model.path = str(self.model)
        params.n_ctx = self._context * self._parallel
        params.n_parallel = self._parallel
        params.cpuparams.n_threads = max(1, self._threads // 2)
        params.cpuparams_batch.n_threads = self._threads
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [api_key]
        params.verbosity = -1
        params.ui = False
        params.cache_ram_mib = 512  # finished prompts kept for reuse; the default is 8 GB
        params.warmup = False
        params.ctx_shift = False
        try:
            return xllamacpp.Server(params)
        except RuntimeError as error:
            raise EngineUnavailable(f"llama.cpp cannot load {self.model}: {error}") from error

    async def _compare_tokenisation(self) -> None:
        """Raises unless llama.cpp splits text as our tokenizer does: else prompts would not be what models know."""
        for probe in _TOKENISATION_PROBES:
            theirs = await self._started().tokenize(probe)
            ours = self._tokenizer.encode_text(probe)
            if ours != theirs:
                at = next((k for k, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), len(ours))
                shown = self._tokenizer.decode(ours[at : at + 3]), self._tokenizer.decode(theirs[at : at + 3])
                raise EngineNonsense(
                    f"{self._tokenizer.name} tokenises unlike llama.cpp does with {self.model.name}: at token {at} of "
                    f"{probe!r:.40} it has {shown[0]!r}, llama.cpp {shown[1]!r}; the tokenizer must be that model's own"
                )

    def _started(self) -> LlamaCppEngine:
        if self._client is None:
            raise EngineUnavailable("the embedded engine is not started")
        return self._client

    async def check(self) -> None:
        await self._started().check()

    def generate(
        self, prompt_ids: TokenIds, sampling: Sampling, *, request_id: str, chunk_tokens: int = 1
    ) -> AsyncGenerator[Chunk, None]:
        return self._started().generate(prompt_ids, sampling, request_id=request_id, chunk_tokens=chunk_tokens)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = self._info = None
        # xllamacpp has no stop: its server ends, and joins its threads, when the last reference goes
        self._server = None
