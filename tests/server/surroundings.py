"""What happens around calls, and what becomes of hostile ones.

``python -m tests.server.surroundings`` prints the tables. ``docs/limits.md`` holds them; ``test_surroundings.py``
checks that the page says the same, and that each row has tests.
"""

from dataclasses import dataclass

from tests.server.faults import table


@dataclass(frozen=True)
class Surrounding:
    """One thing that happens."""

    name: str
    outcome: str
    tests: tuple[str, ...]
    """What shows it, ``path::function``."""


SURROUNDINGS = [
    Surrounding(
        "there is no engine when the server starts",
        "it listens; `/ready` and calls get a 503 with the reason, calls with `Retry-After` (rejected); it serves when "
        "one answers",
        (
            "tests/server/serving/test_late_engines.py::test_it_serves_when_its_engine_comes",
            "tests/test_cli.py::test_serve_listens_before_there_is_an_engine_and_ends_on_sigterm",
        ),
    ),
    Surrounding(
        "an engine loads for an hour",
        "no probe of Kubernetes, Compose or systemd ends the server meanwhile",
        (
            "tests/deployment/test_kubernetes.py::test_no_probe_ends_a_pod_that_waits_for_its_engine",
            "tests/deployment/test_systemd.py::test_the_service_is_started_again_for_as_long_as_its_database_is_away",
        ),
    ),
    Surrounding(
        "an optional thing of an engine fails, hangs, redirects, is missing or a web page: its version, pause, "
        "weights' version, health, lean endpoint, structures, scores, biases, alternatives",
        "the engine serves without it; `missing` in `/admin/engines` says what and why",
        (
            "tests/clients/test_vllm_partly.py::test_what_is_optional_is_named_and_done_without",
            "tests/clients/test_vllm_partly.py::test_an_optional_thing_that_hangs_is_done_without",
            "tests/clients/test_vllm_partly.py::"
            "test_a_server_that_comes_back_without_an_optional_thing_serves_without_it",
            "tests/clients/test_sglang_partly.py::test_what_is_optional_is_named_and_done_without",
        ),
    ),
    Surrounding(
        "an engine does not sample ids with logprobs from a prompt of ids",
        "it is down; the reason says which of these it lacks",
        (
            "tests/clients/test_vllm_partly.py::test_what_a_turn_needs_is_required_and_named",
            "tests/clients/test_sglang_partly.py::test_what_a_turn_needs_is_required_and_named",
        ),
    ),
    Surrounding(
        "the write-ahead log of an SQLite tape is deleted",
        "what it held is written into the tape, and a new one is begun; nothing is lost, no call hears of it",
        ("tests/server/store/test_tape_file.py::test_a_log_that_is_deleted_takes_no_turn_with_it",),
    ),
    Surrounding(
        "another file is put in its place",
        "503 `tape_unavailable` until the server is stopped; nothing is written to it",
        ("tests/server/store/test_tape_file.py::test_another_log_in_its_place_is_not_written",),
    ),
    Surrounding(
        "the clock is set forward, or a server starts after a pause",
        "nothing is finished (`finish_idle`), deleted (`keep_days`), taken back (leases) or sampled again (retries) "
        "before that much time has passed by a clock that cannot be set; the log says so",
        (
            "tests/server/store/test_age_clock.py::test_nothing_is_older_than_the_time_that_passed",
            "tests/server/store/test_age_clock.py::test_an_active_session_is_not_idle_because_the_clock_was_set",
            "tests/server/store/test_age_clock.py::"
            "test_a_session_that_was_just_finished_is_not_deleted_because_the_clock_was_set",
            "tests/server/store/test_age_clock.py::"
            "test_a_lease_is_not_handed_to_another_consumer_because_the_clock_was_set",
            "tests/server/store/test_age_clock.py::test_time_in_which_no_server_ran_makes_nothing_older",
        ),
    ),
    Surrounding(
        "more turns wait for the tape than `backlog_memory` allows",
        "calls get a 503 `tape_unavailable` before anything is sampled",
        (
            "tests/server/store/test_durable_recovery.py::"
            "test_beyond_the_memory_of_the_backlog_calls_are_refused_before_they_cost_anything",
        ),
    ),
    Surrounding(
        "the server is stopped while the tape fails",
        "what was sampled and could not be written is named in the log, turn by turn; its clients were told 503",
        (
            "tests/server/store/test_durable_recovery.py::"
            "test_what_a_tape_cannot_take_before_the_end_is_named_in_the_log",
        ),
    ),
    Surrounding(
        "a lone engine comes back with another context length",
        "it serves with that",
        ("tests/clients/test_pool.py::test_the_promised_context_follows_a_lone_engine",),
    ),
]


