"""Equations as index expressions: scalar SymPy expressions over elements of named tensors.

    Element(name, index, view)                the tensor's element; 0 outside the tensor
    Reduction(kind, body, loops, condition)   sum, max, min or prod over the loops where the condition holds
    Applied(function, order, argument)        a function that has a letter of its own, or its derivative

`expression` turns a definition into one value per element of its result: a scatter becomes a sum over what is
written to the element, `Y[s] = sum over l of [write(l) = s] body(l)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import sympy as sp
from sympy import Dummy, Expr, Symbol
from sympy.core.symbol import Str

from symgrad.formula.letters import Letters
from symgrad.index.definition import At, Definition, Loop, map_accesses
from symgrad.index.solution import Solution
from symgrad.index.text import solution_text


class Element(Expr):  # type: ignore[misc]
    """One element of a named tensor."""

    is_commutative = True
    is_real = True
    is_finite = True

    def __new__(cls, name: str, index: Iterable[Expr], view: Iterable[Expr] | None = None) -> Element:
        shape = () if view is None else (sp.Tuple(*view),)
        made: Element = Expr.__new__(cls, Str(str(name)), sp.Tuple(*index), *shape)
        return made

    @property
    def name(self) -> str:
        return str(self.args[0])

    @property
    def index(self) -> tuple[Expr, ...]:
        return tuple(self.args[1])

    @property
    def view(self) -> tuple[Expr, ...] | None:
        return tuple(self.args[2]) if len(self.args) > 2 else None


class Solved(Expr):  # type: ignore[misc]
    """One element of a tensor that equations define: what it is called, the operands, the index."""

    is_commutative = True
    is_real = True

    def __new__(cls, written: str, index: Iterable[Expr], *operands: str) -> Solved:
        made: Solved = Expr.__new__(cls, Str(str(written)), sp.Tuple(*index), *(Str(str(name)) for name in operands))
        return made

    @property
    def written(self) -> str:
        """The call with {0}, {1}, ... for the operands."""
        return str(self.args[0])

    @property
    def index(self) -> tuple[Expr, ...]:
        return tuple(self.args[1])

    @property
    def operands(self) -> list[str]:
        return [str(name) for name in self.args[2:]]


class Reduction(Expr):  # type: ignore[misc]
    """A reduction of a scalar over loops of its own."""

    is_commutative = True
    is_real = True

    def __new__(cls, kind: str, body: Expr, loops: Iterable[Loop], condition: Expr = sp.true) -> Reduction:
        made: Reduction = Expr.__new__(
            cls, Str(str(kind)), body, sp.Tuple(*(sp.Tuple(i, n) for i, n in loops)), condition
        )
        return made

    @property
    def kind(self) -> str:
        return str(self.args[0])

    @property
    def body(self) -> Expr:
        return self.args[1]

    @property
    def loops(self) -> tuple[Loop, ...]:
        return tuple((i, n) for i, n in self.args[2])

    @property
    def condition(self) -> Expr:
        return self.args[3]

    def _eval_is_nonnegative(self) -> bool | None:
        """What SymPy asks: a reduction of numbers that are not negative is none."""
        return True if self.body.is_nonnegative else None

    def _eval_is_positive(self) -> bool | None:
        return True if self.body.is_positive and self.condition == sp.true else None


class Applied(Expr):  # type: ignore[misc]
    """f(x), or its derivative f'(x), for a function known by a number."""

    is_commutative = True
    is_real = True

    def __new__(cls, function: int | Expr, order: int | Expr, argument: Expr) -> Applied:
        made: Applied = Expr.__new__(cls, sp.Integer(function), sp.Integer(order), argument)
        return made

    @property
    def function(self) -> int:
        return int(self.args[0])

    @property
    def order(self) -> int:
        return int(self.args[1])

    @property
    def argument(self) -> Expr:
        return self.args[2]


# index symbols of the result, and the value at them
Template = tuple[tuple[Symbol, ...], Expr]


