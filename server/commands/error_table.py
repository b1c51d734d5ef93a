"""The table of all error codes in docs/protocols.md.

``python -m tickertape.server.commands.error_table docs/protocols.md`` writes it in its place there. A code that is used
and is not here fails the tests, and so does one that is here and not used.
"""

import sys
from pathlib import Path

from tickertape.server.commands.pages import replaced

_NAME = "errors: python -m tickertape.server.commands.error_table docs/protocols.md"

#: Code to status and meaning, in the order of the page.
CODES: dict[str, tuple[str, str]] = {
    "invalid_json": ("400", "the body is no JSON object, or nested too deeply"),
    "malformed_request": ("400", "the bytes are no HTTP request that can be read in one way only"),
    "missing_field": ("400", "`param` is missing"),
    "invalid_value": ("400", "`param` has a value that it cannot have"),
    "unsupported_value": ("400", "`param` has a value that the protocol knows and this model or server cannot honour"),
    "unknown_field": ("400", "`param` is a field that changes nothing here, and `unknown_fields` is `reject`"),
    "invalid_request": ("400", "fields contradict each other, or something else is wrong; the text says what"),
    "thread_unsupported_request": ("400", "threads are not supported; Anthropic's SDK retries without one"),
    "invalid_encrypted_content": ("400", "an item's `encrypted_content` is not one that this server gave out"),
    "context_length_exceeded": ("400", "the prompt leaves no room for a completion"),
    "cannot_render": ("400", "the model's template refuses these messages; the text is the template's"),
    "engine_refused": ("400", "the engine refuses a value; the text is the engine's"),
    "session_turns_exceeded": ("400", "the session has `max_session_turns` turns: start another"),
    "invalid_api_key": ("401", "the key is missing, wrong, expired or revoked ([keys](first-calls-with-keys.md))"),
    "insufficient_permissions": ("403", "the key is good, and not for this route; the text says whose key it needs"),
    "session_not_yours": ("403", "the key is good, and not for this session; the text says which ids it reaches"),
    "host_not_allowed": ("403", "no key is asked for, and `Host` is none of this server's names (`--allowed-host`)"),
    "origin_not_allowed": ("403", "no key is asked for, and a page of another site calls (`--allowed-host`)"),
    "not_found": ("404", "there is no such route, key, engine or response; for a route, look at the base URL"),
    "model_not_found": ("404", "the name is not served; the text names those that are (`--served-model-name`)"),
    "session_not_found": ("404", "there is no such session on this tape"),
    "turn_not_found": ("404", "the session has no such turn"),
    "array_not_found": ("404", "the turn has no such token array"),
    "lease_not_found": ("404", "there is no such lease"),
    "previous_response_not_found": ("404", "the response to continue is not on this tape, or is not the key's"),
    "method_not_allowed": ("405", "the path is right, the method is not; see `Allow`"),
    "not_acceptable": ("406", "none of the formats in `Accept` can be had"),
    "request_timeout": ("408", "the request did not arrive within `request_timeout`"),
    "conflict": ("409", "it cannot be done as things stand; the text says why"),
    "session_exists": ("409", "there is a session of this id already"),
    "session_closed": ("409", "the session is finished, or was discarded meanwhile"),
    "session_open": ("409", "the session is open: finish or discard it first"),
    "session_discarded": ("409", "the session was discarded"),
    "session_leased": ("409", "a trainer holds the session's samples"),
    "lease_expired": ("409", "the lease ended by itself; its sessions may be with another trainer"),
    "lease_closed": ("409", "the lease was acked or released already"),
    "not_leased": ("409", "the lease does not hold this session"),
    "still_running": ("409", "turns that began before the pause are still sampled"),
    "replica_behind": ("409", "a replica has not confirmed the change of policy"),
    "request_too_large": (
        "400, 413",
        "413: the body is longer than `max_body_bytes`, or than 2 MiB in a call that is no agent's; 400: it has more "
        "than 30,000 objects and lists, or 2 million values",
    ),
    "unsupported_content_encoding": ("415", "the body is compressed"),
    "rate_limit_exceeded": ("429", "no room for another call; `Retry-After` says when to come again"),
    "internal_error": ("500", "a fault of this server's; its log has the details"),
    "engine_unavailable": ("502", "the engine cannot be reached, or broke off; what it had sampled is on tape"),
    "engine_bad_response": ("502", "the engine answered what cannot be trusted"),
    "engine_error": ("502", "the engine failed otherwise"),
    "no_token_array": ("502", "the engine left out a token array that is to be kept"),
    "aborted": ("502", "the engine, or its operator, ended the generation"),
    "engine_busy": ("503", "the engine has no room; `Retry-After` says when to come again"),
    "queue_timeout": ("503", "the call waited for room for `queue_timeout`"),
    "tape_unavailable": ("503", "the tape cannot be written or read"),
    "server_stopping": ("503", "the server is being stopped; another one, or the next one, may answer"),
    "too_many_connections": ("503", "there are `max_connections` connections"),
    "too_many_body_bytes": ("503", "bodies that are being read take up all the memory that they may"),
    "connect_timeout": ("504", "the engine accepted no connection within `connect_timeout`"),
    "first_token_timeout": ("504", "the engine gave no token within `first_token_timeout`"),
    "token_timeout": ("504", "the engine stopped for `token_timeout` between two tokens; what was sampled is on tape"),
    "deadline": ("504", "the turn took longer than `turn_timeout`; what was sampled is on tape"),
}  # fmt: skip


def with_table(page: str) -> str:
    """A page with its table made anew; raises as :func:`replaced`."""
    rows = [f"| {status} | `{code}` | {meaning} |" for code, (status, meaning) in CODES.items()]
    return replaced(page, _NAME, "\n".join(["| status | `code` | |", "|---|---|---|", *rows]))


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
