"""What happens around calls, and what becomes of it: ``python -m tests.server.surroundings`` prints the table.

``docs/limits.md`` holds it; ``test_surroundings.py`` checks that the page says the same, and that each row has tests.
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


def surroundings_table() -> str:
    return table(["what happens", "what becomes of it"], [[each.name, each.outcome] for each in SURROUNDINGS])


if __name__ == "__main__":
    print(surroundings_table())
