"""Matrix calculus: derivatives of one expression, in closed form."""

from symgrad.calculus.derivative import Derivative, gradient, hvp, jacobian
from symgrad.calculus.hessian import HessianFormula, hessian

__all__ = ["Derivative", "HessianFormula", "gradient", "hessian", "hvp", "jacobian"]
