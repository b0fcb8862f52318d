"""Passes that make statements read as a person writes them.

    make_shallow         a statement that is nested too deeply for recursion gets names for its parts
    write_into_users     a short value that is read once is written in the place of its name
    split_long           a statement that is too long gets a name for its longest part, until it fits
"""

from __future__ import annotations

import ast
from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace

from symgrad.emit.function_steps import (
    LONGEST_LINE,
    Step,
    bound_name,
    bound_value,
    filled,
    loads,
    read_steps,
    replaced,
    source,
    stores,
)

LONGEST_PART = 60  # of a value that is written into its user
DEEPEST = 40  # of nested expressions; a long sum is nested as often as it has terms


def make_shallow(steps: Sequence[Step], taken: set[str]) -> list[Step]:
    """The same function with more names, none of which is in `taken`; it takes the new ones in."""
    return [Step(node, step.equation) for step in steps for node in _shallow(step.node, taken)]


def _shallow(statement: ast.stmt, taken: set[str]) -> list[ast.stmt]:
    if isinstance(statement, ast.For):
        body = [part for node in statement.body for part in _shallow(node, taken)]
        return [ast.For(statement.target, statement.iter, body, [], lineno=0)]
    parts: list[ast.stmt] = []
    heights: dict[ast.AST, int] = {}

    def named(child: ast.expr) -> ast.expr:
        if not isinstance(child, ast.BinOp | ast.Call) or heights[child] < DEEPEST:
            return child
        name = _part_name(taken)
        parts.append(ast.Assign([ast.Name(name, ast.Store())], child, lineno=0))
        heights[made := ast.Name(name, ast.Load())] = 1
        return made

    for node in reversed([*ast.walk(statement)]):  # children come before their parents
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                value[:] = [named(child) for child in value]
            elif isinstance(value, ast.expr):
                setattr(node, field, named(value))
        heights[node] = 1 + max((heights[child] for child in ast.iter_child_nodes(node)), default=0)
    return [*parts, statement]


def _part_name(taken: set[str]) -> str:
    name = next(f"part{k}" for k in range(1, len(taken) + 2) if f"part{k}" not in taken)
    taken.add(name)
    return name


def write_into_users(steps: Sequence[Step]) -> list[Step]:
    """The same function with fewer names. No value is moved across a statement that writes into an array."""
    return _Inlining(steps).run()


class _Inlining:
    """What is written into is read again later, so that its value has several users and stays where it is."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps: dict[int, Step] = dict(enumerate(steps))
        self.barriers: list[int] = []
        self.mentions: dict[str, list[int]] = {}
        for k, step in self.steps.items():
            if filled(step.node):
                self.barriers.append(k)
            for name in loads(step.node).keys() | stores(step.node):
                self.mentions.setdefault(name, []).append(k)

    def run(self) -> list[Step]:
        for k in range(len(self.steps)):
            name = bound_name(self.steps[k].node)
            user = self._only_user(k, name) if name else None
            if name and user is not None and self._same_there(k, user):
                self._move(k, name, user)
        return list(self.steps.values())

    def _only_user(self, k: int, name: str) -> int | None:
        """The statement that reads the value bound by statement k, where one does, once, and is no loop."""
        users: list[int] = []
        places = self.mentions[name]
        for place in places[bisect_right(places, k) :]:
            node = self.steps[place].node
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
                return None  # the value is added to where it stands
            users += [place] * loads(node)[name]
            if name in stores(node):
                break
        return users[0] if len(users) == 1 and _takes_values(self.steps[users[0]].node) else None

    def _same_there(self, k: int, user: int) -> bool:
        """Whether what statement k computes would be the same at `user`."""
        barrier = bisect_right(self.barriers, k)
        if barrier < len(self.barriers) and self.barriers[barrier] < user:
            return False
        read = loads(self.steps[k].node)
        between = {place for name in read for place in self.mentions[name] if k < place < user}
        return not any(read.keys() & stores(self.steps[place].node) for place in between)

    def _move(self, k: int, name: str, user: int) -> None:
        step, old = self.steps[k], self.steps[user]
        value = bound_value(step.node)
        bare = isinstance(old.node, ast.Assign | ast.Return) and isinstance(old.node.value, ast.Name)

        def change(node: ast.expr) -> ast.expr | None:
            read = isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
            return value if read else None

        made = replaced(old.node, change)
        if not bare and (len(source(value)) > LONGEST_PART or len(source(made)) > LONGEST_LINE):
            return
        self.steps[user] = replace(old, node=made, equation=step.equation if bare else old.equation)
        del self.steps[k]
        for read in loads(value):
            self.mentions[read].remove(k)
            if user not in self.mentions[read]:
                insort(self.mentions[read], user)


def _takes_values(node: ast.stmt) -> bool:
    """Whether a value may be written into the statement: not where it runs often, nor among several results."""
    several = isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple)
    return not several and not isinstance(node, ast.For)


def split_long(steps: Sequence[Step], taken: set[str]) -> list[Step]:
    """The same function with more names, none of which is in `taken`; it takes the new ones in."""
    return [Step(node, step.equation) for step in steps for node in _split(step.node, taken)]


def _split(node: ast.stmt, taken: set[str]) -> list[ast.stmt]:
    if isinstance(node, ast.For):
        return _split_loop(node, taken)
    parts: list[ast.stmt] = []
    while len(source(node)) > LONGEST_LINE and (part := _longest_part(node)):
        name = _part_name(taken)
        parts += [step.node for step in read_steps(f"{name} = {part}")]
        node = _with_name(node, part, name)
    return [*parts, node]


def _split_loop(loop: ast.For, taken: set[str]) -> list[ast.stmt]:
    """The parts of a loop's statements that are the same each time stand before it."""
    inside = [part for node in loop.body for part in _split(node, taken)]
    changing = set().union(stores(loop.target), *(stores(node) | filled(node) for node in loop.body))
    before, body = [], []
    for node in inside:
        if (bound_name(node) or "") in changing or loads(node).keys() & changing:
            changing |= stores(node)
            body.append(node)
        else:
            before.append(node)
    return [*before, ast.For(loop.target, loop.iter, body, [], lineno=0)]


def _with_name(node: ast.stmt, part: str, name: str) -> ast.stmt:
    return replaced(node, lambda e: ast.Name(name, ast.Load()) if source(e) == part else None)


def _longest_part(node: ast.stmt) -> str | None:
    """The longest part of the right side that fits on a line, as text."""
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.Return) or node.value is None:
        return None
    parts = [source(n) for n in ast.walk(node.value) if isinstance(n, ast.BinOp | ast.Call | ast.UnaryOp)]
    fitting = [text for text in parts[1:] if LONGEST_LINE / 5 < len(text) <= LONGEST_LINE * 4 / 5]
    return max(fitting, key=len, default=None)
