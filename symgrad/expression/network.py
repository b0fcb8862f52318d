"""Terms with their shapes as a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import networkx as nx
import sympy as sp
from sympy import Expr

from symgrad.expand import exact
from symgrad.expression.sizes import Shape
from symgrad.expression.terms import Applied, Dimension, Extent, Filled, Named, Number, Term
from symgrad.graph import FORMAT
from symgrad.index.functions import FUNCTIONS
from symgrad.index.parser import MAX_EXTENT
from symgrad.index.text import expression_text
from symgrad.ops import OPS

_OUTPUT = "value"


class Network:
    """A network that is being drawn; `graph` when it is done.

    Attributes:
        names: term -> node. A transposed vector is the vector's node.
        output: the node of the expression's value.
    """

    def __init__(self, terms: Sequence[Term], root: int, shapes: Sequence[Shape]) -> None:
        self.terms, self.shapes = terms, shapes
        self.graph: nx.MultiDiGraph[Any] = nx.MultiDiGraph(symgrad=FORMAT)
        self.names: dict[int, str] = {}
        self._taken = {t.form.name for t in terms if isinstance(t.form, Named)}
        self._counts: Counter[str] = Counter()
        needed = self._needed(root)
        for k, term in enumerate(terms):
            if k in needed or isinstance(term.form, Named):
                self.names[k] = self._draw(k, term)
        self.output = self.names[root]
        if isinstance(terms[root].form, Named) or self.output in self._taken:
            self.output = self._copy(root)
        self.graph.graph["outputs"] = [self.output]
        if shapes[root] == ():
            self.graph.graph["loss"] = self.output

    def _needed(self, root: int) -> set[int]:
        """The terms whose values are used, not only their shapes."""
        needed, stack = set(), [root]
        while stack:
            k = stack.pop()
            if k not in needed:
                needed.add(k)
                stack += self.terms[k].operands if isinstance(self.terms[k].form, Applied) else ()
        return needed

    def _draw(self, k: int, term: Term) -> str:
        form = term.form
        if isinstance(form, Named):
            shape = tuple(int(n) if n.is_Integer else expression_text(n) for n in self.shapes[k])
            self.graph.add_node(form.name, op="input", shape=shape)
            return form.name
        if isinstance(form, Number):
            return self._number(form.value)
        if isinstance(form, Dimension):
            return self._defined("size", f"Y[()] = {form.name}")
        if isinstance(form, Extent):
            return self._extent(self.shapes[term.operands[0]], form)
        return self._filled(k, form) if isinstance(form, Filled) else self._applied(term, form)

    def _number(self, value: Expr) -> str:
        """A constant, or where no decimal says exactly what it is, a formula."""
        if value.is_Rational:
            number = int(value) if value.is_Integer and abs(value) <= MAX_EXTENT else float(value)
            if exact(number) == value:
                return self._node("c", op="constant", value=number)
        return self._defined("c", f"Y[()] = {expression_text(value)}")

    def _extent(self, shape: Shape, form: Extent) -> str:
        size = shape[form.axis] if form.axis is not None else sp.Mul(*shape)
        return self._number(size) if size.is_Integer else self._defined("size", f"Y[()] = {expression_text(size)}")

    def _filled(self, k: int, form: Filled) -> str:
        index = [f"i{a}" for a in range(len(self.shapes[k]))]
        target = ", ".join(f"{i}:{expression_text(n)}" for i, n in zip(index, self.shapes[k], strict=True))
        body = {"eye": "where(i0 == i1, 1, 0)", "ones": "1", "zeros": "0"}[form.function]
        return self._defined(form.function, f"Y[{target}] = {body}")

    def _applied(self, term: Term, form: Applied) -> str:
        ranks = [len(self.shapes[k]) for k in term.operands]
        op = form.rule.op(ranks)
        operands = [self.names[k] for k in term.operands]
        if op == "transpose" and ranks[0] < 2:
            return operands[0]
        if op in OPS:
            return self._node(op, *operands, op=op, **dict(form.attributes))
        return self._scalar_function(op, operands)

    def _scalar_function(self, name: str, operands: Sequence[str]) -> str:
        """A function of formula text that no op is registered for."""
        listed = [f"X{k}" for k in range(FUNCTIONS[name][0])]
        formula = f"Y[...] = {name}({', '.join(f'{x}[...]' for x in listed)})"
        return self._node(name, *operands, op="define", formula=formula, operands=listed)

    def _copy(self, root: int) -> str:
        """The value of an expression that is a variable alone, which is no computed tensor."""
        return self._node(_OUTPUT, self.names[root], op="define", formula="Y[...] = X[...]", operands=["X"])

    def _defined(self, kind: str, formula: str) -> str:
        return self._node(kind, op="define", formula=formula, operands=[])

    def _node(self, kind: str, *operands: str, **attributes: Any) -> str:
        stem = kind + "_" * kind[-1].isdigit()  # norm2_1
        self._counts[kind] += 1
        while (name := f"{stem}{self._counts[kind]}") in self._taken:
            self._counts[kind] += 1
        self.graph.add_node(name, **attributes)
        for position, operand in enumerate(operands):
            self.graph.add_edge(operand, name, arg=position)
        return name
