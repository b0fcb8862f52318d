"""Answers with one thing changed: what the author may have meant.

Each edit replaces one part of the answer's syntax tree and says in words what was wrong with it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from symgrad.expression.source import read_source
from symgrad.grade.result import Finding

Shape = Sequence[int | str]
Edits = Iterator[tuple[str, str, ast.expr]]  # kind, what is wrong, the part as it should be


@dataclass(frozen=True)
class Edit:
    """A changed answer.

    Attributes:
        text: the whole answer after the change.
        around: the changed part and every part around it, innermost first, as text.
    """

    finding: Finding
    text: str
    around: tuple[str, ...]


def edits(text: str, scope: Mapping[str, Shape], maxima: Mapping[str, str]) -> Iterator[Edit]:
    """All changes of one part, the likelier kinds first.

    Args:
        scope: the tensors that may stand for one another, with their shapes.
        maxima: tensor -> the maximum of it that the network subtracts.
    """
    tree = ast.Expression(read_source(text).tree)
    likely: list[Callable[[ast.expr], Edits]] = [
        _axes,
        _transposes,
        _products,
        _reductions,
        _differences,
        _signs,
        _powers,
        lambda node: _operands(node, scope),
        lambda node: _shifts(node, maxima),
        lambda node: _left_out(node, maxima),
        _orders,
    ]
    yield from _everywhere(tree, likely)
    yield from _renamed(tree, scope)
    yield from _everywhere(tree, [_functions, lambda node: _extended(node, scope)])


def _everywhere(tree: ast.Expression, changes: Sequence[Callable[[ast.expr], Edits]]) -> Iterator[Edit]:
    for change in changes:
        for path in _paths(tree):
            for kind, why, new in change(_at(tree, path)):
                yield _edited(tree, path, kind, why, new)


# places in the tree

Step = tuple[str, int | None]
Path = tuple[Step, ...]
Part = tuple[Step, ast.expr]


def _paths(tree: ast.Expression) -> list[Path]:
    """The way to every expression that stands for a tensor, inner ones last."""
    found: list[Path] = []
    stack: list[tuple[ast.AST, Path]] = [(tree.body, (("body", None),))]
    while stack:
        node, path = stack.pop(0)
        found.append(path)
        stack += [(child, (*path, step)) for step, child in _parts(node)]
    return found


def _parts(node: ast.AST) -> list[Part]:
    """The tensors that a node is computed from."""
    if isinstance(node, ast.BinOp):
        return [(("left", None), node.left), (("right", None), node.right)]
    if isinstance(node, ast.UnaryOp):
        return [(("operand", None), node.operand)]
    if isinstance(node, ast.Attribute | ast.Subscript):
        return [(("value", None), node.value)]
    if isinstance(node, ast.Compare):
        return [(("left", None), node.left), (("comparators", 0), node.comparators[0])]
    if isinstance(node, ast.Call):
        found: list[Part] = []
        if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
            found.append((("func", None), node.func))
        plain = ast.Tuple | ast.Constant
        return found + [(("args", k), arg) for k, arg in enumerate(node.args) if not isinstance(arg, plain)]
    return []


def _is_module(node: ast.expr) -> bool:
    return ast.unparse(node) in ("np", "numpy", "linalg", "np.linalg", "numpy.linalg")


def _step(node: ast.AST, step: Step) -> ast.expr:
    name, place = step
    value = getattr(node, name)
    found: ast.expr = value if place is None else value[place]
    return found


def _at(tree: ast.Expression, path: Path) -> ast.expr:
    node: ast.AST = tree
    for step in path:
        node = _step(node, step)
    assert isinstance(node, ast.expr)
    return node


def _edited(tree: ast.Expression, path: Path, kind: str, why: str, new: ast.expr) -> Edit:
    changed = deepcopy(tree)
    *way, (name, place) = path
    parent: ast.AST = changed
    for step in way:
        parent = _step(parent, step)
    if place is None:
        setattr(parent, name, new)
    else:
        getattr(parent, name)[place] = new
    around = [ast.unparse(_at(changed, path[:length])) for length in range(len(path), 0, -1)]
    text = ast.unparse(changed)
    return Edit(Finding(kind, f"{why}; right is {text}"), text, tuple(around))


def parts(text: str) -> list[str]:
    """Every part of an answer that stands for a tensor, the whole first."""
    tree = ast.Expression(read_source(text).tree)
    return list(dict.fromkeys(ast.unparse(_at(tree, path)) for path in _paths(tree)))


def terms(text: str) -> list[str]:
    """What an answer adds up, if that is more than one term."""
    stack, found = [read_source(text).tree], []
    while stack:
        node = stack.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            stack += [node.right, node.left]
        else:
            found.append(ast.unparse(node))
    return found if len(found) > 1 else []


# the changes


def _transposes(node: ast.expr) -> Edits:
    if isinstance(node, ast.Attribute) and node.attr == "T":
        yield "transpose", f"{ast.unparse(node)} should not be transposed", node.value
    elif not isinstance(node, ast.Constant | ast.Attribute):
        new = ast.Attribute(deepcopy(node), "T", ast.Load())
        yield "transpose", f"{ast.unparse(node)} lacks its transpose", new


def _products(node: ast.expr) -> Edits:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.MatMult):
        matrix = isinstance(node.op, ast.Mult)
        new = ast.BinOp(node.left, ast.MatMult() if matrix else ast.Mult(), node.right)
        kind = "entrywise for matrix product" if matrix else "matrix for entrywise product"
        words = ("the entrywise product *", "the matrix product @")
        wrong, right = words if matrix else words[::-1]
        yield kind, f"{wrong} stands in {ast.unparse(node)} where {right} belongs", new
        if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Mult | ast.MatMult):
            inner = ast.BinOp(node.left.right, new.op, node.right)  # (a @ b) * c, where a @ (b * c) is meant
            whole = ast.BinOp(node.left.left, node.left.op, inner)
            yield kind, f"{wrong} stands in {ast.unparse(node)} where {right} belongs", whole


def _reductions(node: ast.expr) -> Edits:
    if not isinstance(node, ast.Call):
        yield "missing sum", f"{ast.unparse(node)} is not summed over the first axis", _summed(node)
        return
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    other = {"sum": "mean", "mean": "sum"}.get(name)
    if other is None:
        return
    new = deepcopy(node)
    if isinstance(new.func, ast.Attribute):
        new.func.attr = other
    else:
        new.func = ast.Name(other, ast.Load())
    yield f"{name} for {other}", f"{ast.unparse(node)} takes the {name} where the {other} belongs", new


def _axes(node: ast.expr) -> Edits:
    if not isinstance(node, ast.Call):
        return
    for place, keyword in enumerate(node.keywords):
        if keyword.arg == "axis" and ast.unparse(keyword.value) in ("0", "1"):
            turned = deepcopy(node)
            turned.keywords[place].value = ast.Constant(1 - int(ast.unparse(keyword.value)))
            yield "axis", f"{ast.unparse(node)} runs over the wrong axis", turned


def _summed(node: ast.expr) -> ast.expr:
    return ast.Call(ast.Name("sum", ast.Load()), [deepcopy(node)], [ast.keyword("axis", ast.Constant(0))])


def _differences(node: ast.expr) -> Edits:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        new = ast.BinOp(node.right, ast.Sub(), node.left)
        yield "sign", f"{ast.unparse(node)} is the wrong way round", new


def _signs(node: ast.expr) -> Edits:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        new = ast.BinOp(node.left, other, node.right)
        yield "sign", f"a sign is wrong in {ast.unparse(node)}", new
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", f"the sign of {ast.unparse(node)} is wrong", node.operand
    else:
        yield "sign", f"the sign of {ast.unparse(node)} is wrong", ast.UnaryOp(ast.USub(), deepcopy(node))


def _powers(node: ast.expr) -> Edits:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        yield "power", f"{ast.unparse(node)} should not be a power", node.left
    elif not isinstance(node, ast.Constant):
        squared = ast.BinOp(deepcopy(node), ast.Pow(), ast.Constant(2))
        yield "power", f"{ast.unparse(node)} should be squared", squared


def _operands(node: ast.expr, scope: Mapping[str, Shape]) -> Edits:
    if isinstance(node, ast.Name) and node.id in scope:
        for name, shape in scope.items():
            if name != node.id and tuple(shape) == tuple(scope[node.id]):
                yield "wrong operand", f"{node.id} stands where {name} belongs", ast.Name(name, ast.Load())


def _functions(node: ast.expr) -> Edits:
    """A function of a tensor that is left out."""
    if isinstance(node, ast.Name):
        name = node.id
        for right in (f"sigmoid({name})", f"softmax({name})", f"exp({name})", f"({name} > 0)", f"tanh({name})"):
            yield "wrong operand", f"{name} stands where {right} belongs", ast.parse(right, mode="eval").body


def _extended(node: ast.expr, scope: Mapping[str, Shape]) -> Edits:
    """A tensor that is left out beside another."""
    if not isinstance(node, ast.Name) or node.id not in scope:
        return
    shape = tuple(scope[node.id])
    operators: list[tuple[str, ast.operator]] = [("term", ast.Sub()), ("term", ast.Add()), ("factor", ast.Mult())]
    for name, other in scope.items():
        if name != node.id and tuple(other) == shape[len(shape) - len(other) :]:
            for what, operator in operators:
                new = ast.BinOp(deepcopy(node), operator, ast.Name(name, ast.Load()))
                yield f"missing {what}", f"{node.id} stands where {ast.unparse(new)} belongs", new


def _shifts(node: ast.expr, maxima: Mapping[str, str]) -> Edits:
    if isinstance(node, ast.Name) and node.id in maxima:
        shift = ast.Subscript(ast.Name(maxima[node.id], ast.Load()), _last_axis(), ast.Load())
        for least in (ast.Name(maxima[node.id], ast.Load()), shift):
            new = ast.BinOp(deepcopy(node), ast.Sub(), least)
            yield "max shift", f"{node.id} is not shifted by its maximum {maxima[node.id]}", new


def _last_axis() -> ast.expr:
    return ast.Tuple([ast.Slice(), ast.Constant(None)], ast.Load())


def _left_out(node: ast.expr, maxima: Mapping[str, str]) -> Edits:
    if not isinstance(node, ast.BinOp) or isinstance(node.op, ast.Pow):
        return
    term = isinstance(node.op, ast.Add | ast.Sub)
    kind = "extra term" if term else "extra factor"
    sides = [(node.right, node.left), (node.left, node.right)]
    for extra, rest in sides[: 1 if isinstance(node.op, ast.Div) else 2]:
        shift = term and _is_maximum(extra, maxima)
        new = ast.UnaryOp(ast.USub(), rest) if extra is node.left and isinstance(node.op, ast.Sub) else rest
        words = f"the {'term' if term else 'factor'} {ast.unparse(extra)} is too much in {ast.unparse(node)}"
        yield ("max shift" if shift else kind), words, new


def _is_maximum(node: ast.expr, maxima: Mapping[str, str]) -> bool:
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
    return bool(names & {"max", "amax", *maxima.values()})


def _orders(node: ast.expr) -> Edits:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        new = ast.BinOp(node.right, ast.MatMult(), node.left)
        yield "order of factors", f"the factors of {ast.unparse(node)} stand in the wrong order", new


def _renamed(tree: ast.Expression, scope: Mapping[str, Shape]) -> Iterator[Edit]:
    """One name replaced by another wherever it stands."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in scope}
    for old in sorted(names):
        for new, shape in scope.items():
            if new == old or tuple(shape) != tuple(scope[old]):
                continue
            changed = deepcopy(tree)
            for node in ast.walk(changed):
                if isinstance(node, ast.Name) and node.id == old:
                    node.id = new
            text = ast.unparse(changed)
            around = tuple(part for part in reversed(parts(text)) if new in part)
            yield Edit(Finding("wrong operand", f"{old} stands where {new} belongs; right is {text}"), text, around)
