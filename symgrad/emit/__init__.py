"""From statements to the source text of a program that needs nothing but NumPy."""

from symgrad.emit.module import MARK, emit_module
from symgrad.emit.outputs import with_copied_outputs
from symgrad.emit.program import SEAL, Program, is_untouched
from symgrad.emit.request import Request, in_order

__all__ = ["MARK", "SEAL", "Program", "Request", "emit_module", "in_order", "is_untouched", "with_copied_outputs"]
