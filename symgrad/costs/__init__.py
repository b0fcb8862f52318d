"""What a network costs: operations and memory, as polynomials in the dimensions that are known only in a run."""

from symgrad.costs.costs import Costs, EquationCost, NodeCost, costs

__all__ = ["Costs", "EquationCost", "NodeCost", "costs"]
