"""Printed derivatives read back and computed: what the text says to a reader, as numbers.

    value(text, arrays, shape)

reads matrix notation, where every vector is a column, juxtaposition is the matrix product and a lone 1 beside other
factors is the vector of ones; matrices for vec, which stacks columns, with K vec(V) = vec(Vᵀ); and index notation, one
entry at a time. A vector of ones and a unit matrix do not say their size, so that all dimensions must have the same.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]

_SUPERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SUBSCRIPTS = dict(zip("ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", "aehijklmnoprstuvx", strict=True))
_TOKEN = re.compile(
    r"\s*(?P<number>\d+(?:\.\d+)?(?:/\d+)?)|\s*(?P<fold>[ΣΠ][ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ]+)"
    r"|\s*(?P<name>[^\W\d_ΣΠ][₀-₉]*(?:[A-Za-z0-9₀-₉]|_(?=[A-Za-z0-9]))*)|\s*(?P<sign>\^⊙|⁻¹|⁻ᵀ|[⁰¹²³⁴⁵⁶⁷⁸⁹]+|‖[₁₂]|‖_F|‖_∞|\S)"
)
_STARTS = "(|‖[−√"
_INVERSES = {"inv": np.linalg.inv, "det": np.linalg.det, "logdet": lambda a: np.linalg.slogdet(a)[1]}


class _One:
    """The text "1", a number or the vector of ones."""


ONE = _One()


@dataclass(frozen=True)
class _Unit:
    """A multiple of the unit matrix of any size."""

    scale: float = 1.0


def value(text: str, arrays: Arrays, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that a printed derivative stands for. `arrays` have all their axes of one length.

    Raises ValueError where the text cannot be read.
    """
    first, *given = _lines(text.replace("\nwhere\n", "\n"))
    known = {name: np.asarray(a, float) for name, a in arrays.items()}
    for line in reversed(given):
        left, _, right = line.partition(" = ")
        name, letters = _left(left)
        known[name] = _evaluated(right, known, letters, (_size(known),) * len(letters) or None)
    left, _, right = first.partition(" = ")
    if left.startswith("∂vec(f)"):
        return _unstacked(_Reader(right, known).read({}), shape)
    return _evaluated(right, known, _left(left)[1], shape)


def _unstacked(found: Any, shape: tuple[int, ...]) -> np.ndarray:
    """J[..., r...] of the matrix of vec(f) by vec(r)."""
    if isinstance(found, _Unit):
        found = sized(found, int(np.sqrt(np.prod(shape))))
    rank = next(k for k in range(len(shape)) if np.prod(shape[:k], dtype=int) == len(found))
    rows, columns = shape[:rank], shape[rank:]
    axes = [*reversed(range(rank)), *reversed(range(rank, len(shape)))]
    return found.reshape(rows[::-1] + columns[::-1]).transpose(axes)


def _left(text: str) -> tuple[str, list[str]]:
    """(name, index letters) of a left-hand side."""
    name, _, letters = text.partition("[")
    return name.strip(), letters.removesuffix("]").split(",") if letters else []


def _lines(text: str) -> list[str]:
    """The equations, each in one line."""
    joined: list[str] = []
    for line in text.splitlines():
        if joined and not (" = " in line and re.match(r" {0,2}\S", line)):
            joined[-1] += " " + line.strip()
        else:
            joined.append(line.strip())
    return joined


def _size(arrays: Arrays) -> int:
    return max((n for a in arrays.values() for n in a.shape), default=1)


def _evaluated(text: str, arrays: Arrays, letters: list[str], shape: tuple[int, ...] | None) -> np.ndarray:
    reader = _Reader(text, arrays)
    if not letters:
        found = reader.read({})
        if isinstance(found, _Unit):
            found = sized(found, shape[0] if shape else reader.size)
        found = np.asarray(1.0 if isinstance(found, _One) else found)
        if shape is None:
            return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
        if found.ndim == 0:
            return np.broadcast_to(found, shape)
        if found.size != np.prod(shape, dtype=int):
            raise ValueError(f"{text!r} has the shape {found.shape}, not {shape}")
        return found.reshape(shape)
    result = np.zeros(shape)
    for place in itertools.product(*map(range, shape)):
        result[place] = reader.read(dict(zip(letters, place, strict=True)))
    return result


