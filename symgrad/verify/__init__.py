"""Evidence that gradients are right, from values alone. A side exit: nothing else imports it."""

from symgrad.verify.report import Report, Row, verify, verify_against

__all__ = ["Report", "Row", "verify", "verify_against"]
