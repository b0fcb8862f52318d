"""Adjoints of tensors that equations define, by the implicit function theorem.

Where F(Y, X) = 0 defines Y, and step(R) is the change of Y that makes up for a residual R to first order,

    dY = step(F(Y, X + dX))        with Y, and X in the step, held

That is a small program of index formulas and further solutions, and the routine that differentiates every other
program gives its adjoint. A kernel whose step is a call of itself, such as solve, is linear in its right side:
there the adjoint solves the transposed equation, and transposing is that same routine, applied to the equation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import product

import sympy as sp
from sympy import Expr

from symgrad.equations import Equation, Leaf, Shape, System, equation
from symgrad.errors import DeriveError
from symgrad.index.definition import At, Definition, define, dimension, index_symbol, map_accesses
from symgrad.index.parser import Operand, Part, parse
from symgrad.index.solution import RESIDUAL, Given, Kernel, Read, Solution, Unknown, made_solution
from symgrad.names import free_name

Derive = Callable[..., System]

COTANGENT = "cotangent"


class ImplicitAdjoints:
    """Adds the adjoints of a system's solutions to it; `derive` is the routine that adds adjoints to any system."""

    def __init__(self, system: System, derive: Derive) -> None:
        self.system, self.derive = system, derive
        self.known = {e.key: e.name for e in system if e.solution is not None}

    def contributions(self, e: Equation, cotangent: str, active: Collection[str]) -> list[tuple[str, str]]:
        """Add what `cotangent`, the adjoint of e, contributes to the operands that are `active`.

        Returns (operand, equation that holds its contribution).
        """
        made = e.solution
        assert made is not None
        wanted = tuple(k for k, read in enumerate(made.reads) if e.operands[read.operand] in active)
        shapes = tuple(_shape_read(self.system, e, read) for read in made.reads)
        program = _adjoint_program(made.kernel, made.unknown, shapes, wanted, self.derive)
        return _Graft(self, e, cotangent, program).contributions(wanted)

    def add(self, made: Equation) -> str:
        """The tensor of that definition: where it is a solution that the system has, that one."""
        if made.solution is None:
            return self.system.add(made).name
        name = self.known.setdefault(made.key, made.name)
        return name if name in self.system else self.system.add(made).name


def _shape_read(system: System, e: Equation, read: Read) -> Shape:
    shape = tuple(system.shape(e.operands[read.operand]))
    return shape[::-1] if read.transposed else shape


# the adjoint as a program of its own: leaves are the kernel's operands, its unknowns, and the cotangent


@lru_cache(maxsize=1024)
def _adjoint_program(
    kernel: Kernel, unknown: int, shapes: tuple[Shape, ...], wanted: tuple[int, ...], derive: Derive
) -> System:
    """The contributions of one unknown's cotangent to the operands number `wanted`, as its gradients."""
    newton = newton_system(kernel, shapes)
    if wanted == (_right_side(kernel, newton),):
        return _transposed_solution(kernel, shapes, wanted[0], derive)
    change = "d" + kernel.unknowns[unknown].name
    moving = [kernel.operands[k].name for k in wanted]
    derived = derive(newton.pruned([change]), of=change, wrt=moving, seed=COTANGENT, zeros=True)
    derived.outputs = ()
    return derived.pruned()


def newton_system(kernel: Kernel, shapes: Sequence[Shape]) -> System:
    """step(F(Y, X)), where F's operands go by their names, and those of the step and of `fixed` are held."""
    system = _leaves(kernel, shapes)
    held = {tensor.name: _held(tensor.name) for tensor in kernel.operands}
    for name in held:
        system.leaves[held[name]] = Leaf(held[name], "input", system.shape(name))
    if kernel.fixed:
        _append(system, kernel.fixed, held)
    _append(system, kernel.residual, {})
    _append(system, kernel.step, held)
    return system


def _held(name: str) -> str:
    return name + "_held"


