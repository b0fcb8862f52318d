"""From equations to array statements. What is chosen depends on the form of a body, never on an op's name."""

from symgrad.lower.arrange import arrange, arrange_network
from symgrad.lower.lowering import LOWERING_PASSES, lower

__all__ = ["LOWERING_PASSES", "arrange", "arrange_network", "lower"]
