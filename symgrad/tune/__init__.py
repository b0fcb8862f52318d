"""Measuring which settings make a program fastest on this machine."""

from symgrad.tune.search import tune

__all__ = ["tune"]
