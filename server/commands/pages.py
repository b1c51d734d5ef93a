"""Parts of pages that are made by a program: what stands between two comments is replaced."""

_END = "<!-- end -->"


def replaced(page: str, name: str, made: str) -> str:
    """The page with the part of this name made anew.

    Args:
        page: Markdown.
        name: of the part: it begins after ``<!-- name -->`` and ends before ``<!-- end -->``.
        made: what is to stand there.

    Raises:
        ValueError: the page has no such part.
    """
    begin = f"<!-- {name} -->"
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(_END)
    if not found or not end:
        raise ValueError(f"there is no {begin} … {_END} in it")
    return f"{before}{begin}\n{made}\n{_END}{after}"
