r"""The LaTeX of symbols as MathML: `\delta_{a}^{2}`, `{z^{3}}_{n,t_{n}}`, `\frac{\partial L}{\partial z}`.

Symbols carry the LaTeX that this package wrote for them; this reads that language and no more:

    row     = scripted*
    scripted = part "'"* ("_" part | "^" part)*
    part    = word | digits | sign | "{" row "}" | "\left" sign row "\right" sign
            | "\frac" part part | "\sqrt" part | ("\mathrm" | "\operatorname" | "\text") "{" words "}" | command

A command without a sign of its own is shown as it is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from xml.etree.ElementTree import Element, fromstring

from symgrad.markup import element, xml

_TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|\d+(?:\.\d+)?|[A-Za-z](?:[A-Za-z0-9]|\\_)*|\s+|.", re.DOTALL)
_GREEK_NAMES = (
    "alpha beta gamma delta zeta eta theta iota kappa lambda mu nu xi rho sigma tau upsilon chi psi omega "
    "varepsilon varphi phi pi Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega epsilon omicron"
)
_GREEK = dict(zip(_GREEK_NAMES.split(), "αβγδζηθικλμνξρστυχψωεφϕπΓΔΘΛΞΠΣΦΨΩϵο", strict=True))
_SIGNS = {
    "cdot": "·", "odot": "⊙", "oslash": "⊘", "otimes": "⊗", "le": "≤", "ge": "≥", "ne": "≠", "land": "∧", "lor": "∨",
    "lnot": "¬", "top": "⊤", "lfloor": "⌊", "rfloor": "⌋", "lVert": "‖", "rVert": "‖", "sum": "∑", "prod": "∏",
    "in": "∈", "mid": "∣", "colon": ":", "nabla": "∇", "partial": "∂", "infty": "∞", "backslash": "\\",
}  # fmt: skip
_NAMES = "arcsin arccos arctan sinh cosh tanh sin cos tan exp log max min det"
_FUNCTIONS = frozenset(_NAMES.split())
_WORDS = ("\\mathrm", "\\operatorname", "\\operatorname*", "\\text")
_EMPTY_GROUPS = {"\\backslash": "\\", "\\hat": "^", "\\tilde": "~"}
_SPACES = {"quad": "1em", ",": "0.17em"}
_ORDINARY = frozenset("∇∂∞")  # signs without the space that operators have around them


def operator(sign: str, form: str = "", **attributes: str) -> Element:
    return element("mo", ({"form": form} if form else {}) | attributes, sign)


def identifier(name: str) -> Element:
    """A letter, slanted, or a word, upright."""
    return element("mi", {}, name)


def number(digits: str) -> Element:
    return element("mn", {}, digits)


def row(parts: Sequence[Element]) -> Element:
    """One element that holds all parts."""
    return parts[0] if len(parts) == 1 else element("mrow", {}, *parts)


def fenced(left: str, inside: Sequence[Element], right: str) -> Element:
    """Between fences that grow with what they hold."""
    grows = {"fence": "true", "stretchy": "true"}
    return element("mrow", {}, operator(left, "prefix", **grows), *inside, operator(right, "postfix", **grows))


def symbol_elements(latex: str) -> list[Element]:
    """A symbol's LaTeX as elements that stand side by side."""
    return list(fromstring(_read(latex)))  # a fresh tree for each use: an element has one parent and one tail


@lru_cache(maxsize=4096)
def _read(latex: str) -> str:
    return xml(element("mrow", {}, *_Reader(latex).row()))


class _Reader:
    """Reads one text; unknown or missing pieces are shown as they stand, never refused."""

    def __init__(self, latex: str) -> None:
        self.tokens = [t for t in _TOKEN.findall(latex) if not t.isspace() and t not in ("\\bigl", "\\bigr")]
        self.place = 0

    @property
    def next(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def take(self) -> str:
        token = self.next
        self.place += 1
        return token

    def row(self) -> list[Element]:
        """Up to the end, a closing brace or a closing fence."""
        found: list[Element] = []
        while self.next not in ("", "}", "\\right"):
            found.append(self.scripted())
        return found

    def scripted(self) -> Element:
        base = self.part()
        scripts: dict[str, Element] = {}
        while self.next == "'":
            self.take()
            base = element("msup", {}, base, operator("′"))
        while self.next in ("_", "^") and self.next not in scripts:
            mark = self.take()
            scripts[mark] = self.part()
        return _with_scripts(base, scripts)

    def part(self) -> Element:
        token = self.take()
        if token == "{":
            return row(self.group())
        if token == "\\left":
            return self.fence()
        if token in ("\\frac", "\\sqrt"):
            return element("m" + token[1:], {}, *(self.part() for _ in range(2 if token == "\\frac" else 1)))
        if token in _WORDS:
            return self.word(token)
        return _sign(token)

    def group(self) -> list[Element]:
        inside = self.row()
        self.take()
        return inside

    def fence(self) -> Element:
        left = _plain(self.take())
        inside = self.row()
        self.take()
        return fenced(left, inside, _plain(self.take()))

    def word(self, command: str) -> Element:
        r"""The text of a group, its escapes undone: `\_` is _, `\hat{}` is ^."""
        self.take()
        letters: list[str] = []
        while self.next not in ("", "}"):
            token = self.take()
            letters.append(_plain(token))
            if token in _EMPTY_GROUPS:
                self.place += 2
        self.take()
        text = "".join(letters)
        if command == "\\text":
            return element("mtext", {}, text)
        return element("mi", {"mathvariant": "normal"}, text)


def _with_scripts(base: Element, scripts: dict[str, Element]) -> Element:
    """Scripts stand one above the other, also where the LaTeX has them in two groups."""
    if base.tag == "msup" and scripts.keys() == {"_"}:
        base, scripts = base[0], {"_": scripts["_"], "^": base[1]}
    if len(scripts) == 2:
        return element("msubsup", {}, base, scripts["_"], scripts["^"])
    for mark, script in scripts.items():
        return element({"_": "msub", "^": "msup"}[mark], {}, base, script)
    return base


def _plain(token: str) -> str:
    """A word, a fence or an escaped character."""
    if token in _EMPTY_GROUPS:
        return _EMPTY_GROUPS[token]
    if token.startswith("\\"):
        return _SIGNS.get(token[1:], token[1:])
    return token.replace("\\_", "_")


def _sign(token: str) -> Element:
    command = token[1:] if token.startswith("\\") else ""
    if command in _GREEK or command in _FUNCTIONS:
        return identifier(_GREEK.get(command, command))
    if command in _SPACES:
        return element("mspace", {"width": _SPACES[command]})
    sign = "−" if token == "-" else _plain(token)
    if sign in _ORDINARY:
        return element("mi", {"mathvariant": "normal"}, sign)
    if len(sign) > 1 and command:
        return element("mtext", {}, token)
    return number(sign) if sign[:1].isdigit() else identifier(sign) if sign[:1].isalpha() else operator(sign)