class _Reader:
    """Reads one right-hand side by recursive descent."""

    def __init__(self, text: str, arrays: Arrays) -> None:
        self.text, self.arrays, self.size = text, arrays, _size(arrays)
        self.tokens: list[tuple[str, str, bool]] = []
        for match in _TOKEN.finditer(text):
            if match.lastgroup is not None:
                token = match.group(match.lastgroup)
                self.tokens.append((match.lastgroup, token, match.end() - len(token) > match.start()))
        self.at = 0
        self.places: dict[str, int] = {}

    def read(self, places: Mapping[str, int]) -> Any:
        """The value where the index letters have these places."""
        self.at, self.places = 0, dict(places)
        found = self.choice()
        if self.at < len(self.tokens):
            raise ValueError(f"{self.text!r}: stopped at {self.tokens[self.at :]}")
        return found

    # tokens

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def glued(self) -> bool:
        """Whether the next token follows without a space."""
        return self.at < len(self.tokens) and not self.tokens[self.at][2]

    def take(self, *expected: str) -> str:
        token = self.peek()
        if not token or (expected and token not in expected):
            raise ValueError(f"{self.text!r}: expected {expected}, got {token!r} at {self.at}")
        self.at += 1
        return token

    # grammar, the loosest first

    def choice(self) -> Any:
        found = self.relation()
        if self.peek() != "if":
            return found
        self.take("if")
        condition = self.relation()
        self.take("else")
        other = self.choice()
        return np.where(np.asarray(condition, bool), number(found), number(other))

    def relation(self) -> Any:
        left = self.sum()
        table = {"=": np.equal, "≠": np.not_equal, "<": np.less, "≤": np.less_equal}
        table |= {">": np.greater, "≥": np.greater_equal}
        if self.peek() not in table:
            return left
        return np.asarray(table[self.take()](number(left), number(self.sum())), float)

    def sum(self) -> Any:
        negative = self.peek() == "−"
        if negative:
            self.take()
        found = self.entrywise()
        found = multiplied(-1.0, found) if negative else found
        while self.peek() in ("+", "−"):
            sign = -1.0 if self.take() == "−" else 1.0
            found = added(found, multiplied(sign, self.entrywise()))
        return found

    def entrywise(self) -> Any:
        found = self.product()
        while self.peek() in ("⊙", "⊘", "/", "⊗"):
            sign, right = self.take(), self.product()
            if sign == "⊗":
                found = np.kron(self.matrix(found), self.matrix(right))
            elif sign == "⊙":
                found = number(found) * number(right)
            elif isinstance(found, _Unit):
                found = _Unit(found.scale / float(number(right)))
            else:
                found = number(found) / number(right)
        return found

    def product(self) -> Any:
        factors = [self.power()]
        while self.peek() == "·" or self.starts():
            if self.peek() == "·":
                self.take()
            factors.append(self.power())
        if len(factors) == 1:
            return factors[0]
        made: Any = 1.0
        for factor in factors:
            made = multiplied(made, np.ones((self.size, 1)) if isinstance(factor, _One) else factor)
        return made

    def matrix(self, found: Any) -> Any:
        """A factor of a Kronecker product; the vector of ones and the unit matrix have the common size."""
        if isinstance(found, _One):
            return np.ones((self.size, 1))
        return sized(found, self.size) if isinstance(found, _Unit) else found

    def starts(self) -> bool:
        if self.at >= len(self.tokens) or self.peek() in ("if", "else"):
            return False
        kind, token, spaced = self.tokens[self.at]
        return kind in ("number", "name", "fold") or (token in "([√" and spaced) or (token in "|‖" and spaced)

    def power(self) -> Any:
        found = self.atom()
        while self.glued():
            token = self.peek()
            if token == "[":
                found = self.indexed(found)
            elif token in ("ᵀ", "⁻¹", "⁻ᵀ"):
                found = turned(np.ones((self.size, 1)) if isinstance(found, _One) else found, self.take())
            elif token == "/" and not self.tokens[self.at + 1][2]:
                self.take()
                found = number(found) / number(self.power())
            elif token in ("^", "^⊙"):
                self.take()
                found = number(found) ** number(self.atom())
            elif re.fullmatch("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", token):
                found = raised(found, int(self.take().translate(_SUPERS)))
            else:
                break
        return found

    def indexed(self, array: Any) -> float:
        self.take("[")
        place = [int(number(self.sum()))]
        while self.peek() == ",":
            self.take()
            place.append(int(number(self.sum())))
        self.take("]")
        array = np.asarray(array)
        if array.ndim == 2 and len(place) == 1:
            array = array[:, 0]
        within = all(0 <= k < n for k, n in zip(place, array.shape, strict=True))
        return float(array[tuple(place)]) if within else 0.0

    def atom(self) -> Any:
        kind = self.tokens[self.at][0] if self.at < len(self.tokens) else ""
        token = self.take()
        if kind == "number":
            above, _, below = token.partition("/")
            return ONE if token == "1" else float(above) / float(below or 1)
        if kind == "fold":
            return self.fold(token)
        if kind == "name":
            return self.named(token)
        if token == "(":
            found = self.choice()
            self.take(")")
            return found
        if token == "|":
            return self.absolute()
        if token == "‖":
            return self.norm()
        if token == "[":
            found = self.relation()
            self.take("]")
            return found
        if token == "√":
            return np.sqrt(number(self.atom()))
        raise ValueError(f"{self.text!r}: {token!r} starts nothing")

    def absolute(self) -> Any:
        found = np.abs(number(self.sum()))
        self.take("|")
        return found

    def norm(self) -> Any:
        body = np.asarray(number(self.sum()))
        order = {"‖₁": 1, "‖₂": 2, "‖_F": "fro", "‖_∞": np.inf}[self.take()]
        return float(np.linalg.norm(body if order == "fro" else body.reshape(-1), order))

    def fold(self, token: str) -> Any:
        start, letters = self.at, [_SUBSCRIPTS[c] for c in token[1:]]
        hidden = dict(self.places)
        found = []
        for place in itertools.product(range(self.size), repeat=len(letters)):
            self.at = start
            self.places = hidden | dict(zip(letters, place, strict=True))
            found.append(float(number(self.entrywise())))
        self.places = hidden
        return float(np.sum(found) if token[0] == "Σ" else np.prod(found))

    def named(self, name: str) -> Any:
        if self.peek() == "(" and self.glued():
            return self.call(name)
        if name in self.places:
            return float(self.places[name])
        if name in self.arrays:
            array = self.arrays[name]
            return array[:, None] if array.ndim == 1 else plain(array)
        if name == "I":
            return _Unit()
        if name == "K":
            n = self.size
            return np.eye(n * n).reshape(n, n, n * n).transpose(1, 0, 2).reshape(n * n, n * n)
        if name in ("n", "m", "p", "q"):
            return float(self.size)
        raise ValueError(f"{self.text!r}: {name!r} is not known")

    def call(self, name: str) -> Any:
        self.take("(")
        arguments = [number(self.sum())]
        while self.peek() == ",":
            self.take()
            arguments.append(number(self.sum()))
        self.take(")")
        return called(name, arguments)


