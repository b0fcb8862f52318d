"""The derivative of a scalar body by one of the elements that it reads: SymPy's, and nothing of ours."""

from __future__ import annotations

from functools import lru_cache

import sympy as sp
from sympy import Dummy, Expr, Symbol

from symgrad.conventions import apply_conventions
from symgrad.errors import DeriveError
from symgrad.index.definition import At, outermost
from symgrad.index.functions import stable


@lru_cache(maxsize=4096)
def scalar_derivative(body: Expr, access: At) -> Expr:
    """d body / d access, with the conventions at kinks applied.

    Raises DeriveError where SymPy knows no derivative, or one that is nowhere finite, as of 0**x.
    """
    symbols = {at: Dummy(f"x{k}", real=True) for k, at in enumerate(sorted(outermost(body), key=sp.default_sort_key))}
    inverse = {symbol: at for at, symbol in symbols.items()}
    derivative = apply_conventions(body.xreplace(symbols).diff(symbols[access]))
    if derivative.has(sp.Derivative, sp.Subs, sp.zoo, sp.nan):
        known = "no derivative" if derivative.has(sp.Derivative, sp.Subs) else "no finite derivative"
        shown = body.xreplace({at: Symbol(symbol.name) for at, symbol in symbols.items()})
        raise DeriveError(f"there is {known} of {shown}")
    return stable(derivative).xreplace(inverse)
