"""Which names a graph may use, and how a free one is found."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Container

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*|_[A-Za-z0-9][A-Za-z0-9_]*")
MAX_LENGTH = 100


def name_fault(name: object, derived: bool = False) -> str | None:
    """Why `name` cannot name a tensor, or None: names stand in code, so they are plain ASCII identifiers.

    A derived name is one of ours, made from a given name and an affix: d_x, x_max.
    """
    if not isinstance(name, str):
        return f"a name is text, not {type(name).__name__}"
    if len(name) > MAX_LENGTH * (4 if derived else 1):
        return f"the name is longer than {MAX_LENGTH} characters"
    if not _IDENTIFIER.fullmatch(unicodedata.normalize("NFKC", name)) or not name.isascii():
        return "the name is not an ASCII identifier"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "the name is a Python keyword"
    if "__" in name and (not derived or name.endswith("__")):
        return "the name has a double underscore"
    return None


def free_name(wanted: str, taken: Container[str]) -> str:
    """`wanted`, or `wanted_2`, `wanted_3`, ... if that is taken."""
    if wanted not in taken:
        return wanted
    number = 2
    while f"{wanted}_{number}" in taken:
        number += 1
    return f"{wanted}_{number}"
