"""The grader: is this gradient right, and if not, what is wrong with it?"""

from symgrad.grade.grading import grade
from symgrad.grade.result import KINDS, Counterexample, Finding, Grade, Grades

__all__ = ["KINDS", "Counterexample", "Finding", "Grade", "Grades", "grade"]
