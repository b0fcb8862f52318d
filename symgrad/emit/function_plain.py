"""Statements of the readable style as one writes them for one function in double precision."""

from __future__ import annotations

import ast
from dataclasses import replace

from symgrad.emit.function_steps import Step, source


def plain(step: Step) -> Step:
    """The statement in double precision, which is NumPy's default and so is not spelled out."""
    node = _Plainer().visit(step.node)
    assert isinstance(node, ast.stmt)
    return replace(step, node=node)


class _Plainer(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("float", node.ctx) if node.id == "DTYPE" else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """The product of two numbers is one number."""
        self.generic_visit(node)
        left, right = _number(node.left), _number(node.right)
        if not isinstance(node.op, ast.Mult) or left is None or right is None:
            return node
        return _written(left * right)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        called = source(node.func)
        if called == "np.full" and source(node.args[2]) == "float":
            return _filled(_sole(node.args[0]), node.args[1])
        if called == "np.zeros":
            return ast.Call(node.func, [_sole(node.args[0])], [])
        if isinstance(node.func, ast.Attribute) and node.func.attr == "reshape" and isinstance(node.args[0], ast.Tuple):
            node.args = node.args[0].elts or node.args
        return node


def _filled(shape: ast.expr, value: ast.expr) -> ast.Call:
    """An array of one number: np.ones, or np.full with a dtype where the number would not tell it."""
    number = _number(value)
    named = {0.0: "zeros", 1.0: "ones"}.get(number) if number is not None else None
    function = ast.Attribute(ast.Name("np", ast.Load()), named or "full", ast.Load())
    if named:
        return ast.Call(function, [shape], [])
    if number is not None:
        return ast.Call(function, [shape, _written(float(number))], [])
    return ast.Call(function, [shape, value, ast.Name("float", ast.Load())], [])


def _written(number: float) -> ast.expr:
    """A number as source code has it: its sign is an operator."""
    size = ast.Constant(abs(number))
    return ast.UnaryOp(ast.USub(), size) if number < 0 else size


def _number(node: ast.expr) -> float | None:
    """The value of a written number."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        size = _number(node.operand)
        return None if size is None else -size
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None


def _sole(shape: ast.expr) -> ast.expr:
    """n for (n,)."""
    return shape.elts[0] if isinstance(shape, ast.Tuple) and len(shape.elts) == 1 else shape
