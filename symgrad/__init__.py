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
from symgrad.calculus import Derivative, HessianFormula, gradient, hessian, hvp, jacobian
from symgrad.check import check
from symgrad.conventions import CONVENTIONS
from symgrad.costs import Costs, costs
from symgrad.drawing import Graph
from symgrad.emit import Program
from symgrad.errors import (
    DeriveError,
    DtypeError,
    EmitError,
    FileError,
    FormulaError,
    GradeError,
    GraphError,
    ShapeError,
    SymgradError,
    VerifyError,
)
from symgrad.files import load_graph, save_graph
from symgrad.formula import Derivation, Formula, Step, Steps
from symgrad.grade import Grade, Grades, grade
from symgrad.ops import OPS, register
from symgrad.optimizers import OPTIMIZERS
from symgrad.pipeline import derive, emit
from symgrad.report import Page, report, write_html
from symgrad.tune import tune
from symgrad.verify import Report, verify

__version__ = "0.1.0"

__all__ = [
    "CONVENTIONS",
    "OPS",
    "OPTIMIZERS",
    "Costs",
    "Derivation",
    "Derivative",
    "DeriveError",
    "DtypeError",
    "EmitError",
    "FileError",
    "Formula",
    "FormulaError",
    "Grade",
    "GradeError",
    "Grades",
    "Graph",
    "GraphError",
    "HessianFormula",
    "Page",
    "Program",
    "Report",
    "ShapeError",
    "Step",
    "Steps",
    "SymgradError",
    "Tensor",
    "VerifyError",
    "check",
    "constant",
    "costs",
    "define",
    "derive",
    "emit",
    "grade",
    "gradient",
    "graph",
    "hessian",
    "hvp",
    "input",
    "jacobian",
    "load_graph",
    "parameter",
    "register",
    "report",
    "save_graph",
    "tune",
    "verify",
    "write_html",
]


def __getattr__(name: str) -> Callable[..., Any]:
    """The function of a registered op."""
    return builder.op_function(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *OPS})
