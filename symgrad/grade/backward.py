"""A backward function that somebody wrote with NumPy: called at a point, its gradients by tensor."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from symgrad.errors import GradeError, nearest
from symgrad.evaluate.numbers import Array

Backward = Callable[..., Any]


def name_of(function: Backward) -> str:
    """What messages call a function."""
    return str(getattr(function, "__name__", type(function).__name__))


def call_backward(function: Backward, tensors: Mapping[str, Array], leaves: Mapping[str, Array]) -> Any:
    """What the function returns for these arrays.

    It gets by name those of `tensors` that its parameters name, and all `leaves` where it has `**kwargs`.

    Raises GradeError where it has a parameter that no tensor is called, or raises an error itself.
    """
    name = name_of(function)
    given, named = _arguments(function, name, tensors, leaves)
    try:
        return function(*given, **named)
    except Exception as error:
        raise GradeError(f"{name} raised {type(error).__name__}: {error}", hint=_shapes_hint(named)) from error


def _arguments(
    function: Backward, name: str, tensors: Mapping[str, Array], leaves: Mapping[str, Array]
) -> tuple[list[Array], dict[str, Array]]:
    given: list[Array] = []
    named: dict[str, Array] = {}
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return given, {n: v.copy() for n, v in leaves.items()}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            named = {n: v.copy() for n, v in leaves.items()} | named
        elif parameter.name in tensors and parameter.kind is parameter.POSITIONAL_ONLY:
            given.append(tensors[parameter.name].copy())
        elif parameter.name in tensors and parameter.kind is not parameter.VAR_POSITIONAL:
            named[parameter.name] = tensors[parameter.name].copy()
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            hint = nearest(parameter.name, tensors) or "it may ask for " + ", ".join(list(tensors)[:12])
            raise GradeError(f"{name} asks for {parameter.name!r}, which is no tensor of the network", hint=hint)
    return given, named


def _shapes_hint(named: Mapping[str, Array]) -> str:
    return "it was given " + ", ".join(f"{name} {value.shape}" for name, value in list(named.items())[:12])


def gradients_of(returned: Any, wrt: Sequence[str] | None, name: str) -> dict[str, Array]:
    """What a backward function returned, by the names that it uses.

    Args:
        wrt: what was asked for, if anything; the names of a single array.

    Raises GradeError where it is neither arrays of numbers by name nor the one array that was asked for.
    """
    if isinstance(returned, Mapping):
        if not returned:
            raise GradeError(f"{name} returned no gradients", hint='return {"W1": ..., "W2": ...}')
        return {str(key): _array(value, f"{name}()[{key!r}]") for key, value in returned.items()}
    if wrt is None or len(wrt) != 1:
        hint = 'return {"W1": ..., "W2": ...}, or name one tensor with wrt="W1"'
        raise GradeError(f"{name} returned {type(returned).__name__}, not a dict of gradients", hint=hint)
    return {wrt[0]: _array(returned, f"{name}()")}


def _array(value: Any, what: str) -> Array:
    try:
        if np.iscomplexobj(value):
            raise TypeError
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise GradeError(f"{what} is {type(value).__name__}, not an array of real numbers") from None
