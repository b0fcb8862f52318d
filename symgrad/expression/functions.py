"""The functions that an expression may call: those of the registry, under NumPy's names too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from symgrad.errors import nearest
from symgrad.expression.rules import Attributes, Elementwise, Registered, Rule, Signature
from symgrad.index.functions import FUNCTIONS
from symgrad.ops import OPS
from symgrad.ops.registry import Attribute

MODULES = ("np", "numpy", "np.linalg", "numpy.linalg", "linalg")
METHODS = ("sum", "mean", "max", "min", "prod", "var", "dot", "trace", "transpose", "reshape")
FILLED = ("eye", "ones", "zeros")

_ALIASES = {
    "absolute": "abs",
    "amax": "max",
    "amin": "min",
    "arctan": "atan",
    "fro": "normfro",
    "norm_nuc": "nuclear",
    "tr": "trace",
}
# "mn,n->m": the axes of the operands and of the result; axes of one letter have one size
_SIGNATURES: dict[str, tuple[str, ...]] = {
    "matmul": ("mn,np->mp", "mn,n->m", "m,mn->n", "n,n->"),
    "dot": ("mn,np->mp", "mn,n->m", "m,mn->n", "n,n->"),
    "outer": ("m,n->mn",),
    "transpose": ("mn->nm", "n->n", "->"),
    "inv": ("nn->nn",),
    "pinv": ("mn->nm",),
    "det": ("nn->",),
    "logdet": ("nn->",),
    "trace": ("nn->",),
    "solve": ("nn,n->n", "nn,np->np"),
    "cholesky": ("nn->nn",),
    "matrix_power": ("nn->nn",),
    "eigvalsh": ("nn->n",),
    "norm1": ("n->",),
    "norm2": ("n->",),
    "norminf": ("n->",),
    "pnorm": ("n->",),
    "normfro": ("mn->",),
    "nuclear": ("mn->",),
    "kron": ("mn,pq->(mp)(nq)",),
    "diag": ("n->nn", "nn->n"),
    "triu": ("mn->mn",),
    "tril": ("mn->mn",),
    "vec": ("mn->(nm)",),
}
# numpy.linalg.norm's `ord` -> what it is for a vector and for a matrix
_NORMS: dict[object, tuple[tuple[str, str], ...]] = {
    None: (("n->", "norm2"), ("mn->", "normfro")),
    1: (("n->", "norm1"),),
    2: (("n->", "norm2"),),
    "inf": (("n->", "norminf"),),
    "fro": (("mn->", "normfro"),),
    "nuc": (("mn->", "nuclear"),),
}


@dataclass(frozen=True)
class Known:
    """A function: how many operands come first, and the attributes that follow."""

    name: str
    operands: int
    attributes: Mapping[str, Attribute]

    def rule(self, attributes: Attributes) -> Rule:
        """How the shape of a call with these attributes follows."""
        if self.name in _SIGNATURES and not (self.name == "transpose" and attributes):
            return Signature(tuple((axes, self.name) for axes in _SIGNATURES[self.name]), attributes)
        return Elementwise(self.name) if _is_elementwise(self.name) else Registered(self.name, attributes)


def function_named(name: str) -> Known | None:
    """The function that an expression calls `name`, or None."""
    name = _ALIASES.get(name, name)
    if name in OPS and (name in _SIGNATURES or _is_elementwise(name) or len(OPS[name].operands or "  ") == 1):
        return Known(name, len(OPS[name].operands or ()), OPS[name].attributes)
    if name in FUNCTIONS and name not in OPS:
        return Known(name, FUNCTIONS[name][0], {})
    return None


def norm_rule(order: object) -> Signature | None:
    """numpy.linalg.norm of this order, or None if there is none."""
    if isinstance(order, int | float) and order not in (0, 1, 2) and not isinstance(order, bool) and order > 0:
        return Signature((("n->", "pnorm"),), (("p", order),))
    known = tuple((axes, op) for axes, op in _NORMS.get(order, ()) if op in OPS)
    return Signature(known) if known else None


def is_function(name: str) -> bool:
    return name in (*FILLED, "len", "norm") or function_named(name) is not None


def function_hint(name: str) -> str:
    """What a function that is not there was probably meant to be."""
    known = [n for n in (*OPS, *FUNCTIONS, *_ALIASES, *FILLED, "len", "norm") if is_function(n)]
    return nearest(name, known) or "such as exp, log, sum, norm2, trace, inv"


def _is_elementwise(name: str) -> bool:
    """Whether the op's formula, or what it says of it, is a body under NumPy's broadcasting."""
    if name not in OPS:
        return name in FUNCTIONS
    formula = OPS[name].formula
    return (formula if isinstance(formula, str) else OPS[name].doc).startswith("Y[...] =")
