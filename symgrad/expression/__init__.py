"""Expressions in NumPy's syntax, as networks."""

from symgrad.expression.declarations import Declaration, read_declaration
from symgrad.expression.problem import Problem, Variable, read_expression

__all__ = ["Declaration", "Problem", "Variable", "read_declaration", "read_expression"]
