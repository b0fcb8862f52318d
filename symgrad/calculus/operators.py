"""Structured matrices in NumPy: the fixed part of every emitted Hessian, which imports nothing else.

A linear map takes tensors of a variable's shape, its columns, to tensors of the same or another shape, its rows. It
is a sum of parts, each of one kind:

    Diagonal(d)         d ⊙ v
    LowRank(U, c, V)    U diag(c) Vᵀ v, v flattened; the full matrix is never formed to multiply
    Kronecker(M, N)     M v Nᵀ for a matrix v; a factor may be None, an identity, or a vector, a diagonal
    Swapped(M, N)       M vᵀ Nᵀ
    Blocks(B, axis)     v's rows, or columns, each times a matrix of its own
    Dense(A)            A v, v flattened

Parts multiply several tensors at once, which stand behind each other along a last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = Any

# <own>
Shape = tuple[int, ...]
Factor = Any  # of a Kronecker product: None, a vector or a matrix


class Diagonal(NamedTuple):
    """One number per entry; a single number stands for all."""

    entries: Array

    @property
    def T(self) -> Diagonal:
        return self

    def times(self, v: Array) -> Array:
        return np.asarray(self.entries)[..., None] * v

    def add_to(self, dense: Array) -> None:
        size = _count(dense.shape[: dense.ndim // 2])
        np.einsum("ii->i", dense.reshape(size, size))[...] += np.ravel(self.entries)


class LowRank(NamedTuple):
    """left: (size of the rows, r), weights: (r,) or a number, right: (size of the columns, r)."""

    left: Array
    weights: Array
    right: Array

    @property
    def T(self) -> LowRank:
        return LowRank(self.right, self.weights, self.left)

    def times(self, v: Array) -> Array:
        inner = self.right.T @ v.reshape(-1, v.shape[-1])
        return self.left @ (np.reshape(self.weights, (-1, 1)) * inner)

    def whole(self) -> Array:
        """The matrix. U diag(c) Uᵀ with c ≥ 0 is a product with its own transpose, which BLAS does in half the time."""
        if self.left.shape[1] == 1:
            return (self.left * self.weights) * self.right.T
        if self.left is self.right and np.all(np.asarray(self.weights) >= 0):
            root = self.left * np.sqrt(self.weights)
            return root @ root.T
        return (self.left * self.weights) @ self.right.T


class Kronecker(NamedTuple):
    """left: (m, p), right: (n, q), from tensors of shape (p, q) to those of shape (m, n)."""

    left: Factor
    right: Factor

    @property
    def T(self) -> Kronecker:
        return Kronecker(_transposed(self.left), _transposed(self.right))

    def times(self, v: Array) -> Array:
        return _on_columns(self.right, _on_rows(self.left, v))

    def add_to(self, dense: Array) -> None:
        _add_outer(dense.transpose(0, 2, 1, 3), self.left, self.right)


class Swapped(NamedTuple):
    """left: (m, q), right: (n, p), from tensors of shape (p, q) to those of shape (m, n)."""

    left: Factor
    right: Factor

    @property
    def T(self) -> Swapped:
        return Swapped(_transposed(self.right), _transposed(self.left))

    def times(self, v: Array) -> Array:
        return _on_columns(self.right, _on_rows(self.left, v.swapaxes(0, 1)))

    def add_to(self, dense: Array) -> None:
        _add_outer(dense.transpose(0, 3, 1, 2), self.left, self.right)


class Blocks(NamedTuple):
    """matrices: (m, n, n) for axis 0, one for each row of the variable; (n, m, m) for axis 1."""

    matrices: Array
    axis: int

    @property
    def T(self) -> Blocks:
        return Blocks(self.matrices.swapaxes(1, 2), self.axis)

    def times(self, v: Array) -> Array:
        return (self.matrices @ v.swapaxes(0, self.axis)).swapaxes(0, self.axis)

    def add_to(self, dense: Array) -> None:
        np.einsum("ijil->ijl" if self.axis == 0 else "ijkj->jik", dense)[...] += self.matrices


class Dense(NamedTuple):
    """values: the rows' shape, `axes` long, then the columns'."""

    values: Array
    axes: int

    @property
    def T(self) -> Dense:
        rest = self.values.ndim - self.axes
        return Dense(np.moveaxis(self.values, range(self.axes), range(rest, rest + self.axes)), rest)

    def times(self, v: Array) -> Array:
        return np.tensordot(self.values, v, v.ndim - 1)

    def whole(self) -> Array:
        """The array itself."""
        return self.values


Part = Diagonal | LowRank | Kronecker | Swapped | Blocks | Dense


class LinearMap(NamedTuple):
    """A sum of parts, from tensors of shape `columns` to tensors of shape `rows`."""

    rows: Shape
    columns: Shape
    parts: tuple[Part, ...]

    @property
    def T(self) -> LinearMap:
        """The transposed map."""
        return LinearMap(self.columns, self.rows, tuple(part.T for part in self.parts))

    def matvec(self, v: Array) -> Array:
        """The map's value at a tensor of shape `columns`."""
        return self.times(_of_shape(v, self.columns)[..., None])[..., 0]

    def times(self, v: Array) -> Array:
        """Its values at several tensors, which stand along the last axis."""
        shape = (*self.rows, v.shape[-1])
        total = np.zeros(shape)
        for part in self.parts:
            total += part.times(v).reshape(shape)
        return total

    def todense(self) -> Array:
        """An array of shape `rows` + `columns`."""
        shape = self.rows + self.columns
        whole = [part.whole().reshape(shape) for part in self.parts if isinstance(part, Dense | LowRank)]
        dense = _sum(whole) if whole else np.zeros(shape)
        for part in self.parts:
            if not isinstance(part, Dense | LowRank):
                part.add_to(dense)
        return dense

    def tomatrix(self) -> Array:
        """The same with rows and columns flattened."""
        return self.todense().reshape(_count(self.rows), _count(self.columns))

    def solve(self, b: Array) -> Array:
        """The tensor x with matvec(x) = b, by structure where that serves.

        Raises numpy.linalg.LinAlgError where none is found: the map is singular.
        """
        b = _of_shape(b, self.rows)
        try:
            x = self.solved(b[..., None])[..., 0]
            accurate = self._misses(x, b) <= 1e-6
        except np.linalg.LinAlgError:
            accurate = False
        if not accurate:
            x = _dense_solved(self, b[..., None])[..., 0]
            if not self._misses(x, b) <= 1e-3:
                raise np.linalg.LinAlgError("singular: no solution was found")
        return x

    def solved(self, b: Array) -> Array:
        """The same for several right sides, along the last axis, the result not examined."""
        solver = structured_solver(self)
        return solver(b) if solver else _dense_solved(self, b)

    def _misses(self, x: Array, b: Array) -> float:
        return float(np.abs(self.matvec(x) - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-300))


