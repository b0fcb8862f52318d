"""What a call says besides its operands: axis=0, keepdims=True, the order of a norm."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from symgrad.check import fits
from symgrad.errors import nearest
from symgrad.expression.functions import Known, norm_rule
from symgrad.expression.rules import Attributes, Signature
from symgrad.expression.source import Source
from symgrad.ops.registry import REQUIRED


def literal(node: ast.expr) -> Any:
    """A plain value: a number, text, True, False, None, or a tuple of them. Else an Ellipsis, which fits nothing."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(map(literal, node.elts))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = literal(node.operand)
        return -value if type(value) in (int, float) else ...
    return ...


def attributes(source: Source, node: ast.Call, known: Known, positional: Sequence[ast.expr]) -> Attributes:
    """The attributes of a call, in the order of the registry.

    Raises FormulaError for one that is unknown, missing, given twice or of a wrong type.
    """
    pairs = _pairs(source, node, known, positional)
    given = {name: _value(source, known, name, value) for name, value in pairs.items()}
    for name, attribute in known.attributes.items():
        if attribute.default is REQUIRED and name not in given:
            source.refuse(node.col_offset, f"{known.name} needs {name}", f"it is {attribute.kind}")
    return tuple((name, given[name]) for name in known.attributes if name in given)


def _pairs(source: Source, node: ast.Call, known: Known, positional: Sequence[ast.expr]) -> dict[str, ast.expr]:
    if [a.kind for a in known.attributes.values()] in (["shape"], ["optional ints"]) and len(positional) > 1:
        positional = [_tuple(positional)]
    listed = "it takes " + (", ".join(known.attributes) or "operands only")
    if len(positional) > len(known.attributes):
        most, got = known.operands + len(known.attributes), known.operands + len(positional)
        place = positional[len(known.attributes)].col_offset
        source.refuse(place, f"{known.name} takes {most} argument{'s' * (most != 1)}, got {got}", listed)
    pairs = dict(zip(known.attributes, positional, strict=False))
    for keyword in node.keywords:
        name = "**" if keyword.arg is None else keyword.arg
        if name not in known.attributes or name in pairs:
            hint = nearest(name, known.attributes) or listed
            source.refuse(keyword.col_offset, f"{known.name} has no place for {name[:100]!r}", hint)
        pairs[name] = keyword.value
    return pairs


def _tuple(elements: Sequence[ast.expr]) -> ast.Tuple:
    """x.reshape(2, 3) says the same as x.reshape((2, 3))."""
    first, last = elements[0], elements[-1]
    return ast.Tuple(list(elements), ast.Load(), col_offset=first.col_offset, end_col_offset=last.end_col_offset)


def _value(source: Source, known: Known, name: str, node: ast.expr) -> Any:
    value, attribute = literal(node), known.attributes[name]
    if not fits(value, attribute):
        hint = f"{known.name}imum(a, b) compares two tensors" if known.name in ("max", "min") else None
        got = source.part(node)[:40]
        source.refuse(node.col_offset, f"{name} of {known.name} is of the kind {attribute.kind}, not {got}", hint)
    return value


def norm_signature(source: Source, node: ast.Call, operands: Sequence[ast.expr]) -> Signature:
    """numpy.linalg.norm with the order that a call says. Raises FormulaError."""
    orders = [*operands[1:], *(k.value for k in node.keywords if k.arg == "ord")]
    if not operands or len(orders) > 1 or any(k.arg != "ord" for k in node.keywords):
        source.refuse(node.col_offset, "norm takes one operand and its order", "norm(x, 1)")
    infinite = bool(orders) and source.part(orders[0]) in ("inf", "np.inf", "numpy.inf")
    signature = norm_rule("inf" if infinite else literal(orders[0]) if orders else None)
    if signature is None:
        source.refuse(orders[0].col_offset, "there is no such norm", 'a positive number, inf, "fro" or "nuc"')
    return signature
