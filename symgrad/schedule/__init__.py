"""Statements to calls that write into memory planned for them."""

from symgrad.schedule.calls import Call, flatten
from symgrad.schedule.memory import plan_memory

__all__ = ["Call", "flatten", "plan_memory"]