@lru_cache(maxsize=4096)
def expression(definition: Definition) -> Template:
    """(the symbols of the result's index, the value there), over At as in the definition."""
    heads = tuple(Dummy(f"s{k}", integer=True, nonnegative=True) for k, _ in enumerate(definition.write))
    change: dict[Expr, Expr] = {}
    conditions = []
    for head, w, n in zip(heads, definition.write, definition.shape, strict=True):
        if w not in change and definition.extents.get(w) == n:
            change[w] = head
        else:
            conditions.append((head, w))
    loops = [(i, n) for i, n in definition.loops if i not in change]
    change |= {i: Dummy(str(i), integer=True, nonnegative=True) for i, _ in loops}
    body = definition.body.xreplace(change)
    equal = [sp.Eq(head, w.xreplace(change), evaluate=False) for head, w in conditions]
    bound = [(change[i], n) for i, n in loops]
    if definition.reduction == "sum" or not bound:
        weights = [sp.Piecewise((1, condition), (0, True)) for condition in equal]
        body = sp.Mul(*weights, body) if weights else body
        return heads, Reduction("sum", body, bound) if bound else body
    return heads, Reduction(definition.reduction, body, bound, sp.And(*equal))


def substituted(template: Template, index: Sequence[Expr]) -> Expr:
    """The template's value at an index, its own loops renamed afresh."""
    heads, body = template
    change = dict(zip(heads, index, strict=True))
    for inner in body.atoms(Reduction):
        change |= {i: Dummy(i.name, integer=True, nonnegative=True) for i, _ in inner.loops}
    return body.xreplace(change)


def with_elements(definition: Definition, operands: Sequence[str], value: Callable[[str, At], Expr]) -> Template:
    """The definition's template with every access replaced; an index that reads a tensor reads an Element."""
    if isinstance(definition, Solution):
        index = tuple(Dummy(f"s{k}", integer=True, nonnegative=True) for k, _ in enumerate(definition.shape))
        places = [f"{{{k}}}" for k, _ in enumerate(operands)]
        return index, Solved(solution_text(definition, places), index, *operands)
    heads, body = expression(definition)

    def replace(at: At) -> Expr:
        return value(operands[at.operand], At(at.operand, [inside(e) for e in at.index], at.view))

    def inside(index: Expr) -> Expr:
        return map_accesses(index, lambda at: element(operands, at)) if index.has(At) else index

    return heads, map_accesses(body, replace)


def element(operands: Sequence[str], at: At) -> Element:
    """The element that an access reads."""
    index = [map_accesses(e, lambda inner: element(operands, inner)) for e in at.index]
    return Element(operands[at.operand], index, at.view)


def elements(expr: Expr) -> list[Element]:
    """Every element that the expression shows, as often as it shows it, those in indices not counted."""
    found: list[Element] = []
    stack = [expr]
    while stack:
        here = stack.pop()
        if isinstance(here, Element):
            found.append(here)
        elif isinstance(here, Solved):
            found += [Element(name, ()) for name in here.operands]
        elif isinstance(here, Reduction):
            stack.append(here.body)
        else:
            stack.extend(here.args)
    return found


def name_indices(
    heads: Sequence[Symbol], shape: Sequence[Expr], body: Expr, letters: Letters
) -> tuple[dict[Symbol, str], dict[Symbol, Expr]]:
    """A letter for each index symbol, different from those of the scopes around it; and each one's extent."""
    names = dict(zip(heads, letters.several(shape), strict=True))
    extents = dict(zip(heads, shape, strict=True))
    stack: list[tuple[Expr, frozenset[str]]] = [(body, frozenset(names.values()))]
    while stack:
        here, used = stack.pop()
        if isinstance(here, Reduction):
            picked = letters.several([n for _, n in here.loops], used)
            names |= {i: letter for (i, _), letter in zip(here.loops, picked, strict=True)}
            extents |= dict(here.loops)
            used = used.union(picked)
        stack.extend((arg, used) for arg in here.args)
    return names, extents


def positions(expr: Expr, order: Mapping[str, int]) -> tuple[int, ...]:
    """The places of the tensors in an expression, least first: what its parts are sorted by."""
    return tuple(sorted(order[e.name] for e in elements(expr)))
