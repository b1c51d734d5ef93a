"""The content of a completion, as readers consume it: text and tags in order, however the token ids arrive.

A reader is a generator (:data:`Reading`): it takes what it needs from a :class:`Source` and yields where it cannot go
on before more ids have come. So a format is read by plain code, top to bottom, and streams all the same.
"""

import codecs
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeAlias, TypeVar

from tickertape.renderers.tokenizer import Tokenizer

#: The opening of a call is not looked for in more text than this.
_LONGEST_HEAD = 4096

T = TypeVar("T")
Reading: TypeAlias = Generator[None, None, T]
Sink: TypeAlias = Callable[[str], None]


def viable_beginnings(*ways: Iterable[str]) -> re.Pattern[str]:
    """Returns a pattern of every text that may be the beginning of one of several ways to write something, each given
    as the patterns of its parts in order; a text that goes beyond all of them matches too."""

    def nested(parts: Iterable[str]) -> str:
        pattern = ""
        for part in reversed(list(parts)):
            pattern = rf"(?:\Z|{part}{pattern})"
        return pattern

    return re.compile("|".join(map(nested, ways)), re.DOTALL)


class Marks:
    """Tags that end a stretch of text.

    A tag that is a token of the vocabulary is recognised by its id alone: the same characters spelled in ordinary
    tokens are prose. Others are found in the text.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Iterable[str]) -> None:
        known = set(tags) - {""}
        self.tags = frozenset(known)
        self.tokens = frozenset(tag for tag in known if tag in tokenizer.control)
        spelled = sorted(known - self.tokens, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, spelled))) if spelled else None
        self._beginnings = frozenset(tag[:k] for tag in spelled for k in range(1, len(tag)))
        self._longest = max(map(len, spelled), default=1) - 1

    def find(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The first spelled tag in ``text`` from ``start`` on."""
        return self._spelled.search(text, start) if self._spelled else None

    def begins(self, text: str) -> bool | None:
        """Returns True if ``text`` begins with a spelled tag; ``None`` where it may yet."""
        if self._spelled is not None and self._spelled.match(text):
            return True
        return None if text in self._beginnings else False

    def held_back(self, text: str) -> int:
        """Returns how many characters at the end of ``text`` may be the beginning of a spelled tag."""
        if not self._beginnings:
            return 0
        longest = min(self._longest, len(text))
        return next((k for k in range(longest, 0, -1) if text[-k:] in self._beginnings), 0)


