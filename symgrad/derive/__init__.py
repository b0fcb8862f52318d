"""Derivation: the chain rule over the graph, one scalar derivative and one index solution per access."""

from symgrad.derive.reverse import Contribution, derive_recorded, derive_system

__all__ = ["Contribution", "derive_recorded", "derive_system"]
