"""Which tensors of a derivation get a symbol and a line of their own, and which are written out in place.

With a line: the leaves' users named by a person or as pre-activations, the loss, the gradients, and the
adjoints of such tensors that are used more than once or would not read well inside a matrix product. The
rest is written out where it is used, as long as that stays short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import networkx as nx
import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, System
from symgrad.formula.functions import Functions, is_activation
from symgrad.formula.indexed import (
    Element,
    Reduction,
    Template,
    elements,
    substituted,
    with_elements,
)
from symgrad.formula.letters import Letters
from symgrad.formula.matrix import Form, Operand, Setting, form
from symgrad.formula.notation import Atom, Constant, Product, Reduce, Transposed, count, weight
from symgrad.formula.scalar import NoMatrixForm
from symgrad.formula.survey import dimensions, is_copy, is_product, places, vectors_are_rows
from symgrad.formula.symbols import Symbols
from symgrad.formula.units import with_unit_loops
from symgrad.index.bounds import inside
from symgrad.index.definition import At, Definition, tested

LONGEST = 12  # symbols in a tensor that is written out once
SHORT = 3  # symbols in one that is written out several times


@dataclass
class Plan:
    """The derivation's equations, each with its notation.

    Attributes:
        shown: the tensors with a symbol of their own.
        renamed: the copies of such tensors.
        forms: equation -> its right side in matrix notation, where that exists.
        order: tensor -> its place: forward tensors as they are computed, then adjoints, the last one first.
        tail: the equations of the loss stage, behind the last tensor with a name.
        boundary: the tensors that they read.
    """

    system: System
    forward: frozenset[str]
    nodes: Mapping[str, str]
    needed: frozenset[str]
    shown: set[str] = field(default_factory=set)
    renamed: set[str] = field(default_factory=set)
    forms: dict[str, Form | None] = field(default_factory=dict)
    order: dict[str, int] = field(default_factory=dict)
    keys: dict[str, tuple[int, ...]] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    tail: set[str] = field(default_factory=set)
    boundary: set[str] = field(default_factory=set)
    functions: Functions = field(default_factory=Functions)

    def __post_init__(self) -> None:
        self.tail = _loss_stage(self)
        self.symbols = self._symbols()
        self._find_boundary()
        self._find_functions()
        self.order = places(self.system, self.forward)
        self.setting = Setting(
            Letters({*self.symbols.texts, *dimensions(self.system)}),
            vectors_are_rows(self.system, self.forward),
            self.functions.letter,
            len(self.forward) + len(self.system.leaves),
        )
        self._count_uses()
        self._decide()

    # what is known of an equation before any notation

    def _symbols(self) -> Symbols:
        return Symbols(self.system, self.forward, self.nodes, self._loss_is_named())

    def _loss_is_named(self) -> bool:
        loss = self.system.loss
        return loss is not None and self.named(loss) and loss != "loss"

    def named(self, name: str) -> bool:
        """Whether a node's name says more than its op."""
        op = self.nodes.get(name)
        return op is not None and not re.fullmatch(rf"{re.escape(op)}_?\d*", name)

    def _find_boundary(self) -> None:
        for name in self.tail:
            for operand in self.system.equations[name].operands:
                if operand in self.system.equations and operand not in self.tail:
                    self.boundary.add(operand)

    def _find_functions(self) -> None:
        for e in self.system:
            if e.name not in self.forward or e.name not in self.nodes or e.name not in self.needed:
                continue
            if e.name not in self.tail and is_activation(e):
                self.functions.add(e)
        self.functions.name({*self.symbols.texts, *dimensions(self.system)})

    def _count_uses(self) -> None:
        """Reads of each tensor, and whether a matrix product reads it; through mere copies as well."""
        self.uses: dict[str, int] = {}
        self.multiplied: set[str] = set()
        self.summed: set[str] = set()
        forced = {*self.system.gradients.values()}
        for e in reversed(list(self.system)):
            if e.name not in self.needed:
                continue
            copy = is_copy(e) and e.name not in forced
            times = self.uses.get(e.name, 0) if copy else 1
            for name in e.operands:
                reads = sum(at.operand == e.operands.index(name) for at in e.definition.body.atoms(At))
                self.uses[name] = self.uses.get(name, 0) + times * max(reads, 1)
                if is_product(e.definition) or (copy and e.name in self.multiplied):
                    self.multiplied.add(name)
                if _is_matrix_reduction(e.definition, self._shapes(e)) or (copy and e.name in self.summed):
                    self.summed.add(name)

    # decisions, operands first

    def _decide(self) -> None:
        unsuitable = self._read_in_parts()
        self.shown.update(self.system.leaves)
        for name, leaf in self.system.leaves.items():
            self.keys[name] = (self.order[name],)
            self.forms[name] = Form(self.symbols[name], tuple(range(len(leaf.shape))))
        for e in self.system:
            if e.name not in self.needed:
                continue
            self.definitions[e.name] = with_unit_loops(self.functions.rewrite(e), self._shapes(e))
            self.forms[e.name] = self._form(e)
            if self._deserves_line(e, e.name in unsuitable):
                self.shown.add(e.name)
                self.keys[e.name] = (self.order[e.name],)
            else:
                self.renamed.update([e.name] if self._is_renamed(e) else [])
                self.keys[e.name] = tuple(sorted(place for name in e.operands for place in self.keys[name]))

    def _form(self, e: Equation) -> Form | None:
        try:
            return form(self.definitions[e.name], [self._operand(name) for name in e.operands], self.setting)
        except NoMatrixForm:
            return None

    def _operand(self, name: str) -> Operand:
        shape = self.system.shape(name)
        if name in self.shown:
            return Operand(Form(self.symbols[name], tuple(range(len(shape)))), shape, self.keys[name], True)
        return Operand(self.forms[name], shape, self.keys[name], name in self.renamed)

    def _read_in_parts(self) -> set[str]:
        """The tensors that some equation reads reshaped, by a data-dependent index, or beyond their ends.

        Also those that a solution reads, and those with a choice in them that a condition reads: SymPy cannot hold
        one inside the other.
        """
        found: set[str] = set()
        choices: set[str] = set()
        for e in self.system:
            if e.definition.body.has(sp.Piecewise) or choices.intersection(e.operands):
                choices.add(e.name)
            if e.name in self.needed and e.solution is not None:
                found.update(e.operands)
            if e.name in self.needed:
                found.update(e.operands[k] for k in _partly_read(e.definition, self._shapes(e)))
                found.update(choices.intersection(map(e.source, tested(e.definition.body))))
        return found

    def _shapes(self, e: Equation) -> tuple[tuple[Expr, ...], ...]:
        return tuple(tuple(self.system.shape(name)) for name in e.operands)

    def _deserves_line(self, e: Equation, unsuitable: bool) -> bool:
        if e.name in self.system.gradients.values() or e.name == self.system.loss:
            return True
        if e.name in self.forward and self.named(e.name):
            return True
        if self._is_atomic(e):
            return unsuitable and not self._is_renamed(e)
        size = self._size(e)
        if unsuitable or size > LONGEST:
            return True
        if self._is_delta(e) and self._stands_alone(e):
            return True
        if self.forms[e.name] is None and e.name in self.summed and not self._joins_own_kind(e):
            return True
        return self.uses.get(e.name, 0) > 1 and (size > SHORT or self._reduces(e))

    def _is_atomic(self, e: Equation) -> bool:
        """A number, or another tensor's symbol."""
        own = self.forms[e.name]
        return own is not None and isinstance(own.node, Atom | Constant)

    def _is_renamed(self, e: Equation) -> bool:
        """A copy of a tensor with a symbol, or of such a copy: it may be read in any way."""
        return is_copy(e) and (e.operands[0] in self.shown or e.operands[0] in self.renamed)

    def _size(self, e: Equation) -> int:
        own = self.forms[e.name]
        return weight(own.node) if own is not None else len(elements(self.template(e.name)[1]))

    def _is_delta(self, e: Equation) -> bool:
        """Whether e is the whole adjoint of a node with a line."""
        tensor = self.symbols.adjoints.get(e.name)
        return tensor in self.shown and (tensor in self.nodes or tensor in self.system.leaves)

    def _stands_alone(self, e: Equation) -> bool:
        if self.symbols.adjoints[e.name] in self.boundary or self.uses.get(e.name, 0) > 1:
            return True
        own = self.forms[e.name]
        chain = own is not None and isinstance(own.node, Product | Transposed)
        return e.name in self.multiplied and not chain

    def _joins_own_kind(self, e: Equation) -> bool:
        """One of several contributions to an adjoint, which their sum shows."""
        return e.adjoint_of is not None and e.name not in self.symbols.adjoints

    def _reduces(self, e: Equation) -> bool:
        own = self.forms[e.name]
        return self.template(e.name)[1].has(Reduction) if own is None else count(own.node, Reduce) > 0

    # index notation

    def template(self, name: str) -> Template:
        """An equation's right side over the elements of tensors with a line."""
        stack = [name]
        while stack:
            here = stack[-1]
            e = self.system.equations[here]
            missing = [n for n in e.operands if n not in self.shown and n not in self.templates]
            if missing and here not in self.templates:
                stack.extend(missing)
                continue
            stack.pop()
            if here not in self.templates:
                self.templates[here] = with_elements(self.definitions[here], e.operands, self._value())
        return self.templates[name]

    def _value(self) -> Callable[[str, At], Expr]:
        def value(name: str, at: At) -> Expr:
            if name in self.shown:
                return Element(name, at.index, at.view)
            heads, body = self.templates[name]
            if at.view is not None and isinstance(body, Element):
                return Element(body.name, at.index, at.view)
            return substituted((heads, body), at.index)

        return value


