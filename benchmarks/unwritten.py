"""Tickertape with a tape that is never written: `python -m benchmarks.unwritten serve …`. A fake, for one purpose: what
a turn costs when its commit costs nothing. Nothing can be read back."""

from collections.abc import Sequence

from tickertape.server.commands import cli
from tickertape.server.store.store import Store
from tickertape.server.store.turn_writes import Write


class UnwrittenStore(Store):
    """Takes turns through the same writer's thread, and drops them there."""

    def _write(self, batch: Sequence[Write]) -> None:
        for place, write in enumerate(batch):
            write.turn.seq = place


def main() -> None:
    import tickertape.server.serving.assembly as assembly

    assembly.Store = UnwrittenStore  # type: ignore[misc]
    cli.main()


if __name__ == "__main__":
    main()
