"""Functions that NumPy lacks in those that it has, right to a few ulps for every argument.

    e = exp(min(x, largest))       sigmoid(x) = e/(1 + e)     sigmoid(-x) = 1/(1 + e)     softplus(x) = max(x, log1p(e))

For a large x the 1 vanishes beside e, and x exceeds log1p(e) only where the two agree; so one exponential serves all.
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr, Integer

from symgrad.index.functions import log1p, plain_conditions, softplus

LARGEST = sp.Symbol("0.693*np.finfo(DTYPE).maxexp", real=True)  # a little less than the log of the largest number


class from_zero(sp.Function):  # type: ignore[misc]
    """1 from 0 on, else 0: a Piecewise of a Piecewise is more than SymPy can take."""

    is_real = True

    @classmethod
    def eval(cls, x: Expr) -> Expr | None:
        return Integer(int(bool(x >= 0))) if x.is_number else None


def bounded_exponential(x: Expr) -> Expr:
    """exp(x), of no more than what is representable."""
    return sp.exp(sp.Min(x, LARGEST, evaluate=False))


def spelled_out(body: Expr) -> Expr:
    """The body without softplus, relu as a maximum. A sigmoid stays: in x*e/(1 + e) the product x*e may overflow."""
    body = body.replace(softplus, lambda x: sp.Max(x, log1p(bounded_exponential(x)), evaluate=False))
    return plain_conditions(body.replace(lambda p: isinstance(p, sp.Piecewise), _rectifier))


def _rectifier(piecewise: Expr) -> Expr:
    """where(x > 0, x, 0) is max(x, 0)."""
    (value, condition), *rest = piecewise.args
    if len(rest) == 1 and rest[0][0] == 0 and condition in (sp.Gt(value, 0), sp.Ge(value, 0)):
        return sp.Max(value, 0)
    return piecewise