class BlockMap(NamedTuple):
    """A symmetric map of several variables, blocks[p, q] from q to p. Tensors are given and returned as dicts."""

    shapes: dict[str, Shape]
    blocks: dict[tuple[str, str], LinearMap]

    def matvec(self, v: dict[str, Array]) -> dict[str, Array]:
        """The map's value at a tensor for each variable."""
        return {p: sum(self.blocks[p, q].matvec(v[q]) for q in self.shapes) for p in self.shapes}

    def todense(self) -> Array:
        """A square array, the variables flattened one behind the other."""
        return self._matrix(list(self.shapes))

    def solve(self, b: dict[str, Array]) -> dict[str, Array]:
        """The tensors x with matvec(x) = b. The variable whose own block is solved by structure is eliminated.

        Raises numpy.linalg.LinAlgError where none is found: the map is singular.
        """
        b = {p: _of_shape(b[p], shape) for p, shape in self.shapes.items()}
        easy = [p for p in self.shapes if structured_solver(self.blocks[p, p])]
        if easy:
            try:
                x = self._eliminated(max(easy, key=lambda p: _count(self.shapes[p])), b)
                if self._misses(x, b) <= 1e-6:
                    return x
            except np.linalg.LinAlgError:
                pass  # that block may be singular where the whole is not
        x = self._split(np.linalg.solve(self.todense(), self._joined(b, list(self.shapes))), list(self.shapes))
        if not self._misses(x, b) <= 1e-3:
            raise np.linalg.LinAlgError("singular: no solution was found")
        return x

    def _eliminated(self, p: str, b: dict[str, Array]) -> dict[str, Array]:
        """With A x + B y = b and Bᵀ x + C y = c: (C - Bᵀ A⁻¹ B) y = c - Bᵀ A⁻¹ b."""
        rest = [q for q in self.shapes if q != p]
        own, size = self.blocks[p, p], _count(self.shapes[p])
        beside = np.concatenate([np.zeros((size, 0)), *(self.blocks[p, q].tomatrix() for q in rest)], 1)
        right = np.concatenate([beside, b[p].reshape(-1, 1)], 1).reshape(*self.shapes[p], -1)
        solved = own.solved(right).reshape(size, -1)
        across = beside.T @ solved
        y = np.linalg.solve(self._matrix(rest) - across[:, :-1], self._joined(b, rest) - across[:, -1])
        x = (solved[:, -1] - solved[:, :-1] @ y).reshape(self.shapes[p])
        found = {p: x} | self._split(y, rest)
        return {q: found[q] for q in self.shapes}

    def _matrix(self, names: list[str]) -> Array:
        ends = np.cumsum([0, *(_count(self.shapes[p]) for p in names)])
        dense = np.empty((ends[-1], ends[-1]))
        for i, p in enumerate(names):
            for j, q in enumerate(names[i:], i):
                block = self.blocks[p, q].tomatrix()
                dense[ends[i] : ends[i + 1], ends[j] : ends[j + 1]] = block
                if i != j:
                    dense[ends[j] : ends[j + 1], ends[i] : ends[i + 1]] = block.T
        return dense

    def _joined(self, b: dict[str, Array], names: list[str]) -> Array:
        return np.concatenate([np.zeros(0), *(np.ravel(b[p]) for p in names)])

    def _split(self, flat: Array, names: list[str]) -> dict[str, Array]:
        ends = np.cumsum([_count(self.shapes[p]) for p in names])
        pieces = np.split(flat, ends[:-1])
        return {p: piece.reshape(self.shapes[p]) for p, piece in zip(names, pieces, strict=False)}

    def _misses(self, x: dict[str, Array], b: dict[str, Array]) -> float:
        names = list(self.shapes)
        right = self._joined(b, names)
        error = np.abs(self._joined(self.matvec(x), names) - right).max(initial=0)
        return float(error / max(np.abs(right).max(initial=0), 1e-300))


