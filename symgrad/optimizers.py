"""Optimizers as formulas: one small table each, lowered by the same code as the network.

A table maps a name to its new value, in order; later lines see the new values of earlier ones. The names are
theta (the parameters), g (the gradient), k (the number of this step, from 1), the hyperparameters, and any
other name on the left is a state vector that starts at 0. All act on each entry of the flat vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import sympy as sp
from sympy import Expr, Symbol

from symgrad.errors import EmitError, nearest

theta, g, k, lr = sp.symbols("theta g k lr", real=True)
m, v, s, velocity = sp.symbols("m v s velocity", real=True)
beta1, beta2, eps, momentum, rho, weight_decay = sp.symbols("beta1 beta2 eps momentum rho weight_decay", real=True)


@dataclass(frozen=True)
class Optimizer:
    """One update rule.

    Attributes:
        updates: symbol -> its new value, in the order in which they are computed.
        defaults: hyperparameter -> value.
        source: where the formula is from.
    """

    name: str
    updates: Mapping[Symbol, Expr]
    defaults: Mapping[str, float]
    source: str

    @cached_property
    def state(self) -> tuple[str, ...]:
        return tuple(str(symbol) for symbol in self.updates if symbol != theta)


_MOMENTS = {m: beta1 * m + (1 - beta1) * g, v: beta2 * v + (1 - beta2) * g**2}
_ADAM = lr * (m / (1 - beta1**k)) / (sp.sqrt(v / (1 - beta2**k)) + eps)
_ADAM_DEFAULTS = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

OPTIMIZERS: dict[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer("sgd", {theta: theta - lr * g}, {"lr": 0.1}, "Robbins and Monro (1951)"),
        Optimizer(
            "momentum",
            {velocity: momentum * velocity + g, theta: theta - lr * velocity},
            {"lr": 0.01, "momentum": 0.9},
            "Polyak (1964)",
        ),
        Optimizer(
            "nesterov",
            {velocity: momentum * velocity + g, theta: theta - lr * (g + momentum * velocity)},
            {"lr": 0.01, "momentum": 0.9},
            "Nesterov (1983), in the form of Sutskever et al. (2013)",
        ),
        Optimizer(
            "rmsprop",
            {s: rho * s + (1 - rho) * g**2, theta: theta - lr * g / (sp.sqrt(s) + eps)},
            {"lr": 1e-3, "rho": 0.9, "eps": 1e-8},
            "Tieleman and Hinton (2012)",
        ),
        Optimizer(
            "adagrad",
            {s: s + g**2, theta: theta - lr * g / (sp.sqrt(s) + eps)},
            {"lr": 0.01, "eps": 1e-10},
            "Duchi, Hazan and Singer (2011)",
        ),
        Optimizer("adam", {**_MOMENTS, theta: theta - _ADAM}, _ADAM_DEFAULTS, "Kingma and Ba (2015)"),
        Optimizer(
            "adamw",
            {**_MOMENTS, theta: theta - lr * weight_decay * theta - _ADAM},
            _ADAM_DEFAULTS | {"weight_decay": 0.01},
            "Loshchilov and Hutter (2019)",
        ),
    )
}


def optimizer_named(name: str) -> Optimizer:
    """The optimizer of that name. Raises EmitError if there is none."""
    if name not in OPTIMIZERS:
        hint = nearest(str(name), OPTIMIZERS) or "one of " + ", ".join(OPTIMIZERS)
        raise EmitError(f"unknown optimizer {name!r}", hint=hint)
    return OPTIMIZERS[name]
