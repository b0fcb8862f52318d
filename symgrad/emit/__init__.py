"""From statements to the source text of a program that needs nothing but NumPy."""

from symgrad.emit.module import MARK, emit_module
from symgrad.emit.program import Program, write_whole
from symgrad.emit.request import Request, in_order

__all__ = ["MARK", "Program", "Request", "emit_module", "in_order", "write_whole"]
