"""What is said of typical mistakes: each is made for real, and docs/command-line.md has what came of it.

``UPDATE_DOCS=1 pytest tests/test_mistakes.py`` writes the page's table.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.materials import qwen3_dir
from tickertape.server.store.store import Store

#: An address at which nothing listens.
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        what: it is, for people.
        typed: the command; ``{url}`` is a running server's, ``{page}`` a web server's, ``{model}`` a tokenizer's.
        exit_code: of the command.
        says: a part of what is said, beside what the page holds; so that a page that is written anew is looked at.
        environ: variables.
        before: makes the files that are there.
    """

    what: str
    typed: str
    says: str
    exit_code: int = 1
    environ: dict[str, str] = field(default_factory=dict)
    before: Callable[[Path], object] = lambda _: None


@dataclass(frozen=True)
class WrongCall:
    """One mistake of an agent's.

    Attributes:
        what: it is, for people.
        path: behind the server's address.
        shown: how it is written on the page.
        key: that is shown; the server asks for one if there is any.
    """

    what: str
    path: str
    shown: str
    status: int
    says: str
    key: str | None = None


def _empty_tape(folder: Path) -> None:
    Store(folder / "tape.db").close()


def _conversation(folder: Path) -> None:
    (folder / "chat.json").write_text(json.dumps([{"role": "user", "content": "Hello!"}]))


VLLM = "--engine vllm=http://127.0.0.1:8000"
MISTAKES = (
    Mistake("a port that is none", "serve --port 70000", "port cannot be 70000 (flag --port)"),
    Mistake(
        "Kubernetes' variable for a service named tickertape",
        "serve",
        "enableServiceLinks: false",
        environ={"TICKERTAPE_PORT": "tcp://10.0.0.7:8700"},
    ),
    Mistake("a misspelt variable", "config", "TICKERTAPE_MODEL?", environ={"TICKERTAPE_MODLE": "Qwen/Qwen3-8B"}),
    Mistake("a misspelt option", "serve --prot 8701", "--port", exit_code=2),
    Mistake("a misspelt command", "serv", "serve", exit_code=2),
    Mistake("a model, and no engine", "serve --model Qwen/Qwen3-8B", "add --engine"),
    Mistake("an engine, and no model", f"serve {VLLM}", "needs --model"),
    Mistake("an engine that there is not", "serve --engine vlm=http://127.0.0.1:8000 --model {model}", "vllm=http://"),
    Mistake("an engine's address with /v1", f"serve {VLLM}/v1 --model {{model}}", "without /v1"),
    Mistake("a directory that is not there", f"serve {VLLM} --model ./qwen3", "there is no directory ./qwen3"),
    Mistake(
        "a directory without a tokenizer",
        f"serve {VLLM} --model ./weights",
        "holds no tokenizer",
        before=lambda folder: (folder / "weights").mkdir(),
    ),
    Mistake("a hub that cannot be reached", f"serve {VLLM} --model Qwen/Qwen3-8B", "the hub http://127.0.0.1:9"),
    Mistake("a renderer that there is not", f"serve {VLLM} --model {{model}} --renderer qwen33", "did you mean qwen3"),
    Mistake("a matching policy that there is not", "serve --matching strickt", "strict, default, loose"),
    Mistake("a model file that is not there", "serve --gguf model.gguf", "no such file"),
    Mistake("a tape in a folder that is not there", "serve --db runs/tape.db", "there is no folder"),
    Mistake("keys of a tape that is not there", "keys list --db typo.db", "there is no such file"),
    Mistake("an export of a tape that is not there", "export typo.db out.parquet", "typo.db is no tape file"),
    Mistake("an export to a folder that is not there", "export {url} out/samples.parquet", "make it first"),
    Mistake("an export from where no server is", f"export {NOWHERE} out.parquet", f"GET {NOWHERE}"),
    Mistake(
        "an export of a tape without finished sessions",
        "export tape.db out.parquet",
        "nothing to export",
        exit_code=3,
        before=_empty_tape,
    ),
    Mistake("an export without a key", "export {guarded} out.parquet", "--api-key"),
    Mistake(
        "an option that the template does not have",
        "render {model} chat.json --option enable_thinkin=false",
        "enable_thinking",
        exit_code=2,
        before=_conversation,
    ),
    Mistake(
        "an engine's address that is a web page's",
        "verify tape.db --engine vllm={page}",
        "is this an engine's address?",
        exit_code=2,
        before=_empty_tape,
    ),
)
CALLS = (
    WrongCall("without /v1", "/chat/completions", "http://HOST:8700", 404, "did you mean /v1/chat/completions?"),
    WrongCall(
        "a whole address",
        "/v1/chat/completions/chat/completions",
        "http://HOST:8700/v1/chat/completions",
        404,
        "did you mean /v1/chat/completions?",
    ),
    WrongCall("/v1 twice", "/v1/v1/messages", "http://HOST:8700/v1 (Anthropic)", 404, "did you mean /v1/messages?"),
    WrongCall("no key, where one is asked for", "/v1/chat/completions", "", 401, "asks for an API key", key=""),
    WrongCall("another service's key", "/v1/chat/completions", "", 401, "it was not passed on", key="sk-proj-abc"),
)


def called(call: WrongCall, url: str) -> str:
    """The error that the agent gets."""
    headers = {"Authorization": f"Bearer {call.key}"} if call.key else {}
    answer = httpx.post(f"{url}{call.path}", json={"model": "m", "messages": []}, headers=headers)
    assert answer.status_code == call.status
    error = answer.json()["error"]
    code = error["code"] if "code" in error else error["details"]["error_code"]
    return f"{answer.status_code} `{code}`: {error['message']}"


def model_directory() -> Path:
    return qwen3_dir()
