"""Names are never given twice, by whatever processes."""

import os

from tickertape.server.ids import new_id


def test_forked_processes_give_names_of_their_own() -> None:
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, new_id().encode())
        os._exit(0)
    os.wait()
    assert os.read(reading, 64).decode() != new_id()