@lru_cache(maxsize=4096)
def _is_matrix_reduction(d: Definition, shapes: tuple[tuple[Expr, ...], ...]) -> bool:
    """Whether a sum or maximum has matrix notation, given that its operands have symbols."""
    if not d.reduced:
        return False
    letter = Atom("X", "X")
    operands = [Operand(Form(letter, tuple(range(len(s)))), s, (k,), True) for k, s in enumerate(shapes)]
    try:
        return form(d, operands, Setting(Letters(), False, lambda number: letter, len(shapes))) is not None
    except NoMatrixForm:
        return False


@lru_cache(maxsize=4096)
def _partly_read(d: Definition, shapes: tuple[tuple[Expr, ...], ...]) -> tuple[int, ...]:
    """The operands that are not simply read at an index inside them."""
    found = {at.operand for w in d.write for at in w.atoms(At)}
    for at in d.body.atoms(At):
        inner = set().union(*(e.atoms(At) for e in at.index))
        found.update(x.operand for x in inner)
        sizes = shapes[at.operand]
        if at.view is not None or inner or not inside(at, sizes, d.extents):
            found.add(at.operand)
    return tuple(sorted(found))


def _loss_stage(plan: Plan) -> set[str]:
    """The loss, and the unnamed tensors that lead to it without reading a parameter."""
    system = plan.system
    if system.loss not in system.equations:
        return set()
    learned = {n for n, leaf in system.leaves.items() if leaf.kind == "parameter" or n in system.gradients}
    found = {system.loss}
    stack = [system.loss]
    while stack:
        for name in system.equations[stack.pop()].operands:
            e = system.equations.get(name)
            outside = e is None or plan.named(name) or name in system.gradients or learned.intersection(e.operands)
            if not outside and name not in found:
                found.add(name)
                stack.append(name)
    return found


def nodes_of(graph: nx.MultiDiGraph[Any]) -> dict[str, str]:
    """node -> its op."""
    return {str(name): str(op) for name, op in graph.nodes(data="op")}