#: What attacks on running servers found.
HOSTILE = [
    Surrounding(
        "a request hidden in the body of one that asks for `Upgrade`, `Expect` or trailers; also through a Caddy and "
        "an nginx",
        "the body is a body; 0 of 500 tries cross, each",
        (
            "tests/server/http/test_framing.py::test_requests_are_those_that_were_sent",
            "tests/server/http/test_framing.py::test_upgrade_is_not_offered_and_the_other_headers_are_as_they_were",
            "tests/deployment/test_smuggling.py::test_nothing_hidden_in_a_body_crosses_a_proxy",
        ),
    ),
    Surrounding(
        "lengths, transfer codings, versions or hosts that others could read in another way",
        "400 `malformed_request`, connection closed",
        ("tests/server/http/test_framing.py::test_what_could_be_framed_in_two_ways_ends_the_connection",),
    ),
    Surrounding(
        "a request after another one whose body never comes",
        "408 `request_timeout`",
        (
            "tests/server/http/test_framing.py::test_a_body_that_may_never_be_sent_ends_the_connection",
            "tests/server/http/test_framing.py::test_a_request_behind_another_is_timed_too",
        ),
    ),
    Surrounding(
        "a forged session key that inflates to gigabytes",
        "401; nothing of it is decoded",
        ("tests/server/auth/test_auth.py::test_nothing_of_a_key_is_decoded_before_its_signature_is_verified",),
    ),
    Surrounding(
        'broken arguments of calls: `{{"a": 1}}`, `{["a"]: 1}`, sets, 5,000 digits',
        "compared as they stand, the same in every process",
        (
            "tests/server/trajectories/test_normalising.py::test_a_mistake_in_arguments_is_compared_and_not_raised",
            "tests/server/trajectories/test_normalising.py::test_arguments_are_compared_alike_in_every_process",
            "tests/server/calls/test_outcomes.py::test_mistakes_in_arguments_are_answered_and_may_come_back",
        ),
    ),
    Surrounding(
        "a page of another site, to a server that asks for no key",
        "403 `host_not_allowed`, `origin_not_allowed`",
        (
            "tests/server/auth/test_browsers.py::test_a_page_reads_nothing_by_a_name_of_its_own",
            "tests/server/auth/test_browsers.py::test_a_page_of_another_site_changes_nothing",
        ),
    ),
    Surrounding(
        "large bodies on many connections that never end",
        "503 `too_many_body_bytes` beyond `max_body_memory`; small ones are served",
        ("tests/server/http/test_bodies.py::test_bodies_that_do_not_end_take_up_no_more_than_they_may",),
    ),
    Surrounding(
        "options that are no client's: `tokenizer`, `history`, text with control tokens",
        "400",
        (
            "tests/server/turns/test_template_options.py::test_what_a_format_does_not_declare_is_refused",
            "tests/server/turns/test_template_options.py::test_no_family_lets_a_request_choose_its_tokenizer_or_history",
        ),
    ),
    Surrounding(
        "200,000 messages, 16 MB of one letter, 11 million spaces",
        "400; `/health` waits for less than 0.25 s of the loop's CPU",
        ("tests/server/calls/test_large_requests.py::test_a_large_request_does_not_hold_up_others",),
    ),
    Surrounding(
        "a completion of 128k tokens in one piece",
        "read in time that grows with its length",
        ("tests/renderers/test_parsing.py::test_a_long_completion_in_one_piece_costs_no_more_than_its_length",),
    ),
]


def surroundings_table() -> str:
    return table(["what happens", "what becomes of it"], [[each.name, each.outcome] for each in SURROUNDINGS])


def hostile_table() -> str:
    return table(["what is sent", "what becomes of it"], [[each.name, each.outcome] for each in HOSTILE])


if __name__ == "__main__":
    print(surroundings_table(), hostile_table(), sep="\n\n")
