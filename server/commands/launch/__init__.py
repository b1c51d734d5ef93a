"""Tickertape: agents speak messages, engines speak tokens, trainers get the exact tape.

This is the package ``tickertape`` itself; ``tickertape.renderers``, ``tickertape.clients`` and ``tickertape.server``
are folders of their own in the source.
"""

from importlib.metadata import version

__version__ = version("tickertape")
