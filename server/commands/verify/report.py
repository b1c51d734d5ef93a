"""The findings of ``tickertape verify`` on a tape, summed up and printed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tickertape.clients.engines.engine import EngineInfo
from tickertape.server.commands.verify.findings import Check, Deviation, SessionCheck, Tolerances, TurnCheck

#: Turns that the table shows, and deviations below it.
_MOST_SHOWN = 20

#: The text of a token for people, with a space before it; empty where it is not known.
Spell: TypeAlias = Callable[[int], str]


@dataclass(slots=True)
class VerifyReport:
    """Findings about a tape."""

    engine: EngineInfo
    engine_version: str | None
    """Of its weights, where it says so."""
    rules: Tolerances
    turns: list[TurnCheck] = field(default_factory=list)
    sessions: int = 0
    streams: int = 0
    tokens_read: int = 0
    sampled_under: dict[str | None, int] = field(default_factory=dict)

    def add(self, found: SessionCheck) -> None:
        self.sessions += 1
        self.turns += found.turns
        self.streams += found.streams
        self.tokens_read += found.tokens_read
        for version, n_tokens in found.sampled_under.items():
            self.sampled_under[version] = self.sampled_under.get(version, 0) + n_tokens

    @property
    def deviations(self) -> list[Deviation]:
        return [deviation for turn in self.turns for deviation in turn.deviations]

    @property
    def compared(self) -> int:
        """Tokens."""
        return sum(turn.compared for turn in self.turns)

    @property
    def exit_code(self) -> int:
        """0: all that could be compared is as on tape; 1: something is not; 2: nothing could be compared."""
        if self.deviations:
            return 1
        return 0 if self.compared or any(turn.greedy for turn in self.turns) else 2

    def summary(self) -> dict[str, Any]:
        """The sums, by the names that ``--json`` has."""
        differences = [(turn.mean_difference, turn.compared) for turn in self.turns if turn.compared]
        return {
            "sessions": self.sessions,
            "turns": len(self.turns),
            "turns_compared": len(differences),
            "turns_off": sum(bool(turn.deviations) for turn in self.turns),
            "turns_not_comparable": sum(turn.not_comparable is not None for turn in self.turns),
            "streams_read": self.streams,
            "tokens_read": self.tokens_read,
            "tokens_compared": self.compared,
            "tokens_off": sum(turn.off for turn in self.turns),
            "tokens_without_logprob": sum(turn.nan for turn in self.turns),
            "max_difference": max((turn.max_difference for turn in self.turns if turn.compared), default=None),
            "mean_difference": sum(m * n for m, n in differences) / self.compared if self.compared else None,
            "echoes_off": sum(each.check is Check.ECHO for each in self.deviations),
            "greedy_turns": sum(turn.greedy is not None for turn in self.turns),
            "greedy_turns_off": sum(turn.greedy is False for turn in self.turns),
            "greedy_turns_not_sampled_again": sum(turn.not_sampled_again is not None for turn in self.turns),
            "sampled_under": [[version, n_tokens] for version, n_tokens in self.sampled_under.items()],
        }


def as_dict(report: VerifyReport) -> dict[str, Any]:
    """Returns what ``--json`` prints; NaN and infinity are null."""
    info = report.engine
    return {
        "engine": {
            "kind": info.name,
            "url": info.url,
            "model": info.model,
            "software": info.version,
            "policy_version": report.engine_version,
        },
        "rules": asdict(report.rules),
        "summary": report.summary(),
        "turns": [asdict(turn) for turn in report.turns],
    }


# For people.


def print_report(report: VerifyReport, console: Console, *, spell: Spell) -> None:
    """Prints the worst turns, what is off, what was not compared and why, and the sums.

    Args:
        report: what was found.
        console: where to.
        spell: see :data:`Spell`.
    """
    info = report.engine
    weights = "" if report.engine_version is None else f", weights {report.engine_version}"
    console.print(
        f"[bold]{info.name} {info.version}[/] at {info.url}: {escape(info.model)}{escape(weights)}", soft_wrap=True
    )
    worst = sorted(report.turns, key=_badness, reverse=True)
    console.print(_table(worst[:_MOST_SHOWN]))
    if len(worst) > _MOST_SHOWN:
        console.print(f"and {len(worst) - _MOST_SHOWN} turns more, none worse")
    for deviation in report.deviations[:_MOST_SHOWN]:
        console.print(f"[red]off[/] {escape(_told(deviation, spell))}", soft_wrap=True)
    for line in _left_out(report):
        console.print(escape(line), soft_wrap=True)
    for line in _versions(report):
        console.print(f"[yellow]{escape(line)}[/]", soft_wrap=True)
    console.print(_summary(report), soft_wrap=True)


def _badness(turn: TurnCheck) -> tuple[bool, bool, float]:
    return bool(turn.deviations), turn.not_comparable is not None, turn.max_difference


def _table(turns: Sequence[TurnCheck]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("session", "turn"):
        table.add_column(name)
    for name in ("tokens", "compared", "max |Δ|", "mean |Δ|", "NaN", "greedy"):
        table.add_column(name, justify="right")
    table.add_column("")
    for turn in turns:
        numbers = (f"{turn.max_difference:.1e}", f"{turn.mean_difference:.1e}") if turn.compared else ("–", "–")
        greedy = {True: "equal", False: "differs", None: "–"}[turn.greedy]
        verdict = "[green]ok[/]" if turn.not_comparable is None else "not comparable"
        table.add_row(
            escape(turn.session_id),
            str(turn.seq),
            str(turn.sampled),
            str(turn.compared),
            *numbers,
            str(turn.nan),
            greedy,
            "[red]off[/]" if turn.deviations else verdict,
        )
    return table


def _told(deviation: Deviation, spell: Spell) -> str:
    place = f"{deviation.check}: session {deviation.session_id}, turn {deviation.turn_id} ({deviation.seq}), position "
    place += f"{deviation.position}: "
    on_tape = _token(deviation.token, deviation.logprob, spell)
    engine = _token(deviation.engine_token, deviation.engine_logprob, spell)
    if deviation.check is Check.LOGPROB:
        return f"{place}{on_tape} on tape, {deviation.engine_logprob:.6f} recomputed"
    return f"{place}{on_tape} on tape, {engine} by the engine"


def _token(token: int | None, logprob: float | None, spell: Spell) -> str:
    if token is None:
        return "the end"
    return f"token {token}{spell(token)}" + ("" if logprob is None else f" with {logprob:.6f}")


def _left_out(report: VerifyReport) -> Iterator[str]:
    """One line for each reason, with the turns that it holds for."""
    reasons: dict[str, list[str]] = {}
    for turn in report.turns:
        place = f"{turn.session_id} {turn.seq}"
        if turn.not_comparable is not None:
            reasons.setdefault(f"not comparable: {turn.not_comparable}", []).append(place)
        if turn.not_sampled_again is not None:
            reasons.setdefault(f"not sampled again: {turn.not_sampled_again}", []).append(place)
    for reason, places in reasons.items():
        named = ", ".join(places[:_MOST_SHOWN]) + (", …" if len(places) > _MOST_SHOWN else "")
        yield f"{reason}: {len(places)} turns ({named})"


def _versions(report: VerifyReport) -> Iterator[str]:
    versions = report.sampled_under
    told = ", ".join(f"{version or 'none known'} ({n_tokens} tokens)" for version, n_tokens in versions.items())
    asked = report.rules.version
    if asked is None and len(versions) > 1:
        yield f"the tape has several policy versions: {told}; compare those of one with --version"
    expected = {asked} if asked is not None else set(versions) - {None}
    if report.engine_version is not None and expected - {report.engine_version}:
        yield f"the engine says that its weights are {report.engine_version}, the tape's: {told}"


def _summary(report: VerifyReport) -> str:
    sums = report.summary()
    verdict = {0: "[green]as on tape[/]", 1: "[red]off[/]", 2: "[yellow]nothing could be compared[/]"}[report.exit_code]
    text = f"{verdict}: {sums['turns']} turns in {sums['sessions']} sessions, {sums['turns_off']} off, "
    text += f"{sums['turns_not_comparable']} not comparable; {sums['tokens_compared']} tokens compared"
    if report.compared:
        text += f", max |Δ| {sums['max_difference']:.2e}, mean {sums['mean_difference']:.2e}, "
        text += f"{sums['tokens_off']} beyond {report.rules.tolerance:g}, {sums['tokens_without_logprob']} NaN"
    text += f"; echo equal in {sums['streams_read'] - sums['echoes_off']} of {sums['streams_read']} streams"
    equal = sums["greedy_turns"] - sums["greedy_turns_off"]
    return f"{text}; greedy equal in {equal} of {sums['greedy_turns']} turns"
