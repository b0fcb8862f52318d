"""From equations to array statements. What is chosen depends on the form of a body, never on an op's name."""

from symgrad.lower.lowering import lower

__all__ = ["lower"]