def _leaves(kernel: Kernel, shapes: Sequence[Shape]) -> System:
    """A system of the kernel's operands and unknowns."""
    sizes: dict[str, Expr] = {}
    for tensor, shape in zip(kernel.operands, shapes, strict=True):
        sizes.update(zip(tensor.axes, shape, strict=True))
    tensors: list[Given | Unknown] = [*kernel.operands, *kernel.unknowns]
    return System({t.name: Leaf(t.name, "input", tuple(sizes[axis] for axis in t.axes)) for t in tensors})


def _append(system: System, text: str, bound: Mapping[str, str]) -> None:
    """Add a program over the system's tensors, some of which it knows by other names."""
    for part in _parts(system, text):
        operands = [bound.get(name, name) for name in part.operands]
        system.add(equation(part.target, part.definition, operands, origin=part.target))


def _parts(system: System, text: str) -> tuple[Part, ...]:
    known = (*system.leaves, *system.equations)
    return parse(text, tuple(Operand(name, tuple(system.shape(name))) for name in known))


# kernels that are linear in their right side


def _right_side(kernel: Kernel, newton: System) -> int | None:
    """The operand that R stands for in a step that is a call of the kernel itself; None for any other step."""
    step = newton.equations["d" + kernel.unknowns[0].name]
    if step.solution is None or step.solution.kernel != kernel:
        return None
    return [step.operands[read.operand] for read in step.solution.reads].index(RESIDUAL)


def _transposed_solution(kernel: Kernel, shapes: Sequence[Shape], right: int, derive: Derive) -> System:
    """The right side's adjoint: the same kernel, of operands transposed where the transposed equation has them so."""
    system = _leaves(kernel, shapes)
    system.leaves[COTANGENT] = Leaf(COTANGENT, "input", system.shape(kernel.unknowns[0].name))
    turned = _transposition(kernel, derive)
    names = [COTANGENT if k == right else t.name for k, t in enumerate(kernel.operands)]
    reads = tuple(Read(k, t.name in turned) for k, t in enumerate(kernel.operands))
    name = kernel.operands[right].name
    system.add(equation("d_" + name, made_solution(kernel, 0, system.shape(COTANGENT), reads), names))
    system.gradients[name] = "d_" + name
    return system


@lru_cache(maxsize=64)
def _transposition(kernel: Kernel, derive: Derive) -> frozenset[str]:
    """The operands that are to be read transposed, for the equation's linear part to be its own transpose.

    Raises DeriveError if there are none such.
    """
    system = _leaves(kernel, [tuple(map(dimension, t.axes)) for t in kernel.operands])
    (unknown,) = (u.name for u in kernel.unknowns)
    (part,) = (p for p in _parts(system, kernel.residual) if unknown in p.operands)
    linear = System({name: system.leaves[name] for name in part.operands})
    linear.add(equation(part.target, part.definition, part.operands))
    derived = derive(linear, of=part.target, wrt=[unknown], seed=COTANGENT)
    found = _addends(derived, derived.gradients[unknown])
    others = [name for name in part.operands if name != unknown]
    for flags in product((False, True), repeat=len(others)):
        turned = frozenset(name for name, flag in zip(others, flags, strict=True) if flag)
        if _terms(part, turned, unknown) == found:
            return turned
    raise DeriveError(f"the transpose of {kernel.residual!r} has not the form of this equation")


def _addends(derived: System, name: str) -> set[object]:
    """What an adjoint is the sum of; itself where there is one contribution only."""
    parts = [derived.equations[k] for k in derived.equations[name].operands if k in derived.equations]
    return {e.key for e in parts or [derived.equations[name]]}


def _terms(part: Part, turned: Collection[str], unknown: str) -> set[object]:
    """The terms of the linear part, each as a sum of its own, with the cotangent as the unknown."""
    d = part.definition
    names = [COTANGENT if name == unknown else name for name in part.operands]
    swapped = [k for k, name in enumerate(part.operands) if name in turned]
    body = _reading_transposed(d.body, swapped)
    return {equation("", define(d.loops, d.shape, d.write, t), names).key for t in sp.Add.make_args(body)}


def _reading_transposed(body: Expr, operands: Collection[int]) -> Expr:
    return map_accesses(body, lambda at: At(at.operand, at.index[::-1]) if at.operand in operands else at)


# the program's equations, put into the system


