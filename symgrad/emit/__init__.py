"""From statements to the source text of a program that needs nothing but NumPy."""

from symgrad.emit.module import Request, emit_module, in_order
from symgrad.emit.program import Program, write_whole

__all__ = ["Program", "Request", "emit_module", "in_order", "write_whole"]
