"""Networks written in Python, with NumPy's names and operators.

    x = sg.input("x", ("N", 64));  W = sg.parameter("W", (64, 10));  b = sg.parameter("b", (10,))
    graph = sg.graph(sg.mean(sg.tanh(x @ W + b)))

A Tensor is a description: its op, the op's attributes, its operands. `graph` writes what an output needs as
the `networkx.MultiDiGraph` of `symgrad.graph` and infers every shape, so that all faults show at once. The
op functions are made from the registry: an op that is registered has one.
"""

from __future__ import annotations

import inspect
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, ClassVar, NoReturn

import networkx as nx
import numpy as np
from sympy import Expr

from symgrad.check import fits
from symgrad.drawing import Graph
from symgrad.equations import Equation, System
from symgrad.errors import DtypeError, GraphError, nearest, raise_all
from symgrad.expand import expand
from symgrad.graph import FORMAT
from symgrad.index.definition import At, Definition
from symgrad.index.parser import operand_names
from symgrad.names import name_fault
from symgrad.ops import OPS, Op
from symgrad.ops.registry import REQUIRED


def _binary(op: str) -> Callable[[Tensor, Any], Tensor]:
    return lambda left, right: apply(OPS[op], (left, right))


def _reflected(op: str) -> Callable[[Tensor, Any], Tensor]:
    return lambda right, left: apply(OPS[op], (left, right))


def _unary(op: str) -> Callable[[Tensor], Tensor]:
    return lambda x: apply(OPS[op], (x,))


