"""How names are written: W1 as W¹, alpha as α, the adjoint of z1 as δ¹, the gradient by W1 as ∇W¹."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from symgrad.equations import System
from symgrad.formula.notation import Atom

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_SUBSCRIPTS = dict(zip("aehijklmnoprstuvx0123456789", "ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ₀₁₂₃₄₅₆₇₈₉", strict=True))
# delta, pi and sigma keep their spelling: δ is an adjoint, π a number and σ the sigmoid function
_LETTERS = "αβγεζηθικλμνξρτυφχψω", "ΓΔΘΛΞΦΨΩ"


def _spelled(letter: str) -> str:
    """α is alpha, Γ is Gamma."""
    word = unicodedata.name(letter).split()[-1].replace("LAMDA", "LAMBDA")
    return word.capitalize() if letter.isupper() else word.lower()


_GREEK = {_spelled(letter): letter for letters in _LETTERS for letter in letters}
_DIGITS = re.compile(r"(.*?)(\d*)", re.DOTALL)
_ESCAPES = {"\\": r"\backslash{}", "^": r"\hat{}", "~": r"\tilde{}"} | {c: "\\" + c for c in "{}$&#%_"}


def superscript(digits: str) -> str:
    return digits.translate(_SUPERSCRIPTS)


def subscript(letters: Iterable[str]) -> str:
    """The letters below the line, or after an underscore where Unicode lacks one of them."""
    names = list(letters)
    if all(len(name) == 1 and name in _SUBSCRIPTS for name in names):
        return "".join(_SUBSCRIPTS[name] for name in names)
    return "_" + ",".join(names)


def escape(text: str) -> str:
    """Any text as LaTeX that prints it."""
    return "".join(_ESCAPES.get(c, c) for c in text)


def _split_number(word: str) -> tuple[str, str]:
    """(word without its trailing digits, the digits)."""
    match = _DIGITS.fullmatch(word)
    assert match is not None  # the pattern matches any text
    return match[1], match[2]


@dataclass(frozen=True)
class Style:
    """The parts of a name: a base letter or word, what is written below it, and a number above."""

    base: str
    below: str = ""
    number: str = ""

    @staticmethod
    def of(name: str) -> Style:
        head, _, tail = name.partition("_")
        if not head or (not tail and "_" in name):
            return Style(name)
        if not tail:
            return _numbered(head)
        below, number = _split_number(tail)
        return Style(head, below, number) if below[-1:] not in ("", "_") else Style(head, tail)

    @property
    def text(self) -> str:
        below = "_" + self.below if self.below else ""
        return _GREEK.get(self.base, self.base) + below + superscript(self.number)

    @property
    def latex(self) -> str:
        above = f"^{{{self.number}}}" if self.number else ""
        return self.latex_base + (f"_{{{escape(self.below)}}}" if self.below else "") + above

    @property
    def latex_base(self) -> str:
        if self.base in _GREEK:
            return "\\varepsilon" if self.base == "epsilon" else "\\" + self.base
        return escape(self.base) if len(self.base) == 1 else rf"\mathrm{{{escape(self.base)}}}"

    def atom(self) -> Atom:
        return Atom(self.text, self.latex, bool(self.number))

    def adjoint(self) -> Atom:
        """δ¹ for z1, otherwise δ with the name below it."""
        if self.base == "z" and not self.below:
            above = f"^{{{self.number}}}" if self.number else ""
            return Atom("δ" + superscript(self.number), r"\delta" + above, bool(self.number))
        plain = Style(self.base, self.below)
        above = f"^{{{self.number}}}" if self.number else ""
        return Atom("δ_" + self.text, rf"\delta_{{{plain.latex}}}{above}", bool(self.number))


def _numbered(word: str) -> Style:
    base, number = _split_number(word)
    return Style(base, "", number) if base else Style(word)


class Symbols:
    """The atom of every tensor of a system; no two are written alike.

    Attributes:
        atoms: tensor -> how it is written.
        adjoints: equation -> the tensor whose whole adjoint it holds.
    """

    def __init__(self, system: System, forward: Collection[str], nodes: Collection[str], loss_has_name: bool) -> None:
        self.system = system
        self.atoms: dict[str, Atom] = {}
        self.adjoints = whole_adjoints(system)
        self._taken: set[str] = set()
        self._loss_has_name = loss_has_name
        gradients = {equation: tensor for tensor, equation in system.gradients.items()}
        parts = [name for name in system.equations if name in forward and name not in nodes]
        for name in (*system.leaves, *(n for n in system.equations if n in forward and n in nodes)):
            self._take(name, self._tensor_styles(name))
        for name in parts:
            self._take(name, self._part_styles(name, nodes))
        for name in system.equations:
            if name not in self.atoms:
                self._take(name, self._adjoint_styles(name, gradients))

    def __getitem__(self, name: str) -> Atom:
        return self.atoms[name]

    @property
    def texts(self) -> set[str]:
        return self._taken

    @property
    def loss(self) -> Atom:
        return self.atoms[self.system.loss] if self.system.loss in self.atoms else Atom("L", "L")

    def _take(self, name: str, wanted: Iterable[Atom]) -> None:
        raw = Atom(name, rf"\mathrm{{{escape(name)}}}")
        found = next((atom for atom in wanted if atom.text not in self._taken), raw)
        self._taken.add(found.text)
        self.atoms[name] = found

    def _tensor_styles(self, name: str) -> list[Atom]:
        own = Style.of(name).atom()
        if name == self.system.loss and not self._loss_has_name and "L" not in self.system:
            return [Atom("L", "L"), own]
        return [own]

    def _part_styles(self, name: str, nodes: Collection[str]) -> list[Atom]:
        """A part of a composite op is called by its own letter: loss_m is m, where no node is."""
        origin = self.system.equations[name].origin if name in self.system.equations else ""
        own = name.removeprefix(origin + "_")
        free = len(own) == 1 and own not in nodes
        return [Style.of(own).atom()] * free + [Style.of(name).atom()]

    def _adjoint_styles(self, name: str, gradients: Mapping[str, str]) -> list[Atom]:
        if name in gradients:
            tensor = self.atoms[gradients[name]]
            return [Atom("∇" + tensor.text, rf"\nabla {tensor.latex}", tensor.scripted)]
        if name in self.adjoints:
            style = Style.of(self.adjoints[name])
            tensor = self.atoms.get(self.adjoints[name], style.atom())  # fused away in a simplified system
            if style.atom() != tensor:
                style = Style(tensor.text)
            return [style.adjoint(), Style.of(name).atom()]
        return []


def whole_adjoints(system: System) -> dict[str, str]:
    """equation -> tensor, for the last of the equations that belong to the tensor's adjoint."""
    last: dict[str, str] = {}
    for e in system:
        if e.adjoint_of is not None:
            last[e.adjoint_of] = e.name
    last.update({tensor: equation for tensor, equation in system.gradients.items() if equation in system.equations})
    return {equation: tensor for tensor, equation in last.items()}
