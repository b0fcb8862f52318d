"""A system of equations as one NumPy function, for who wants gradients and no training program.

    program = emit_function(system, "gradient", {"gradient": "d_w"}, title="∇w = ...")
    print(program.source)
    program(X=X, w=w, y=y)

The lowered statements are printed in the readable style and put together as a person would write them (see
`function_body`). The same function with shape checks and a comparison with central differences is a file of its own
(see `function_file`).
"""

from __future__ import annotations

from collections.abc import Mapping

from symgrad.emit import function_runtime
from symgrad.emit.function_body import RESERVED, arguments, dimensions, function_body
from symgrad.emit.function_file import Check, Function, plain_source, standalone_file
from symgrad.emit.function_program import FunctionProgram
from symgrad.equations import System, shape_attribute
from symgrad.errors import EmitError, nearest
from symgrad.names import name_fault

__all__ = ["Check", "FunctionProgram", "emit_function"]

_PROPERTIES = ("symmetric", "positive definite")


def emit_function(
    system: System,
    name: str,
    results: Mapping[str, str],
    title: str = "",
    comments: Mapping[str, str] | None = None,
    check: Check | None = None,
) -> FunctionProgram:
    """The function of the system's inputs and parameters, in their order, that returns the results.

    Args:
        system: in the form that is to be lowered, simplified already.
        results: label -> tensor. One result is returned as it is, several as a tuple in this order. What has no
            axes is returned as a Python number.
        title: text of the docstring, formulas for instance.
        comments: equation -> a line to stand above its statement.
        check: what the standalone file compares with central differences.

    Raises EmitError for names that cannot stand in a function, and for a size that no argument tells.
    """
    _check_names(system, name, results, check)
    _check_sizes(system)
    names = arguments(system)
    functions = [Function(name, title, names, function_body(system, results, comments or {}))]
    if check:
        _check_derivatives(system, results, check)
        body = function_body(system, {check.name: check.value}, comments or {})
        functions.append(Function(check.name, "The value that is differentiated.", names, body))
    shapes = {n: (system.dtype(n), shape_attribute(system.shape(n))) for n in names}
    standalone = standalone_file(system, functions, results, check)
    return FunctionProgram(name, plain_source(functions[0]), standalone, shapes, tuple(results))


def _check_names(system: System, name: str, results: Mapping[str, str], check: Check | None) -> None:
    kept = {*vars(function_runtime), *RESERVED} - {"gradient", "value"}
    for function in (name, *([check.name] if check else [])):
        fault = name_fault(function) or ("the file needs the name for itself" if function in kept else None)
        if fault:
            raise EmitError(f"{function!r} cannot name a function: {fault}"[:200], hint="gradient, for instance")
    if check and check.name == name:
        raise EmitError(f"both functions are called {name!r}", hint="give the check another name")
    for argument in arguments(system):
        if argument in {*RESERVED, *dimensions(system), "_checked"}:
            what = "a dimension too" if argument in dimensions(system) else "a name that the function needs"
            raise EmitError(f"an argument cannot be called {argument!r}: it is {what}", hint="give it another name")
    for tensor in (*results.values(), *([check.value] if check else [])):
        if tensor not in system:
            raise EmitError(f"the system has no tensor {tensor!r}", hint=nearest(tensor, system.equations))
    if not results:
        raise EmitError("a function needs a result")


def _check_sizes(system: System) -> None:
    told = {str(n) for name in arguments(system) for n in system.shape(name) if n.is_Symbol}
    for dimension in dimensions(system):
        if dimension not in told:
            hint = f"some argument needs an axis whose size is {dimension} alone"
            raise EmitError(f"nothing tells the size {dimension} when the function is called", hint=hint)


def _check_derivatives(system: System, results: Mapping[str, str], check: Check) -> None:
    for label, argument in check.derivatives.items():
        if label not in results:
            raise EmitError(f"there is no result {label!r} to check", hint=nearest(label, results))
        if argument not in arguments(system) or system.dtype(argument) != "float":
            raise EmitError(f"{argument!r} is no argument that one differentiates by")
        expected = (*system.shape(check.value), *system.shape(argument))
        if system.shape(results[label]) != expected:
            details = [f"expected {shape_attribute(expected)}, got {shape_attribute(system.shape(results[label]))}"]
            raise EmitError(f"the result {label!r} is no derivative by {argument!r}", details=details)
    for argument, found in check.properties.items():
        if argument not in arguments(system) or not set(found) <= {*_PROPERTIES}:
            hint = "symmetric or positive definite"
            raise EmitError(f"{argument!r} cannot be {', '.join(sorted(found))}", hint=hint)