# ---- Solving by structure: each solver takes several right sides, along the last axis ---------------------

Solver = Callable[[Array], Array]


def structured_solver(a: LinearMap) -> Solver | None:
    """How a map is solved without forming it, or None."""
    if a.rows != a.columns:
        return None
    low = [part for part in a.parts if isinstance(part, LowRank)]
    others = LinearMap(a.rows, a.columns, tuple(part for part in a.parts if not isinstance(part, LowRank)))
    base = _solver_by_kind(others)
    if base is None or not low:
        return base
    rank = sum(part.left.shape[1] for part in low)
    return (lambda b: _woodbury(base, low, b)) if rank < _count(a.rows) else None


def _solver_by_kind(a: LinearMap) -> Solver | None:
    kinds = {type(part) for part in a.parts}
    shift = _shift(a)
    if kinds == {Diagonal}:
        return lambda b: _divided(b, shift[..., None])
    blocks = [part for part in a.parts if isinstance(part, Blocks)]
    if blocks and kinds <= {Blocks, Diagonal} and len({part.axis for part in blocks}) == 1:
        return lambda b: _blockwise(blocks, shift, b)
    products = [part for part in a.parts if isinstance(part, Kronecker)]
    if len(products) == 1 == len(a.parts) and all(_is_square(f) for f in (products[0].left, products[0].right)):
        return lambda b: _kronecker_solved(products[0].left, products[0].right, b)
    if products and kinds <= {Kronecker, Diagonal} and np.ptp(shift) == 0:
        return _sylvester(products, shift)
    swapped = [part for part in a.parts if isinstance(part, Swapped)]
    if len(swapped) == 1 == len(a.parts) and all(_is_square(f) for f in (swapped[0].left, swapped[0].right)):
        return lambda b: _kronecker_solved(swapped[0].left, swapped[0].right, b).swapaxes(0, 1)
    return None


def _shift(a: LinearMap) -> Array:
    """The sum of the diagonal parts, in the rows' shape."""
    return np.broadcast_to(sum((part.entries for part in a.parts if isinstance(part, Diagonal)), 0.0), a.rows)


def _divided(b: Array, entries: Array) -> Array:
    if not np.all(entries):
        raise np.linalg.LinAlgError("singular: a diagonal has a zero")
    return b / entries


def _woodbury(base: Solver, low: list[LowRank], b: Array) -> Array:
    """(A + U C Vᵀ)⁻¹ = A⁻¹ - A⁻¹ U (I + C Vᵀ A⁻¹ U)⁻¹ C Vᵀ A⁻¹."""
    left = np.concatenate([part.left for part in low], 1)
    right = np.concatenate([part.right * part.weights for part in low], 1)
    both = np.concatenate([left.reshape(*b.shape[:-1], -1), b], -1)
    solved = base(both).reshape(len(left), -1)
    scaled, first = np.split(solved, [left.shape[1]], 1)
    small = np.eye(left.shape[1]) + right.T @ scaled
    return (first - scaled @ np.linalg.solve(small, right.T @ first)).reshape(b.shape)


def _blockwise(blocks: list[Blocks], shift: Array, b: Array) -> Array:
    axis = blocks[0].axis
    matrices = np.array(sum(part.matrices for part in blocks))
    np.einsum("kii->ki", matrices)[...] += shift.swapaxes(0, axis)
    return np.linalg.solve(matrices, b.swapaxes(0, axis)).swapaxes(0, axis)