def _method(op: str) -> Callable[..., Tensor]:
    """The op as a method: the tensor is its first operand."""
    return lambda x, *args, **kwargs: apply(OPS[op], (x, *args), kwargs)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Tensor:
    """A tensor of a network: the op that makes it, the op's attributes, and the operands.

    Tensors compare by identity; `sg.equal` compares their elements.
    """

    op: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    operands: tuple[Tensor, ...] = ()
    name: str | None = None

    __array_ufunc__: ClassVar[None] = None  # array + tensor is the tensor's business, not NumPy's

    def __post_init__(self) -> None:
        fault = None if self.name is None else name_fault(self.name)
        if fault:
            raise GraphError(
                f"{self.op}: {fault}: {self.name!r}"[:200],
                hint="letters, digits and _, starting with a letter",
            )

    __add__, __radd__ = _binary("add"), _reflected("add")
    __sub__, __rsub__ = _binary("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _binary("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _binary("divide"), _reflected("divide")
    __pow__, __rpow__ = _binary("power"), _reflected("power")
    __matmul__, __rmatmul__ = _binary("matmul"), _reflected("matmul")
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __neg__, __abs__ = _unary("negative"), _unary("abs")
    sum, mean, prod, var = _method("sum"), _method("mean"), _method("prod"), _method("var")
    max, min, transpose = _method("max"), _method("min"), _method("transpose")

    def __pos__(self) -> Tensor:
        return self

    def __getitem__(self, key: Any) -> Tensor:
        return _indexed(self, key)

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return apply(OPS["transpose"], (self,))

    def reshape(self, *shape: Any) -> Tensor:
        """The tensor in another shape: x.reshape(2, 3) or x.reshape((2, 3))."""
        sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
        return apply(OPS["reshape"], (self, sizes))

    def __bool__(self) -> bool:
        _refuse(
            "a tensor has no value while the network is drawn, so it is neither true nor false",
            "sg.where(c, a, b)",
        )

    def __iter__(self) -> Iterator[Tensor]:
        _refuse(
            "a tensor cannot be iterated over: its sizes may be known only when the program runs",
            "x[0], x[1], ...",
        )

    def __len__(self) -> int:
        _refuse("a tensor has no length: its sizes may be known only when the program runs", "len(i) in sg.define")

    def __float__(self) -> float:
        _refuse("a tensor has no value while the network is drawn", "the emitted program computes it")

    def __repr__(self) -> str:
        inside = [operand.name or f"{operand.op}(...)" for operand in self.operands[:8]]
        inside += ["..."] if len(self.operands) > 8 else []
        inside += [f"{key}={value!r}"[:80] for key, value in self.attributes.items() if key != "operands"]
        return f"<Tensor {self.name or 'unnamed'} = {self.op}({', '.join(inside)})>"


def _refuse(why: str, instead: str) -> NoReturn:
    raise TypeError(f"{why}; use {instead}")


# leaves


def input(name: str, shape: Any, dtype: str = "float") -> Tensor:
    """A tensor that is given at every step: `shape` of integers and names, dtype float, int64 or bool."""
    return Tensor("input", {"shape": _shape(shape), "dtype": dtype}, name=_given(name))


def parameter(name: str, shape: Any, init: Any = None) -> Tensor:
    """A tensor that is learned. `init`: a scheme, a number or (scheme, argument); by default, by its use."""
    how = {} if init is None else {"init": plain(init)}
    return Tensor("parameter", {"shape": _shape(shape), **how}, name=_given(name))


def constant(value: Any, name: str | None = None) -> Tensor:
    """A tensor of fixed numbers: a number, nested lists of numbers, or a NumPy array."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        hint = "sg.stack and sg.concatenate join tensors" if isinstance(value, list | tuple) else None
        raise DtypeError(f"a constant is a number or nested lists of numbers, not {_described(value)}", hint=hint)
    return Tensor("constant", {"value": array.tolist()}, name=name)


def _described(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]


def _given(name: Any) -> str:
    """A leaf's name, which must not be missing."""
    if name is None:
        raise GraphError("inputs and parameters have names", hint='sg.input("x", ("N", 64))')
    return name  # type: ignore[no-any-return]


def _shape(shape: Any) -> Any:
    return (plain(shape),) if isinstance(shape, int | str | np.integer) else plain(shape)


def plain(value: Any) -> Any:
    """Sequences and arrays as tuples, NumPy's numbers as Python's; anything else as it is."""
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


# ops


def define(formula: str, /, *, name: str | None = None, **operands: Any) -> Tensor:
    """A tensor defined by formula text; its operands are given by their names in the text.

    sg.define("Y[i, j] = tanh(X[i, j]) * s[j]", X=x, s=s)
    """
    read, mentioned = operand_names(formula), set(re.findall(r"[A-Za-z]\w*", formula))
    faults = [
        GraphError(f"define: the operand {n!r} of the formula is not given", hint=f"sg.define(..., {n}=tensor)")
        for n in read
        if n not in operands
    ]
    faults += [
        GraphError(f"define: the formula does not read {n!r}", hint=nearest(n, mentioned))
        for n in operands
        if n not in mentioned
    ]
    raise_all(faults)
    attributes = {"formula": formula, "operands": list(operands)}
    return Tensor("define", attributes, tuple(map(as_tensor, operands.values())), name)


def op_function(name: str) -> Callable[..., Tensor]:
    """The function that applies a registered op: operands first, then its attributes, and `name`.

    Raises AttributeError for an unknown op.
    """
    if name not in OPS:
        hint = nearest(name, OPS)
        raise AttributeError(f"symgrad has no op {name!r}" + (f"; {hint}" if hint else ""))
    op = OPS[name]

    def function(*args: Any, name: str | None = None, **attributes: Any) -> Tensor:
        return apply(op, args, attributes, name)

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"{op.doc}\n\n    Attributes: {_attribute_text(op)}.\n"
    function.__signature__ = _signature(op)  # type: ignore[attr-defined]
    return function


def _attribute_text(op: Op) -> str:
    return ", ".join(f"{name} ({a.kind})" for name, a in op.attributes.items()) or "none"


def _signature(op: Op) -> inspect.Signature:
    kinds = inspect.Parameter
    kind = kinds.KEYWORD_ONLY if op.operands is None else kinds.POSITIONAL_OR_KEYWORD
    names = [n + "_" * (n in {*op.attributes, "name"}) for n in op.operands or ()]
    parameters = [kinds(n, kinds.POSITIONAL_ONLY) for n in names]
    parameters += [kinds("operands", kinds.VAR_POSITIONAL)] if op.operands is None else []
    for name, attribute in sorted(op.attributes.items(), key=lambda item: item[1].default is not REQUIRED):
        default = kinds.empty if attribute.default is REQUIRED else attribute.default
        parameters.append(kinds(name, kind, default=default))
    parameters.append(kinds("name", kinds.KEYWORD_ONLY, default=None))
    return inspect.Signature(parameters, return_annotation=Tensor)


def apply(op: Op, args: Sequence[Any], attributes: Mapping[str, Any] | None = None, name: str | None = None) -> Tensor:
    """The tensor that `op` makes. Of the positional arguments, the operands come first, then attributes.

    Raises GraphError for too few or too many, and for an attribute that is unknown or of a wrong type.
    """
    operands, rest = _variadic(args) if op.operands is None else _split(args, len(op.operands))
    listed = ("any number of tensors, or one list of them",) if op.operands is None else op.operands
    if len(operands) < len(listed):
        summary = f"{op.name}: expected {len(listed)} operands, got {len(operands)}"
        raise GraphError(summary, hint=f"operands: {', '.join(listed)}")
    given = _attributes(op, rest, attributes or {})
    return Tensor(op.name, given, tuple(_operand(op, k, x) for k, x in enumerate(operands)), name)


def _split(args: Sequence[Any], count: int) -> tuple[Sequence[Any], Sequence[Any]]:
    return args[:count], args[count:]


def _variadic(args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """(operands, the other arguments): tensors and arrays are operands, and what a list with one holds."""
    operands: list[Any] = []
    rest: list[Any] = []
    for arg in args:
        if isinstance(arg, list | tuple) and any(isinstance(a, Tensor | np.ndarray) for a in arg):
            operands += arg
        else:
            (operands if isinstance(arg, Tensor | np.ndarray) else rest).append(arg)
    return operands, rest


def _operand(op: Op, position: int, value: Any) -> Tensor:
    try:
        return as_tensor(value)
    except DtypeError as error:
        summary = f"{op.name}: operand {op.operand_name(position)}: {error.summary}"
        raise DtypeError(summary, hint=error.hint) from None


def as_tensor(value: Any) -> Tensor:
    """A tensor itself, or a constant."""
    return value if isinstance(value, Tensor) else constant(value)


def _attributes(op: Op, positional: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    known = op.attributes
    listed = "it takes " + (", ".join(known) or "no attributes")
    if len(positional) > len(known):
        extra = f"{len(positional) - len(known)} too many, the last {_described(positional[-1])}"
        raise GraphError(f"{op.name}: too many positional arguments: {extra}", hint=listed)
    given = dict(zip(known, map(plain, positional), strict=False))
    faults = []
    for name, value in named.items():
        if name not in known:
            hint = "operands have no keywords" if name in (op.operands or ()) else nearest(name, [*known, "name"])
            faults.append(GraphError(f"{op.name}: unknown attribute {name!r}", hint=hint or listed))
        elif name in given:
            faults.append(GraphError(f"{op.name}: the attribute {name!r} is given twice"))
        else:
            given[name] = plain(value)
    for name, attribute in known.items():
        if name not in given and attribute.default is REQUIRED:
            faults.append(GraphError(f"{op.name}: the attribute {name!r} is missing", hint=f"it is {attribute.kind}"))
        elif name in given and not fits(given[name], attribute):
            details = [f"expected {attribute.kind}, got {given[name]!r}"[:200]]
            faults.append(GraphError(f"{op.name}: the attribute {name!r} has the wrong type", details=details))
    raise_all(faults)
    return given


# indexing

_FULL = slice(None)


def _indexed(x: Tensor, key: Any) -> Tensor:
    entries = [_entry(e) for e in (key if isinstance(key, tuple) else (key,))]
    head, tail = _without_ellipsis(x, entries)
    pointers = [e for e in head if isinstance(e, Tensor)]
    if pointers and (len(pointers) > 1 or any(e is None or isinstance(e, int) for e in head + tail)):
        raise GraphError(
            "a tensor as an index stands alone or beside slices only",
            hint='sg.define("Y[n] = X[n, T[n]]", X=x, T=t)',
        )
    y = _sliced(x, [_FULL if isinstance(e, Tensor) else e for e in head if e is not None])
    for pointer in pointers:
        y = apply(OPS["take"], (y, pointer), {"axis": head.index(pointer)})
    added = _new_axes(head, tail)
    return apply(OPS["expand_dims"], (y,), {"axis": added}) if added else y


def _entry(entry: Any) -> Tensor | int | slice | EllipsisType | None:
    """One index: arrays as constant tensors, integers as Python's."""
    if entry is None or entry is Ellipsis or isinstance(entry, Tensor):
        return entry
    try:
        if isinstance(entry, slice):
            bounds = [None if b is None else operator.index(b) for b in (entry.start, entry.stop, entry.step)]
            return slice(*bounds)
        if isinstance(entry, list | np.ndarray) and np.ndim(entry):
            return _positions(entry)
        if not isinstance(entry, bool | np.bool_):
            return operator.index(entry)
    except TypeError:
        pass
    raise GraphError(
        f"{_described(entry)} is no index",
        hint="integers, slices, None, ... and integer tensors are; sg.where selects by a condition",
    )


def _positions(entry: Any) -> Tensor:
    found = np.asarray(entry)
    if found.dtype.kind not in "iu" or (found < 0).any():
        raise GraphError("an array as an index holds integers of 0 or more", hint=f"got {_described(entry)}")
    return constant(found)


def _without_ellipsis(x: Tensor, entries: list[Any]) -> tuple[list[Any], list[Any]]:
    """The entries that count axes from the front, and those that count from the back."""
    places = [k for k, e in enumerate(entries) if e is Ellipsis]
    if not places:
        return entries, []
    if len(places) > 1:
        raise GraphError("an index has one ... at most")
    head, tail = entries[: places[0]], entries[places[0] + 1 :]
    if all(e is None or (isinstance(e, slice) and e == _FULL) for e in tail):
        return head, tail
    named = sum(e is not None for e in head + tail)
    return [*head, *[_FULL] * (len(shape_of(x)) - named), *tail], []


def _sliced(x: Tensor, entries: list[Any]) -> Tensor:
    while entries and isinstance(entries[-1], slice) and entries[-1] == _FULL:
        entries.pop()
    if not entries:
        return x
    index = [e if isinstance(e, int) else (e.start, e.stop, e.step) for e in entries]
    return apply(OPS["slice"], (x, index))


def _new_axes(head: list[Any], tail: list[Any]) -> tuple[int, ...]:
    """Where the None of an index stand among the axes of the result."""
    kept = [e for e in head if not isinstance(e, int)]
    front = [k for k, e in enumerate(kept) if e is None]
    back = [k - len(tail) for k, e in enumerate(tail) if e is None]
    return (*front, *back)


# the graph


def graph(loss: Tensor | None = None, outputs: Tensor | Sequence[Tensor] | None = None) -> nx.MultiDiGraph[Any]:
    """The network that computes `loss` and `outputs`, as a `networkx.MultiDiGraph`.

    Tensors without a name get one, the same in every run: z1, z2, ... for pre-activations, which are the
    contractions, or the largest sums of contractions and parameters; c1, ... for constants; exp1, ... by
    op for the others.

    Raises:
        GraphError and its kinds: every fault of the network, in one error.
    """
    ends = [outputs] if isinstance(outputs, Tensor) else list(outputs or ())
    roots = [*([] if loss is None else [loss]), *ends]
    for root in roots:
        if not isinstance(root, Tensor):
            raise GraphError(f"the loss and the outputs are tensors, not {_described(root)}")
    if not roots:
        raise GraphError("a graph needs a loss or outputs", hint="sg.graph(loss) or sg.graph(outputs=[y])")
    tensors = _operands_first(roots)
    _check_names(tensors)
    drawn = _Names(tensors)
    system = expand(_network(tensors, drawn.names, loss, ends))
    layers = _preactivations(system)
    drawn = _Names(tensors, [t for t in tensors if drawn.names[t] in layers])
    return _network(tensors, drawn.names, loss, ends)


def shape_of(tensor: Tensor) -> tuple[Expr, ...]:
    """The shape of a tensor, inferred from all that it is computed from."""
    tensors = _operands_first([tensor])
    names = _Names(tensors).names
    return expand(_network(tensors, names, None, [tensor])).shape(names[tensor])


def _operands_first(roots: Sequence[Tensor]) -> list[Tensor]:
    """All tensors that the roots need, operands before their users, from left to right."""
    order: dict[Tensor, None] = {}
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        tensor, ready = stack.pop()
        if tensor in order:
            continue
        if ready:
            order[tensor] = None
            continue
        stack.append((tensor, True))
        stack.extend((operand, False) for operand in reversed(tensor.operands))
    return list(order)


def _check_names(tensors: Sequence[Tensor]) -> None:
    named: dict[str, Tensor] = {}
    faults = []
    for tensor in tensors:
        if tensor.name is not None and named.setdefault(tensor.name, tensor) is not tensor:
            details = [repr(named[tensor.name]), repr(tensor)]
            faults.append(GraphError(f"two tensors are named {tensor.name!r}", details=details, hint="rename one"))
    raise_all(faults)


class _Names:
    """A name for every tensor: its own, or the next free one of its kind."""

    def __init__(self, tensors: Sequence[Tensor], layers: Collection[Tensor] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self.taken = {t.name for t in tensors if t.name is not None}
        in_layer = set(layers)
        self.names = {t: self._name(t, t in in_layer) for t in tensors}

    def _name(self, tensor: Tensor, layer: bool) -> str:
        kind = "z" if layer else "c" if tensor.op == "constant" else tensor.op
        if layer:
            self.counts[kind] += 1  # z numbers layers, whether or not this one has a name of its own
        if tensor.name is not None:
            return tensor.name
        if not layer:
            self.counts[kind] += 1
        while f"{kind}{self.counts[kind]}" in self.taken:
            self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"


def _network(
    tensors: Sequence[Tensor], names: Mapping[Tensor, str], loss: Tensor | None, outputs: Sequence[Tensor]
) -> nx.MultiDiGraph[Any]:
    made: nx.MultiDiGraph[Any] = Graph(symgrad=FORMAT)
    if loss is not None:
        made.graph["loss"] = names[loss]
    if outputs:
        made.graph["outputs"] = [names[t] for t in outputs]
    for tensor in tensors:
        made.add_node(names[tensor], op=tensor.op, **tensor.attributes)
        for position, operand in enumerate(tensor.operands):
            made.add_edge(names[operand], names[tensor], arg=position)
    return made


def _preactivations(system: System) -> set[str]:
    """The contractions, and sums of contractions and parameters, that are no term of a larger such sum."""
    parameters = {name for name, leaf in system.leaves.items() if leaf.kind == "parameter"}
    sums: set[str] = set()
    terms_of_sums: set[str] = set()
    for e in system:
        terms = _terms(e)
        if _is_contraction(e.definition):
            sums.add(e.name)
        elif terms & sums and terms <= sums | parameters:
            sums.add(e.name)
            terms_of_sums |= terms
    return sums - terms_of_sums


def _is_contraction(definition: Definition) -> bool:
    """A sum of products of different elements."""
    product = definition.body.is_Mul and len(definition.accesses) > 1
    return product and definition.reduction == "sum" and bool(definition.reduced)


def _terms(e: Equation) -> set[str]:
    """What is added up, where e is a plain sum of tensors (and numbers)."""
    addends = [a for a in e.definition.body.args if not a.is_number] if e.definition.body.is_Add else []
    plain_sum = e.definition.elementwise and all(isinstance(a, At) for a in addends)
    return {e.source(a) for a in addends} if plain_sum else set()