class Source:
    """The unread part of a completion.

    Args:
        tokenizer: the model's.
        tags: texts of the tags that count for the format at hand.
        stop_ids: stop tokens; what is fed after one is not read.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Iterable[str], stop_ids: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        tag_of: dict[int, str | None] = {tokenizer.control[tag]: tag for tag in tags if tag in tokenizer.control}
        self._known = tag_of | dict.fromkeys(stop_ids)
        self._marks: dict[tuple[str, ...], Marks] = {}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._queue: deque[tuple[str, bool]] = deque()  # (text, whether it is a tag)
        self._taken: list[tuple[str, bool]] = []
        """The pieces that were consumed, as in the queue."""
        self._recorded_from = 0
        self._holds = 0
        self.text = ""
        """Unread text, up to ``tag``."""
        self.tag: str | None = None
        """The tag token right after ``text``, as far as it has come."""
        self.ended = False
        self.stopped = False
        """True if it ended with a stop token."""

    def feed(self, ids: Sequence[int]) -> int | None:
        """Adds token ids up to the first stop token, whose place is returned; ``None`` where there is none. Those of a
        character that is not complete yet wait for its rest."""
        start = 0
        stop_at = None
        known = self._known
        for at in [k for k, i in enumerate(ids) if i in known]:
            tag = known[ids[at]]
            if tag is None:
                stop_at = at
                break
            self._add_text(ids[start:at], final=True)
            self._queue.append((tag, True))
            start = at + 1
        self._add_text(ids[start:stop_at], final=False)
        self._pull()
        return stop_at

    def _add_text(self, ids: Sequence[int], *, final: bool) -> None:
        text = self._decoder.decode(self._tokenizer.decode_bytes(ids), final)
        if text:
            self._queue.append((text, False))
        if final:
            self._decoder.reset()

    def end(self, *, stopped: bool = False) -> None:
        """No more ids will come; ``stopped`` if a stop token did."""
        self.stopped = stopped
        self._queue.append((self._decoder.decode(b"", True), False))
        self.ended = True
        self._pull()

    def _pull(self) -> None:
        while self.tag is None and self._queue:
            text, is_tag = self._queue.popleft()
            if is_tag:
                self.tag = text
            else:
                self.text += text

    def marks(self, *tags: str) -> Marks:
        """:class:`Marks` for this vocabulary, made once."""
        found = self._marks.get(tags)
        if found is None:
            found = self._marks[tags] = Marks(self._tokenizer, tags)
        return found

    @property
    def is_last(self) -> bool:
        """Returns True if the unread text is all that the completion still holds."""
        return self.ended and self.tag is None

    # Taking text and tags.

    def take(self, length: int) -> str:
        """The next ``length`` characters of the text."""
        taken, self.text = self.text[:length], self.text[length:]
        self._taken.append((taken, False))
        return taken

    def take_tag(self, tag: str) -> str:
        """Consumes a tag that :meth:`copy_until` stopped at."""
        if self.text:
            return self.take(len(tag))
        self._taken.append((tag, True))
        self.tag = None
        self._pull()
        return tag

    def keep_tag(self) -> None:
        """Makes the tag after the text text as well: it means nothing where it stands."""
        self.text += self.tag or ""
        self.tag = None
        self._pull()

    # Looking ahead.

    def hold(self) -> int:
        """From here on what is consumed can be put back: gives the place for :meth:`put_back`."""
        self._holds += 1
        return len(self._taken)

    def put_back(self, place: int) -> None:
        """Makes unread again what was consumed since :meth:`hold`."""
        self._holds -= 1
        pieces = self._taken[place:]
        del self._taken[place:]
        unread = [*pieces, (self.text, False), *([] if self.tag is None else [(self.tag, True)])]
        self._queue.extendleft(reversed(unread))
        self.text, self.tag = "", None
        self._pull()

    def comes(self, marks: Marks) -> Reading[bool]:
        """Returns True if one of the marks stands anywhere in the rest of the completion; nothing is consumed."""
        place = self.hold()
        tag = yield from self.copy_until(marks, drop)
        self.put_back(place)
        return tag is not None

    def followed_by(self, tag: str, marks: Marks) -> Reading[bool]:
        """Returns True if what stands after ``tag``, at which :meth:`copy_until` stopped, is white space and then one
        of the marks, or the end of the completion: if the tag can be meant as one. Nothing is consumed."""
        while True:
            text, following = self._behind(tag)
            text = text.lstrip()
            if text:
                begins = marks.begins(text)
                if begins is not None or following is not None or self.ended:
                    return begins is True
            elif following is not None:
                return following in marks.tokens
            elif self.ended:
                return True
            yield

    def _behind(self, tag: str) -> tuple[str, str | None]:
        """Returns the text after a tag, as far as it has come, and the tag token after that."""
        if self.text:
            return self.text[len(tag) :], self.tag
        text = ""
        for piece, is_tag in self._queue:
            if is_tag:
                return text, piece
            text += piece
        return text, None

    # What was consumed.

    def start_record(self) -> None:
        """From here on what is consumed is kept, for :meth:`recorded`."""
        if not self._holds:
            self._taken.clear()
        self._recorded_from = len(self._taken)

    def recorded(self) -> str:
        """All that was consumed since :meth:`start_record`."""
        return "".join([text for text, _ in self._taken[self._recorded_from :]])

    # Readers.

    def copy_until(self, marks: Marks, sink: Sink) -> Reading[str | None]:
        """Passes text to ``sink`` as early as it is certain to be none of the marks, up to the first of them, which is
        returned and not consumed; ``None`` at the end of the completion."""
        while True:
            if found := marks.find(self.text):
                sink(self.take(found.start()))
                return found.group()
            if self.tag is not None:
                sink(self.take(len(self.text)))
                if self.tag in marks.tokens:
                    return self.tag
                sink(self.take_tag(self.tag))  # it means nothing here
                continue
            if self.ended:
                sink(self.take(len(self.text)))
                return None
            sink(self.take(len(self.text) - marks.held_back(self.text)))
            yield

    def next_character(self) -> Reading[str]:
        """The next character of the text, consumed; empty at a tag or at the end."""
        while not self.text and not self.is_last and self.tag is None:
            yield
        return self.take(1)

    def head(self, pattern: re.Pattern[str], viable: re.Pattern[str], marks: Marks) -> Reading[re.Match[str] | None]:
        """The match of ``pattern`` at the start of the text, consumed; ``None``, with nothing consumed, as soon as
        ``viable`` says that it cannot come, or at one of the marks. What ``pattern`` matches must not depend on the
        text after the match."""
        while True:
            border = marks.find(self.text)
            text = self.text[: border.start() if border else _LONGEST_HEAD]
            if match := pattern.match(text):
                self.take(match.end())
                return match
            if border or not viable.match(text) or len(text) >= _LONGEST_HEAD:
                return None
            if self.tag is not None:
                if self.tag in marks.tokens or not viable.match(text + self.tag):
                    return None
                self.keep_tag()
            elif self.ended:
                return None
            else:
                yield

    def before(self, marks: Marks, viable: re.Pattern[str]) -> Reading[tuple[str, str] | None]:
        """The text before the first of the marks, consumed, with that mark, which is not; ``None``, with nothing
        consumed, as soon as the text does not fully match ``viable``, or at the end of the completion."""
        while True:
            found = marks.find(self.text)
            if found:
                text = self.text[: found.start()]
            else:
                text = self.text if self.tag or self.ended else self.text[: len(self.text) - marks.held_back(self.text)]
            if len(text) >= _LONGEST_HEAD or not viable.fullmatch(text):
                return None
            if found:
                return self.take(len(text)), found.group()
            if self.tag is not None and self.tag in marks.tokens:
                return self.take(len(text)), self.tag
            if self.tag is not None and not viable.fullmatch(text + self.tag):
                return None
            if self.tag is not None:
                self.keep_tag()
            elif self.ended:
                return None
            else:
                yield


def drop(_text: str) -> None:
    """Of text that is only looked through."""
