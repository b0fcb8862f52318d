"""Evidence that gradients are right: the emitted program against what `evaluate` computes."""

from symgrad.verify.report import Report, Row, verify, verify_against

__all__ = ["Report", "Row", "verify", "verify_against"]
