"""vLLM's own reasoning and tool parsers, without a server: run by the engine's Python, of which it imports alone.

Reads a JSON list of jobs from standard input: ``directory`` of a tokenizer, ``tool_parser``, ``reasoning_parser`` or
null, ``tools``, and ``texts``. Writes a list for each job, with what is read of each text: reasoning, content and
calls, or the error that the engine's parser raised.
"""

import json
import signal
import sys
import time
from typing import Any

from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

#: Seconds for one text.
_PATIENCE = 5.0


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"no answer within {_PATIENCE} s")


def main() -> None:
    signal.signal(signal.SIGALRM, _too_long)
    jobs = json.load(sys.stdin)
    json.dump([_done(job) for job in jobs], sys.stdout)


def _done(job: dict[str, Any]) -> list[Any]:
    tokenizer = AutoTokenizer.from_pretrained(job["directory"])
    vocabulary = tokenizer.get_vocab()
    tokenizer.get_vocab = lambda: vocabulary  # each parser asks for it anew, which takes most of a second
    messages = [{"role": "user", "content": "q"}]
    request = ChatCompletionRequest(model="m", messages=messages, tools=job["tools"])
    start = time.monotonic()
    found = [_read(text, tokenizer, request, job) for text in job["texts"]]
    print(f"{job['tool_parser']}: {time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
    return found


def _read(text: str, tokenizer: Any, request: Any, job: dict[str, Any]) -> Any:
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        reasoning, content = None, text
        if job["reasoning_parser"]:
            made = ReasoningParserManager.get_reasoning_parser(job["reasoning_parser"])(tokenizer)
            reasoning, content = made.extract_reasoning(text, request)
        made = ToolParserManager.get_tool_parser(job["tool_parser"])(tokenizer, request.tools)
        found = made.extract_tool_calls(content or "", request)
    except Exception as error:  # noqa: BLE001 - what it raises is what is compared
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    calls = [[call.function.name, call.function.arguments] for call in found.tool_calls]
    return {"reasoning": reasoning, "content": found.content, "calls": calls}


if __name__ == "__main__":
    main()
