"""`tickertape`, and `python -m tickertape.server`: the command line, started fast."""

import gc


def main() -> None:
    """Imports without a look for garbage, which would take a fifth of the time: what modules are made of is none."""
    gc.disable()
    from tickertape.server.commands.cli import main as run

    gc.freeze()  # nor is it looked through later
    gc.enable()
    run()


if __name__ == "__main__":
    main()
