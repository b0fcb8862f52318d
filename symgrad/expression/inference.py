"""The shapes of all terms of an expression: ranks by search, sizes by unification, then names for the sizes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count

import sympy as sp
from sympy import Expr, Integer

from symgrad.errors import ShapeError
from symgrad.expression.ranks import MAX_WORK, OTHER_KIND, RankSearch
from symgrad.expression.rules import Mismatch, shape_text
from symgrad.expression.sizes import Shape, Sizes, is_placeholder
from symgrad.expression.source import Source, caret
from symgrad.expression.terms import Applied, Dimension, Extent, Filled, Named, Number, Term
from symgrad.index.definition import dimension

_LETTERS = "mnpqrstuvwkldh"


@dataclass(frozen=True)
class Given:
    """What is known of the variables: ranks, and the shapes of some."""

    ranks: Mapping[str, int]
    shapes: Mapping[str, Shape]


def infer_shapes(source: Source, terms: Sequence[Term], given: Given) -> list[Shape]:
    """The shape of every term, by the cheapest reading whose sizes fit.

    Raises ShapeError, pointing at the operands that do not fit.
    """
    names = {t.form.name for t in terms if isinstance(t.form, Named)}
    if names <= given.shapes.keys():
        return _known_shapes(source, terms, given)
    search = RankSearch(terms, given.ranks)
    first: _Fault | None = None
    for cost, ranks in search.readings():
        if first is not None and cost >= first.cost + OTHER_KIND:
            break
        solution = _Solution(terms, given, ranks)
        fault = solution.fault()
        if fault is None:
            _check_names(source, search, ranks)
            return solution.named()
        first = first or _Fault(solution, *fault, cost)
    if first is None and search.work >= MAX_WORK:
        source.refuse(0, "there are too many ways to read the shapes", "declare some: x: vector(n)", ShapeError)
    raise _error(source, first or _furthest(terms, given, search), given)


def _check_names(source: Source, search: RankSearch, ranks: Sequence[int]) -> None:
    """Refuse to read a name that begins with a capital as anything but a matrix, unless it is declared."""
    name = search.unlike(ranks)
    if name is not None:
        kind = ("a scalar", "a vector")[search.rank_of(name, ranks)]
        meant = "write @ for a product of matrices and normfro for the norm of one"
        hint = f"{meant}, or declare {name}: {kind.split()[1]}"
        source.refuse(source.text.index(name), f"{name} would have to be {kind}", hint, ShapeError)


def _known_shapes(source: Source, terms: Sequence[Term], given: Given) -> list[Shape]:
    """The shapes where those of all variables are given."""
    solution = _Solution(terms, given, [0] * len(terms))
    fault = solution.fault()
    if fault is not None:
        raise _error(source, _Fault(solution, *fault), given)
    return solution.named()


@dataclass(frozen=True)
class _Fault:
    """The first term of a reading whose operands do not fit, and what would."""

    solution: _Solution
    term: int
    why: str
    cost: int = 0


def _furthest(terms: Sequence[Term], given: Given, search: RankSearch) -> _Fault:
    """Where the ranks of all readings fail: in the one that got furthest."""
    solution = _Solution(terms, given, [r.rank for r in search.furthest])
    fault = solution.fault() or (len(search.furthest), "the sizes must be known")
    return _Fault(solution, *fault)


class _Solution:
    """The sizes of one reading."""

    def __init__(self, terms: Sequence[Term], given: Given, ranks: Sequence[int]) -> None:
        self.terms, self.given, self.ranks = terms, given, ranks
        self.sizes = Sizes()
        self.shapes: list[Shape] = []

    def fault(self) -> tuple[int, str] | None:
        """Work out the shapes of the terms that have ranks, and of the next one; the first fault, or None."""
        for k, term in enumerate(self.terms[: len(self.ranks) + 1]):
            try:
                self.shapes.append(self._shape(k, term))
            except Mismatch as mismatch:
                return k, str(mismatch)
        return None

    def named(self) -> list[Shape]:
        """All shapes, with names for the sizes that were found to be free."""
        names = self._names()
        return [tuple(self.sizes.resolve(n).xreplace(names) for n in shape) for shape in self.shapes]

    def with_names(self, text: str) -> str:
        """The text with the names of sizes in the place of placeholders."""
        names = {str(s): str(name) for s, name in self._names().items()}
        return re.sub(r"\bsize__\d+\b", lambda found: names.get(found[0], found[0]), text)

    def _shape(self, k: int, term: Term) -> Shape:
        form = term.form
        if isinstance(form, Named):
            return self.given.shapes.get(form.name) or tuple(self.sizes.fresh() for _ in range(self.ranks[k]))
        if isinstance(form, Filled):
            sizes = tuple(map(self._value, term.operands))
            return sizes * 2 if form.function == "eye" else sizes
        if isinstance(form, Extent):
            self._extent(term, form)
        if isinstance(form, Applied):
            return form.rule.shape([self.shapes[o] for o in term.operands], self.sizes)
        return ()

    def _value(self, k: int) -> Expr:
        """The value of a term that is a size."""
        term = self.terms[k]
        if isinstance(term.form, Extent):
            return self._extent(term, term.form)
        assert isinstance(term.form, Number | Dimension)
        return term.form.value if isinstance(term.form, Number) else dimension(term.form.name)

    def _extent(self, term: Term, form: Extent) -> Expr:
        shape = self.shapes[term.operands[0]]
        if form.axis is None:
            return self.sizes.product(shape) if shape else Integer(1)
        if not -len(shape) <= form.axis < len(shape):
            raise Mismatch(f"it has no axis {form.axis}")
        return shape[form.axis]

    def _names(self) -> dict[Expr, Expr]:
        """A dimension for each placeholder, by first occurrence among the variables."""
        resolved = [[self.sizes.resolve(n) for n in shape] for shape in self.shapes]
        used = {str(s) for shape in resolved for n in shape for s in n.free_symbols if not is_placeholder(s)}
        used |= {t.form.name for t in self.terms if isinstance(t.form, Named | Dimension)}
        free = (name for name in _dimension_names() if name not in used)
        variables = [shape for shape, t in zip(resolved, self.terms, strict=False) if isinstance(t.form, Named)]
        placeholders = [s for shape in [*variables, *resolved] for n in shape for s in _placeholders(n)]
        return {s: dimension(next(free)) for s in dict.fromkeys(placeholders)}


def _placeholders(size: Expr) -> list[Expr]:
    return sorted(filter(is_placeholder, size.free_symbols), key=sp.default_sort_key)


def _dimension_names() -> Iterator[str]:
    return chain(_LETTERS, (f"m{k}" for k in count(1)))


def _error(source: Source, fault: _Fault, given: Given) -> ShapeError:
    """The fault in words: each operand with its shape, and what would fit."""
    shapes = fault.solution.named()
    terms = fault.solution.terms
    term = terms[fault.term]
    listed = dict.fromkeys(f"{_short(terms[k].text)} is {shape_text(shapes[k])}" for k in term.operands)
    why = fault.solution.with_names(fault.why)
    hint = "; ".join(filter(None, [why, _advice(fault, shapes, given)]))
    return ShapeError(f"{_short(term.text)}: {', '.join(listed)}", details=caret(source.text, term.column), hint=hint)


def _advice(fault: _Fault, shapes: Sequence[Shape], given: Given) -> str | None:
    """To declare a variable that the term is computed from and that is not declared."""
    terms = fault.solution.terms
    ranks = {t.form.name: len(s) for t, s in zip(terms, shapes, strict=False) if isinstance(t.form, Named)}
    undeclared = [name for name in _variables_below(terms, fault.term) if name not in given.ranks]
    if not undeclared:
        return None
    kinds = ("scalar", "vector(n)", "matrix(m, n)")
    return f"or declare what is meant, such as {undeclared[0]}: {kinds[ranks[undeclared[0]]]}"


def _variables_below(terms: Sequence[Term], k: int) -> Iterable[str]:
    below, stack = set(), [k]
    while stack:
        number = stack.pop()
        if number not in below:
            below.add(number)
            stack += terms[number].operands
    return (t.form.name for j, t in enumerate(terms) if j in below and isinstance(t.form, Named))


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
