"""Derivation: the chain rule over the graph, one scalar derivative and one index solution per access."""

from symgrad.derive.reverse import derive_system

__all__ = ["derive_system"]
