"""symgrad: a network in; formulas, NumPy training code and evidence for its gradients out.

    import symgrad as sg

`sg.input`, `sg.parameter`, `sg.constant` and `sg.define` draw a network; every registered op is a function
of the same name (`sg.tanh`, `sg.conv2d`, ...), and `dir(sg)` lists them. `sg.graph` gives the networkx graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from symgrad import builder
from symgrad.builder import Tensor, constant, define, graph, input, parameter
from symgrad.check import check
from symgrad.conventions import CONVENTIONS
from symgrad.emit import Program
from symgrad.errors import (
    DeriveError,
    DtypeError,
    EmitError,
    FileError,
    FormulaError,
    GraphError,
    ShapeError,
    SymgradError,
    VerifyError,
)
from symgrad.files import load_graph, save_graph
from symgrad.formula import Derivation, Formula
from symgrad.ops import OPS, register
from symgrad.optimizers import OPTIMIZERS
from symgrad.pipeline import derive, emit
from symgrad.verify import Report, verify

__version__ = "0.1.0"

__all__ = [
    "CONVENTIONS",
    "OPS",
    "OPTIMIZERS",
    "Derivation",
    "DeriveError",
    "DtypeError",
    "EmitError",
    "FileError",
    "Formula",
    "FormulaError",
    "GraphError",
    "Program",
    "Report",
    "ShapeError",
    "SymgradError",
    "Tensor",
    "VerifyError",
    "check",
    "constant",
    "define",
    "derive",
    "emit",
    "graph",
    "input",
    "load_graph",
    "parameter",
    "register",
    "save_graph",
    "verify",
]


def __getattr__(name: str) -> Callable[..., Any]:
    """The function of a registered op."""
    return builder.op_function(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *OPS})
