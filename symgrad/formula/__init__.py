"""How derived gradients are shown: matrix and index notation, as Unicode text, LaTeX and SymPy objects."""

from symgrad.formula.comment import Comments, statement_comment
from symgrad.formula.derivation import Derivation, Formula

__all__ = ["Comments", "Derivation", "Formula", "statement_comment"]