class _Graft:
    """One adjoint program on its way into the system.

    Attributes:
        bound: what each of the program's names is: the tensor, and whether it is read transposed.
        own: the program's equations that are contributions as they stand -> the operand.
    """

    def __init__(self, into: ImplicitAdjoints, e: Equation, cotangent: str, program: System) -> None:
        assert e.solution is not None
        self.into, self.e, self.program, self.solution = into, e, program, e.solution
        self.bound: dict[str, tuple[str, bool]] = {COTANGENT: (cotangent, False)}
        self.own: dict[str, str] = {}
        for tensor, read in zip(self.solution.kernel.operands, self.solution.reads, strict=True):
            source = e.operands[read.operand], read.transposed
            self.bound |= {tensor.name: source, _held(tensor.name): source}
            gradient = program.equations.get(program.gradients.get(tensor.name, ""))
            if gradient is not None and gradient.solution is None and not read.transposed:
                self.own.setdefault(gradient.name, source[0])

    def contributions(self, wanted: Sequence[int]) -> list[tuple[str, str]]:
        """Add the equations; (operand, its contribution) for the operands number `wanted`."""
        tensors = [self.solution.kernel.operands[k].name for k in wanted]
        self.remark = self.bound[tensors[0]][0]
        self._bind_unknowns()
        for made in self.program:
            self.bound[made.name] = self._added(made), False
        return [self._contribution(name) for name in tensors]

    def _added(self, made: Equation) -> str:
        sources = [self.bound[name] for name in made.operands]
        turned = [k for k, (_, transposed) in enumerate(sources) if transposed]
        definition = _with_transposed(made.definition, turned)
        operand = self.own.get(made.name)
        wanted = self._part(made.name.removeprefix("d_")) if operand is None else self._via(operand)
        return self._add(wanted, definition, [name for name, _ in sources], operand or self.remark)

    def _contribution(self, name: str) -> tuple[str, str]:
        """(operand, its contribution): a copy of a solution, for others may read that; or of what has to be turned."""
        operand, transposed = self.bound[name]
        gradient = self.program.gradients[name]
        found = self.bound[gradient][0]
        if self.own.get(gradient) == operand:
            return operand, found
        shape = tuple(self.into.system.shape(operand))
        index = [index_symbol(f"i{k}") for k, _ in enumerate(shape)]
        element = At(0, index[::-1] if transposed else index)
        copy = define(list(zip(index, shape, strict=True)), shape, index, element)
        return operand, self._add(self._via(operand), copy, [found], operand)

    def _via(self, operand: str) -> str:
        return f"d_{operand}_via_{self.e.name}"

    def _part(self, name: str) -> str:
        for unknown in self.solution.kernel.unknowns:
            name = name.removeprefix(f"d{unknown.name}_")  # of a solution inside the step
        return f"d_{self.e.name}_{name.lower()}"

    def _bind_unknowns(self) -> None:
        """The kernel's other unknowns, where they are read, are solutions beside this one."""
        read = {name for made in self.program for name in made.operands}
        for number, unknown in enumerate(self.solution.kernel.unknowns):
            if number == self.solution.unknown:
                self.bound[unknown.name] = self.e.name, False
            elif unknown.name in read:
                other = self.solution.of(number, tuple(self.program.shape(unknown.name)))
                name = self._add(self._part(unknown.name), other, self.e.operands, self.remark)
                self.bound[unknown.name] = name, False

    def _add(self, wanted: str, definition: Definition, operands: Sequence[str], adjoint_of: str) -> str:
        name = free_name(wanted, self.into.system)
        return self.into.add(equation(name, definition, operands, origin=self.e.origin, adjoint_of=adjoint_of))


def _with_transposed(definition: Definition, operands: Collection[int]) -> Definition:
    """The definition that reads some of its operands transposed."""
    if not operands:
        return definition
    if isinstance(definition, Solution):
        return definition.reading([Read(r.operand, r.transposed != (r.operand in operands)) for r in definition.reads])
    body = _reading_transposed(definition.body, operands)
    return define(definition.loops, definition.shape, definition.write, body, definition.reduction)
