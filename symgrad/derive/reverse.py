"""Reverse accumulation: the equations of a network in, the same with the adjoints added out.

For every equation, last first, each element that its body reads contributes

    X̄[e(l)] += Ȳ[w(l)] * d(body)/d(X[e(l)])        for all loops l

which is a definition like any other. The contributions to a tensor are added up. A reduction by max or min
passes its cotangent to the winning entries, ties sharing evenly; one by prod, to each entry times the
product of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import sympy as sp
from sympy import Expr, Integer

from symgrad.derive.implicit import ImplicitAdjoints
from symgrad.derive.scalar import scalar_derivative
from symgrad.derive.solve import solve
from symgrad.equations import Equation, Leaf, System, equation
from symgrad.errors import DeriveError, nearest
from symgrad.index.definition import At, Definition, Loop, define, index_symbol, outermost
from symgrad.names import free_name, name_fault


def derive_system(
    system: System,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    seed: str | None = None,
    zeros: bool = False,
) -> System:
    """Add the adjoint equations of `of` (default: the loss) by the tensors `wrt` (default: all parameters).

    Where `of` is no scalar, `seed` names a new input of its shape, the cotangent that multiplies it. With
    `zeros`, the gradient by a tensor that `of` does not depend on is 0, and no error.

    Raises:
        DeriveError: there is no scalar to differentiate, a name is unknown or not differentiable, or `of`
            does not depend on one of `wrt`.
    """
    return derive_recorded(system, of, wrt, seed, zeros)[0]


@dataclass(frozen=True)
class Contribution:
    """Where a part of an adjoint comes from.

    Attributes:
        equation, access: the equation that reads the tensor, and the element of it that its body reads.
        scattered: the contribution before its index equations are solved; its body is a product with the cotangent.
        operands: the tensors that it reads, the cotangent last.
    """

    equation: str
    access: At
    scattered: Definition
    operands: tuple[str, ...]

    @property
    def cotangent(self) -> At:
        """The element of the cotangent that the body is multiplied with."""
        (found,) = (at for at in outermost(self.scattered.body) if at.operand == len(self.operands) - 1)
        return found


def derive_recorded(
    system: System,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    seed: str | None = None,
    zeros: bool = False,
) -> tuple[System, dict[str, Contribution]]:
    """What `derive_system` makes, and adjoint equation -> where it comes from, for all but sums of several.

    Raises as `derive_system`.
    """
    target = of or system.loss
    if target is None:
        raise DeriveError("the graph names no loss", hint='pass of="NAME", or set graph.graph["loss"]')
    if not isinstance(target, str) or target not in system.equations:
        raise DeriveError(f"{target!r} is not a computed tensor", hint=nearest(str(target), system.equations))
    names = _wanted(system, wrt)
    pass_ = _Reverse(system.copy(), target)
    pass_.system.gradients = {}
    pass_.start(seed)
    pass_.run(names, zeros)
    return replace(pass_.system, loss=target if seed is None else None), pass_.record


def _wanted(system: System, wrt: Sequence[str] | None) -> list[str]:
    if wrt is None:
        names = [n for n, leaf in system.leaves.items() if leaf.kind == "parameter"]
        if not names:
            raise DeriveError("the graph has no parameters", hint='name what to differentiate by: wrt=["x"]')
        return names
    if not isinstance(wrt, Iterable):
        raise DeriveError(f"wrt is {type(wrt).__name__}, not names", hint='wrt=["x"]')
    for name in [wrt] if isinstance(wrt, str) else wrt:
        if not isinstance(name, str) or name not in system:
            known = nearest(str(name), [*system.leaves, *system.equations])
            raise DeriveError(f"cannot differentiate by {name!r}: there is no such tensor", hint=known)
        if system.dtype(name) != "float":
            raise DeriveError(f"cannot differentiate by {name!r}: it holds {system.dtype(name)}")
    return [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))


@dataclass
class _Reverse:
    system: System
    target: str
    adjoints: dict[str, str] = field(default_factory=dict)
    partials: dict[str, list[str]] = field(default_factory=dict)
    record: dict[str, Contribution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.implicit = ImplicitAdjoints(self.system, derive_system)

    def start(self, seed: str | None) -> None:
        shape = self.system.shape(self.target)
        if seed is None and shape != ():
            raise DeriveError(
                f"{self.target!r} has shape {tuple(shape)} and is no scalar",
                hint='reduce it with sum or mean, or pass seed="NAME" for a vector-Jacobian product',
            )
        if seed is None:
            one = define([], (), (), Integer(1))
            self.partials[self.target] = [self._add("d_" + self.target, one, (), self.target)]
            return
        if seed in self.system:
            raise DeriveError(f"the seed needs a new name, {seed!r} is taken")
        if name_fault(seed):
            raise DeriveError(f"the seed {seed!r} cannot be a name: {name_fault(seed)}")
        self.system.leaves[seed] = Leaf(seed, "input", shape)
        self.partials[self.target] = [seed]

    def run(self, wrt: Sequence[str], zeros: bool) -> None:
        active = self._active(wrt)
        for name in wrt:
            if name not in active and not zeros:
                raise DeriveError(
                    f"{self.target!r} does not depend on {name!r}",
                    node=name,
                    hint="connect it, or leave it out of wrt; a parameter that nothing uses can be removed",
                )
        for e in reversed(list(self.system.equations.values())):
            if e.name in active and e.name in self.partials:
                cotangent = self._adjoint(e.name)
                if e.solution is not None:
                    self._solve_adjoint(e, cotangent, active)
                for operand, made in self._contributions(e, cotangent, active):
                    self._contribute(e, operand, made)
        for name in wrt:
            self.system.gradients[name] = self._adjoint(name)

    def _solve_adjoint(self, e: Equation, cotangent: str, active: set[str]) -> None:
        """The contributions of a tensor that equations define."""
        for operand, name in self.implicit.contributions(e, cotangent, active):
            self.partials.setdefault(operand, []).append(name)

    def _active(self, wrt: Sequence[str]) -> set[str]:
        """The tensors on a way from `wrt` to the target."""
        reached = set(wrt)
        for e in self.system:
            if e.dtype == "float" and reached.intersection(e.operands):
                reached.add(e.name)
        return reached & self.system.needed_for([self.target])

    def _contributions(self, e: Equation, cotangent: str, active: set[str]) -> Iterator[tuple[str, Contribution]]:
        """(operand, contribution) for every contribution that e makes."""
        for access in e.definition.accesses:
            operand = e.source(access)
            if operand not in active or self.system.dtype(operand) != "float":
                continue
            weight, operands = self._weight(e, access)
            if weight != 0:
                sizes = access.sizes(self.system.shape(operand))
                scattered = _contribution(e.definition, access, weight, len(operands), sizes)
                yield operand, Contribution(e.name, access, scattered, (*operands, cotangent))

    def _weight(self, e: Equation, access: At) -> tuple[Expr, list[str]]:
        """What the cotangent is multiplied with: the derivative, or what the reduction makes of it."""
        if e.definition.reduction == "sum" or not e.definition.reduced:
            return scalar_derivative(e.definition.body, access), list(e.operands)
        if e.definition.reduction == "prod":
            return self._product_of_others(e, access)
        return self._share_of_winner(e, access)

    def _share_of_winner(self, e: Equation, access: At) -> tuple[Expr, list[str]]:
        """[X[l] == Y[w]] over the number of entries for which that holds."""
        d, n = e.definition, len(e.operands)
        won = sp.Piecewise((1, sp.Eq(access, At(n, d.write))), (0, True))
        count = define(d.loops, d.shape, d.write, won)
        ties = self._add(f"{e.name}_ties", count, [*e.operands, e.name], None)
        return won / At(n + 1, d.write), [*e.operands, e.name, ties]

    def _product_of_others(self, e: Equation, access: At) -> tuple[Expr, list[str]]:
        """prod over r' of (1 where r' = r, else X[r']): exact at zeros, and differentiable again."""
        d, n = e.definition, len(e.operands)
        twins = {i: index_symbol(f"{i}_") for i, _ in d.reduced}
        same = sp.And(*(sp.Eq(i, twin) for i, twin in twins.items()))
        body = sp.Piecewise((1, same), (access.xreplace(twins), True))
        kept = [i for i, _ in d.loops]
        sizes = [size for _, size in d.loops]
        loops: list[Loop] = [*d.loops, *((twins[i], size) for i, size in d.reduced)]
        factors = define(loops, [size for _, size in loops], [i for i, _ in loops], body)
        each = self._add(f"{e.name}_factors", factors, e.operands, None)
        product = define(loops, sizes, kept, At(0, [i for i, _ in loops]), "prod")
        others = self._add(f"{e.name}_others", product, [each], None)
        return At(n, kept), [*e.operands, others]

    def _contribute(self, e: Equation, operand: str, part: Contribution) -> None:
        made = solve(part.scattered, part.cotangent, e.shape)
        name = self._add(f"d_{operand}_via_{e.name}", made, part.operands, operand, e.origin)
        if part.access.view is not None:
            back = _reshaping(made.shape, tuple(self.system.shape(operand)))
            name = self._add(f"d_{operand}_reshaped", back, [name], operand, e.origin)
        self.record[name] = part
        self.partials.setdefault(operand, []).append(name)

    def _adjoint(self, name: str) -> str:
        """The tensor that holds the whole adjoint of `name`."""
        if name not in self.adjoints:
            partials = self.partials.get(name, [])
            if len(partials) == 1:
                self.adjoints[name] = self._renamed(partials[0], f"d_{name}")
            else:
                total = _sum(len(partials), tuple(self.system.shape(name)))
                self.adjoints[name] = self._add(f"d_{name}", total, partials, name)
        return self.adjoints[name]

    def _renamed(self, name: str, wanted: str) -> str:
        """The only contribution is the adjoint itself; nothing reads it yet."""
        if name in self.system.leaves or name == wanted:
            return name
        e = self.system.equations.pop(name)
        renamed = self.system.add(replace(e, name=free_name(wanted, self.system))).name
        if name in self.record:
            self.record[renamed] = self.record.pop(name)
        return renamed

    def _add(
        self,
        wanted: str,
        definition: Definition,
        operands: Sequence[str],
        adjoint_of: str | None,
        origin: str = "",
    ) -> str:
        name = free_name(wanted, self.system)
        self.system.add(equation(name, definition, operands, origin=origin or wanted, adjoint_of=adjoint_of))
        return name


@lru_cache(maxsize=4096)
def _contribution(definition: Definition, access: At, weight: Expr, number: int, sizes: tuple[Expr, ...]) -> Definition:
    """Adjoint of one access as it arises: added at the index that was read, the cotangent being operand `number`."""
    cotangent = At(number, definition.write)
    return define(definition.loops, sizes, access.index, cotangent * weight, "sum")


@lru_cache(maxsize=4096)
def _sum(count: int, shape: tuple[Expr, ...]) -> Definition:
    index = _indices(shape)
    loops = list(zip(index, shape, strict=True))
    return define(loops, shape, index, sp.Add(*(At(k, index) for k in range(count))))


@lru_cache(maxsize=4096)
def _reshaping(old: tuple[Expr, ...], new: tuple[Expr, ...]) -> Definition:
    """Y[o] = X.reshape(new)[o] for X of shape old."""
    index = _indices(new)
    return define(list(zip(index, new, strict=True)), new, index, At(0, index, None if old == new else new))


def _indices(shape: Iterable[Expr]) -> list[sp.Symbol]:
    return [index_symbol(f"i{k}") for k, _ in enumerate(shape)]