def _kronecker_solved(left: Factor, right: Factor, b: Array) -> Array:
    """x with M x Nᵀ = b."""
    return _solved_rows(right, _solved_rows(left, b).swapaxes(0, 1)).swapaxes(0, 1)


def _solved_rows(factor: Factor, b: Array) -> Array:
    if factor is None:
        return b
    if factor.ndim == 1:
        return _divided(b, factor[:, None, None])
    return np.linalg.solve(factor, b.reshape(len(b), -1)).reshape(b.shape)


def _sylvester(products: list[Kronecker], shift: Array) -> Solver | None:
    """M x + x Nᵀ + c x = b for symmetric M and N: in their eigenvectors a division."""
    m, n = shift.shape
    left, right = np.zeros((m, m)), np.zeros((n, n))
    for part in products:
        if part.left is not None and part.right is not None:
            return None
        if part.right is None:
            left += _as_matrix(part.left, m)
        else:
            right += _as_matrix(part.right, n)
    if not (np.allclose(left, left.T, 1e-12, 0) and np.allclose(right, right.T, 1e-12, 0)):
        return None
    number = float(shift.flat[0]) if shift.size else 0.0
    return lambda b: _sylvester_solved(left, right, number, b)


def _sylvester_solved(left: Array, right: Array, shift: float, b: Array) -> Array:
    if not left.any():
        return _kronecker_solved(None, right + shift * np.eye(len(right)), b)
    if not right.any():
        return _kronecker_solved(left + shift * np.eye(len(left)), None, b)
    (first, p), (second, q) = np.linalg.eigh(left), np.linalg.eigh(right)
    inner = _divided(_on_columns(q.T, _on_rows(p.T, b)), (first[:, None] + second + shift)[:, :, None])
    return _on_columns(q, _on_rows(p, inner))


def _dense_solved(a: LinearMap, b: Array) -> Array:
    rank = sum(part.left.shape[1] if isinstance(part, LowRank) else _count(a.rows) for part in a.parts)
    if rank < _count(a.rows):
        raise np.linalg.LinAlgError(f"singular: the rank is at most {rank}, below {_count(a.rows)}")
    return np.linalg.solve(a.tomatrix(), b.reshape(-1, b.shape[-1])).reshape(*a.columns, -1)


# ---- Factors of Kronecker products: None, a vector, or a matrix -------------------------------------------


def _on_rows(factor: Factor, v: Array) -> Array:
    """Σ_k M_ik v_kjr"""
    if factor is None:
        return v
    if factor.ndim == 1:
        return factor[:, None, None] * v
    return (factor @ v.reshape(len(v), -1)).reshape(len(factor), *v.shape[1:])


def _on_columns(factor: Factor, v: Array) -> Array:
    """Σ_k N_jk v_ikr"""
    if factor is None:
        return v
    return factor[:, None] * v if factor.ndim == 1 else factor @ v


def _add_outer(dense: Array, left: Factor, right: Factor) -> None:
    """M_ij N_kl added to an array, only where a diagonal is not zero."""
    m, _, n, _ = dense.shape
    if _is_diagonal(left) and _is_diagonal(right):
        np.einsum("iikk->ik", dense)[...] += np.multiply.outer(_entries(left, m), _entries(right, n))
    elif _is_diagonal(left):
        np.einsum("iikl->ikl", dense)[...] += _entries(left, m)[:, None, None] * right
    elif _is_diagonal(right):
        np.einsum("ijkk->kij", dense)[...] += _entries(right, n)[:, None, None] * left
    else:
        dense += left[:, :, None, None] * right


def _transposed(factor: Factor) -> Factor:
    return None if factor is None else factor.T


def _is_diagonal(factor: Factor) -> bool:
    return factor is None or factor.ndim == 1


def _is_square(factor: Factor) -> bool:
    return _is_diagonal(factor) or factor.shape[0] == factor.shape[1]


def _entries(factor: Factor, size: int) -> Array:
    return np.ones(size) if factor is None else factor


def _as_matrix(factor: Factor, size: int) -> Array:
    return np.diag(_entries(factor, size)) if _is_diagonal(factor) else factor


def _sum(arrays: list[Array]) -> Array:
    """An array of its own, contiguous."""
    if len(arrays) == 1:
        return np.array(arrays[0], order="C")
    total = np.add(arrays[0], arrays[1], order="C")
    for array in arrays[2:]:
        total += array
    return total


def _count(shape: Shape) -> int:
    return int(np.prod(shape, dtype=int))


def _of_shape(v: Array, shape: Shape) -> Array:
    if np.iscomplexobj(v):
        raise TypeError("expected an array of real numbers, got complex ones")
    v = np.asarray(v, float)
    if v.shape != shape:
        raise ValueError(f"expected an array of shape {shape}, got {v.shape}")
    return v
