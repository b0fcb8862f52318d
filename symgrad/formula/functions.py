"""Activations get letters: h = f(z), and f'(z) wherever an adjoint multiplies by the derivative of f.

An activation is a node that applies a function of one variable, other than a power or a single exponential,
to every entry of a tensor. Its derivative is recognised by algebra: the factors of an adjoint's body that
depend on z alone, with every f(z) written out, equal the derivative that SymPy finds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

import sympy as sp
from sympy import Expr

from symgrad.derive.scalar import scalar_derivative
from symgrad.equations import Equation
from symgrad.errors import DeriveError
from symgrad.formula.indexed import Applied
from symgrad.formula.notation import Atom
from symgrad.formula.symbols import subscript
from symgrad.index.definition import At, Definition

VARIABLE = At(0, ())
_LETTERS = (Atom("f", "f"), Atom("g", "g"), Atom("φ", r"\varphi"), Atom("ψ", r"\psi"))


@dataclass
class Functions:
    """The activations of a derivation.

    Attributes:
        bodies: each as an expression of VARIABLE, in order of appearance.
        of: activation -> (the tensor that it is applied to, number of the function).
        on: tensor -> number of a function applied to it -> the activations that hold the result.
    """

    bodies: list[Expr] = field(default_factory=list)
    of: dict[str, tuple[str, int]] = field(default_factory=dict)
    on: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    letters: list[Atom] = field(default_factory=list)

    def add(self, e: Equation) -> None:
        """Take note of the activation that e computes."""
        (access,) = e.definition.accesses
        body = e.definition.body.xreplace({access: VARIABLE})
        if body not in self.bodies:
            self.bodies.append(body)
        number = self.bodies.index(body)
        self.of[e.name] = (e.operands[0], number)
        self.on.setdefault(e.operands[0], {}).setdefault(number, []).append(e.name)

    def name(self, taken: Collection[str]) -> None:
        """Choose letters that no tensor has."""
        free = [atom for atom in _LETTERS if atom.text not in taken]
        if len(self.bodies) > len(free):
            base = free[0] if free else Atom("act", r"\mathrm{act}")
            numbers = [str(k + 1) for k in range(len(self.bodies))]
            free = [Atom(base.text + subscript(k), f"{base.latex}_{{{k}}}") for k in numbers]
        self.letters = free[: len(self.bodies)]

    def letter(self, number: int) -> Atom:
        return self.letters[number]

    def derivative(self, number: int) -> Expr:
        return _derivative(self.bodies[number])

    def rewrite(self, e: Equation) -> Definition:
        """The definition with activations, and derivatives of activations, applied by their letter."""
        if e.name in self.of:
            (access,) = e.definition.accesses
            return _with_body(e.definition, Applied(self.of[e.name][1], 0, access))
        read = {name: k for k, name in enumerate(e.operands)}
        definition = e.definition
        for name in e.operands:
            for number, results in self.on.get(name, {}).items():
                values = tuple(read[h] for h in results if h in read)
                definition = _rewritten(definition, read[name], values, number, self.bodies[number])
        return definition


def is_activation(e: Equation) -> bool:
    """Whether e applies a function worth a letter to each entry of one tensor."""
    d = e.definition
    if e.dtype != "float" or not d.elementwise or len(d.accesses) != 1:
        return False
    (access,) = d.accesses
    plain = access.view is None and access.index == d.write and d.body.atoms(At) == {access}
    body = d.body.xreplace({access: VARIABLE})
    return plain and not body.free_symbols & {i for i, _ in d.loops} and not _has_own_notation(body)


@lru_cache(maxsize=4096)
def _has_own_notation(body: Expr) -> bool:
    x = sp.Dummy("x", real=True)
    scalar = body.xreplace({VARIABLE: x})
    if scalar.is_polynomial(x) or isinstance(scalar, sp.exp | sp.log | sp.Abs | sp.sign):
        return True
    base, power = scalar.as_base_exp()
    return bool(base.is_polynomial(x) and power.is_number) or _derivative(body) == 0


@lru_cache(maxsize=4096)
def _derivative(body: Expr) -> Expr:
    try:
        return scalar_derivative(body, VARIABLE)
    except DeriveError:
        return sp.Integer(0)


def _with_body(d: Definition, body: Expr) -> Definition:
    return Definition(d.loops, d.shape, d.write, d.reduction, body)


@lru_cache(maxsize=4096)
def _rewritten(d: Definition, operand: int, values: tuple[int, ...], number: int, function: Expr) -> Definition:
    """The definition with f'(operand) for the factors of its body that equal it."""
    body = _flat(d.body)
    for access in sorted((at for at in body.atoms(At) if at.operand == operand), key=sp.default_sort_key):
        applied = {At(k, access.index): function.xreplace({VARIABLE: access}) for k in values}
        body = _one(
            body,
            access,
            applied,
            Applied(number, 1, access),
            _derivative(function).xreplace({VARIABLE: access}),
        )
    return _with_body(d, body) if body.has(Applied) else d


def _flat(body: Expr) -> Expr:
    """A product, with what is zero unless a condition holds as a factor of its own."""
    factors: list[Expr] = []
    for f in sp.Mul.make_args(body):
        split = isinstance(f, sp.Piecewise) and len(f.args) == 2 and f.args[1] == (0, True) and f.args[0][0] != 1
        factors += [f.args[0][0], sp.Piecewise((1, f.args[0][1]), (0, True))] if split else [f]
    return sp.Mul(*factors)


def _one(body: Expr, access: At, applied: dict[At, Expr], name: Expr, derivative: Expr) -> Expr:
    own = {access, *applied}
    rest: list[Expr] = []
    ours: list[Expr] = []
    for factor in sp.Mul.make_args(body):
        atoms = factor.atoms(At)
        (ours if atoms and atoms <= own else rest).append(factor)
    if not ours:
        return body
    constant, wanted = derivative.as_independent(access, as_Add=False)
    found = sp.Mul(*ours).xreplace(applied)
    front, found = found.as_independent(access, as_Add=False)
    if not _equal(found, wanted):
        return body
    return sp.Mul(*rest, front, 1 / constant, name)


def _equal(a: Expr, b: Expr) -> bool:
    return bool(a == b) or (_cheap(a) and _cheap(b) and bool(sp.expand(a - b) == 0))


def _cheap(expr: Expr) -> bool:
    return sum(1 for _ in sp.preorder_traversal(expr)) < 60
