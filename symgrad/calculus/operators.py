"""Structured matrices in NumPy: the fixed part of every emitted Hessian, which imports nothing else.

A Hessian maps tensors of a variable's shape, its columns, to tensors of the same or another variable's shape, its
rows. It is a sum of parts, each of one kind:

    Diagonal(d)         d ⊙ v
    LowRank(U, c, V)    U diag(c) Vᵀ v, v flattened; the full matrix is never formed to multiply
    Kronecker(M, N)     M v Nᵀ for a matrix v; None is an identity
    Swapped(M, N)       M vᵀ Nᵀ
    Blocks(B, axis)     v's rows, or columns, each times a matrix of its own
    Dense(A)            A v, v flattened
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True)
class Diagonal:
    """One number per entry; a single number stands for all."""

    entries: Array

    def matvec(self, v: Array) -> Array:
        return self.entries * v

    def add_to(self, dense: Array) -> None:
        shape = dense.shape[: dense.ndim // 2]
        index = np.indices(shape, sparse=True)
        dense[(*index, *index)] += self.entries


@dataclass(frozen=True)
class LowRank:
    """left: (size, r), weights: (r,) or a number, right: (size, r)."""

    left: Array
    weights: Array
    right: Array

    def matvec(self, v: Array) -> Array:
        return self.left @ (self.weights * (self.right.T @ v.ravel()))

    def add_to(self, dense: Array) -> None:
        dense += ((self.left * self.weights) @ self.right.T).reshape(dense.shape)


@dataclass(frozen=True)
class Kronecker:
    """left: (m, p), right: (n, q), from tensors of shape (p, q) to those of shape (m, n)."""

    left: Array | None
    right: Array | None

    def matvec(self, v: Array) -> Array:
        rows = v if self.left is None else self.left @ v
        return rows if self.right is None else rows @ self.right.T

    def add_to(self, dense: Array) -> None:
        m, n = dense.shape[:2]
        rows, columns = np.arange(m), np.arange(n)
        if self.left is None:
            dense[rows, :, rows, :] += np.eye(n) if self.right is None else self.right
        elif self.right is None:
            dense[:, columns, :, columns] += self.left
        else:
            dense += self.left[:, None, :, None] * self.right[None, :, None, :]


@dataclass(frozen=True)
class Swapped:
    """left: (m, q), right: (n, p), from tensors of shape (p, q) to those of shape (m, n)."""

    left: Array
    right: Array

    def matvec(self, v: Array) -> Array:
        return self.left @ v.T @ self.right.T

    def add_to(self, dense: Array) -> None:
        dense += self.left[:, None, None, :] * self.right[None, :, :, None]


@dataclass(frozen=True)
class Blocks:
    """matrices: (m, n, n) for axis 0, one for each row of the variable; (n, m, m) for axis 1."""

    matrices: Array
    axis: int

    def matvec(self, v: Array) -> Array:
        if self.axis == 0:
            return np.matmul(self.matrices, v[:, :, None])[:, :, 0]
        return np.matmul(self.matrices, v.T[:, :, None])[:, :, 0].T

    def add_to(self, dense: Array) -> None:
        index = np.arange(len(self.matrices))
        if self.axis == 0:
            dense[index, :, index, :] += self.matrices
        else:
            dense[:, index, :, index] += self.matrices


@dataclass(frozen=True)
class Dense:
    """values: the rows' shape, then the columns'."""

    values: Array

    def matvec(self, v: Array) -> Array:
        return np.tensordot(self.values, v, v.ndim)

    def add_to(self, dense: Array) -> None:
        dense += self.values


Part = Diagonal | LowRank | Kronecker | Swapped | Blocks | Dense


@dataclass(frozen=True)
class Hessian:
    """A sum of parts, from tensors of shape `columns` to tensors of shape `rows`."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    parts: tuple[Part, ...]

    def matvec(self, v: Array) -> Array:
        """The Hessian times a tensor of shape `columns`."""
        v = _of_shape(v, self.columns)
        total = np.zeros(self.rows)
        for part in self.parts:
            total += part.matvec(v).reshape(self.rows)
        return total

    def todense(self) -> Array:
        """The Hessian as an array of shape `rows` + `columns`."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Dense):
            return self.parts[0].values
        dense = np.zeros(self.rows + self.columns)
        for part in self.parts:
            part.add_to(dense)
        return dense

    def tomatrix(self) -> Array:
        """The same with rows and columns flattened."""
        return self.todense().reshape(_size(self.rows), _size(self.columns))

    def solve(self, b: Array) -> Array:
        """The tensor x with matvec(x) = b. Raises numpy.linalg.LinAlgError where the Hessian is singular."""
        b = _of_shape(b, self.rows)
        kinds = {type(part) for part in self.parts}
        if kinds == {Diagonal}:
            return b / self._diagonal(nonzero=True)
        if kinds == {Diagonal, LowRank} and self._rank() < b.size and self._diagonal().all():
            return self._woodbury(b)
        if kinds == {Kronecker} and len(self.parts) == 1:
            return _kronecker_solved(self.parts[0].left, self.parts[0].right, b)
        if kinds in ({Blocks}, {Blocks, Diagonal}) and len({p.axis for p in self.parts if isinstance(p, Blocks)}) == 1:
            return self._blockwise(b)
        return np.linalg.solve(self.tomatrix(), b.ravel()).reshape(self.columns)

    def _diagonal(self, nonzero: bool = False) -> Array:
        entries = sum(part.entries for part in self.parts if isinstance(part, Diagonal))
        whole = np.broadcast_to(np.asarray(entries, float), self.rows)
        if nonzero and not whole.all():
            raise np.linalg.LinAlgError("the Hessian is singular: its diagonal has a zero")
        return whole

    def _rank(self) -> int:
        return sum(part.left.shape[1] for part in self.parts if isinstance(part, LowRank))

    def _woodbury(self, b: Array) -> Array:
        """(D + U C Vᵀ)⁻¹ = D⁻¹ - D⁻¹ U (I + C Vᵀ D⁻¹ U)⁻¹ C Vᵀ D⁻¹."""
        diagonal = self._diagonal().ravel()
        low = [part for part in self.parts if isinstance(part, LowRank)]
        left = np.concatenate([part.left for part in low], 1)
        right = np.concatenate([part.right * part.weights for part in low], 1)
        scaled = left / diagonal[:, None]
        first = b.ravel() / diagonal
        small = np.eye(left.shape[1]) + right.T @ scaled
        return (first - scaled @ np.linalg.solve(small, right.T @ first)).reshape(self.columns)

    def _blockwise(self, b: Array) -> Array:
        axis = next(part.axis for part in self.parts if isinstance(part, Blocks))
        matrices = np.array(sum(part.matrices for part in self.parts if isinstance(part, Blocks)))
        index = np.arange(matrices.shape[1])
        matrices[:, index, index] += self._diagonal() if axis == 0 else self._diagonal().T
        right = b if axis == 0 else b.T
        solved = np.linalg.solve(matrices, right[:, :, None])[:, :, 0]
        return solved if axis == 0 else solved.T


@dataclass(frozen=True)
class BlockHessian:
    """The Hessian by several variables, blocks[p, q] from q to p. Tensors are given and returned as dicts by name."""

    shapes: dict[str, tuple[int, ...]]
    blocks: dict[tuple[str, str], Hessian]

    def matvec(self, v: dict[str, Array]) -> dict[str, Array]:
        """The Hessian times a tensor for each variable."""
        return {p: sum(self.blocks[p, q].matvec(v[q]) for q in self.shapes) for p in self.shapes}

    def todense(self) -> Array:
        """A square array, the variables flattened one behind the other."""
        return np.block([[self.blocks[p, q].tomatrix() for q in self.shapes] for p in self.shapes])

    def solve(self, b: dict[str, Array]) -> dict[str, Array]:
        """The tensors x with matvec(x) = b. Raises numpy.linalg.LinAlgError where the Hessian is singular."""
        flat = np.concatenate([_of_shape(b[p], shape).ravel() for p, shape in self.shapes.items()])
        solved = np.linalg.solve(self.todense(), flat)
        ends = np.cumsum([_size(shape) for shape in self.shapes.values()])
        pieces = np.split(solved, ends[:-1])
        return {p: piece.reshape(shape) for (p, shape), piece in zip(self.shapes.items(), pieces, strict=True)}


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=int))


def _of_shape(v: Array, shape: tuple[int, ...]) -> Array:
    v = np.asarray(v, float)
    if v.shape != shape:
        raise ValueError(f"expected an array of shape {shape}, got {v.shape}")
    return v


def _kronecker_solved(left: Array | None, right: Array | None, b: Array) -> Array:
    rows = b if left is None else np.linalg.solve(left, b)
    return rows if right is None else np.linalg.solve(right, rows.T).T
