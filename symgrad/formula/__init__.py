"""How derived gradients are shown: matrix and index notation, as Unicode text, LaTeX and SymPy objects."""

from symgrad.formula.comment import Comments, statement_comment
from symgrad.formula.derivation import Derivation, Formula
from symgrad.formula.step_check import StepCheck
from symgrad.formula.step_system import Passes, Record
from symgrad.formula.steps import Step, Steps

__all__ = [
    "Comments",
    "Derivation",
    "Formula",
    "Passes",
    "Record",
    "Step",
    "StepCheck",
    "Steps",
    "statement_comment",
]
