"""Text from file names, messages and configuration made harmless for a terminal or a log."""

from __future__ import annotations

import unicodedata

# Control, format (which holds the bidirectional overrides), surrogate and line/paragraph separator characters.
_ACTIVE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def make_inert(text: str, keep: str = "") -> str:
    """Return `text` with every character that could act on a terminal written as an escape.

    Parameters
    ----------
    text : str
        Anything, also text with lone surrogates from undecodable file names.
    keep : str
        Characters to leave alone, such as a line feed in a message of several lines.

    Returns
    -------
    str
        One that can be encoded as UTF-8 and holds no control character outside `keep`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _ACTIVE
        else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