def called(name: str, arguments: list[Any]) -> Any:
    """A function, entry by entry unless it is one of matrices."""
    (x, *rest) = arguments
    if name in _INVERSES:
        return _INVERSES[name](x)
    if name == "tr":
        return float(np.trace(x))
    if name == "diag":
        return np.diag(x[:, 0]) if x.shape[1] == 1 else np.diag(x)[:, None]
    if name == "vec":
        return x.reshape(-1, 1, order="F")
    if name == "cholesky":
        return np.linalg.cholesky(x)
    if name in ("λ", "eigenvalues"):
        return np.linalg.eigvalsh(x)[:, None]
    if name == "eigenvectors":
        return np.linalg.eigh(x)[1]
    if name == "polar":
        u, _, v = np.linalg.svd(x, full_matrices=False)
        return u @ v
    if name in ("max", "min"):
        pair = {"max": np.maximum, "min": np.minimum}[name]
        return pair(x, rest[0]) if rest else {"max": np.max, "min": np.min}[name](x)
    if name == "σ":
        return 1 / (1 + np.exp(-x))
    if name == "H":
        return np.heaviside(x, 0.5)
    if name == "softplus":
        return np.logaddexp(0, x)
    if name in ("sin", "cos", "tan", "exp", "log", "tanh", "sinh", "cosh", "sqrt", "sign", "arctan", "log1p", "expm1"):
        return getattr(np, name)(x)
    raise ValueError(f"{name} is not known")


def sized(unit: _Unit, size: int) -> np.ndarray:
    """The multiple of the unit matrix."""
    return unit.scale * np.eye(size)


def added(left: Any, right: Any) -> Any:
    """A sum; a unit matrix has the other's size."""
    if isinstance(left, _Unit) and isinstance(right, _Unit):
        return _Unit(left.scale + right.scale)
    if isinstance(left, _Unit):
        left = sized(left, len(right))
    if isinstance(right, _Unit):
        right = sized(right, len(left))
    return number(left) + number(right)


def multiplied(left: Any, right: Any) -> Any:
    """A product; a multiple of the unit matrix is a number times the other."""
    left, right = number(left), number(right)
    if isinstance(right, _Unit):
        left, right = right, left
    if isinstance(left, _Unit):
        if isinstance(right, _Unit):
            return _Unit(left.scale * right.scale)
        return _Unit(left.scale * float(right)) if np.ndim(right) == 0 else left.scale * right
    scalar = np.ndim(left) == 0 or np.ndim(right) == 0
    return plain(left * right if scalar else left @ right)


def number(found: Any) -> Any:
    """A lone 1 beside a sign of addition or of entrywise work is the number."""
    return 1.0 if isinstance(found, _One) else found


def plain(found: Any) -> Any:
    """A row times a column is a number."""
    return float(np.asarray(found).reshape(())) if np.size(found) == 1 and np.ndim(found) != 1 else found


def turned(array: Any, sign: str) -> Any:
    """A transpose, an inverse, or both."""
    inverse = array if sign == "ᵀ" else np.linalg.inv(array)
    return inverse.T if sign != "⁻¹" else inverse


def raised(found: Any, exponent: int) -> Any:
    """A whole power: that of the matrix where it is square."""
    found = number(found)
    square = np.ndim(found) == 2 and found.shape[0] == found.shape[1]
    return np.linalg.matrix_power(found, exponent) if square else found**exponent
