"""The equations that define matrix functions: what vanishes at the solution, and one Newton step.

The step is the change of the unknowns that makes up for a residual R to first order. Derivatives of every order
follow from these two (`derive.implicit`).
"""

from __future__ import annotations

from symgrad.index.solution import Given, Kernel, Unknown, register_kernel

_A, _H = Given("A", "nn"), Given("H", "nn")

# A Y = I. The step solve(A, R) is at the solution the product with Y, which is there already
register_kernel(
    Kernel(
        operands=(_A,),
        unknowns=(Unknown("Y", "nn", "inv", "np.linalg.inv({0})"),),
        residual="R[i, j] = where(i == j, 1, 0) + sum(k, -A[i, k]*Y[k, j])",
        step="dY[i, j] = sum(k, Y[i, k]*R[k, j])",
    )
)
# A Y = B, for a matrix and for a vector B
register_kernel(
    Kernel(
        operands=(_A, Given("B", "nm")),
        unknowns=(Unknown("Y", "nm", "solve", "np.linalg.solve({0}, {1})"),),
        residual="R[i, j] = B[i, j] + sum(k, -A[i, k]*Y[k, j])",
        step="dY = solve(A, R)",
    )
)
register_kernel(
    Kernel(
        operands=(_A, Given("B", "n")),
        unknowns=(Unknown("Y", "n", "solve", "np.linalg.solve({0}, {1})"),),
        residual="R[i] = B[i] + sum(k, -A[i, k]*Y[k])",
        step="dY = solve(A, R)",
    )
)
# H Y + Y H = B, for a symmetric positive definite H
register_kernel(
    Kernel(
        operands=(_H, Given("B", "nn")),
        unknowns=(Unknown("Y", "nn", "lyapunov", "_lyapunov({0}, {1})"),),
        residual="R[i, j] = B[i, j] + sum(k, -H[i, k]*Y[k, j] - Y[i, k]*H[k, j])",
        step="dY = lyapunov(H, R)",
    )
)
# Laplace's expansion along row i, for each i: no element of row i stands in its own cofactors C[i, :], which are Y
# times the inverse transposed by Cramer's rule. Each row moves Y by itself, so that their changes add up
register_kernel(
    Kernel(
        operands=(_A,),
        unknowns=(Unknown("Y", "", "det", "np.linalg.det({0})"),),
        residual="R[i] = sum(j, A[i, j]*C[i, j]) - Y[()]",
        step="dY = sum(i, R[i])",
        fixed="K = inv(A)\nC[i, j] = Y[()]*K[j, i]",
    )
)
# log|det A|: the same expansion over the determinant exp(Z) at the solution, so that nothing overflows
register_kernel(
    Kernel(
        operands=(_A,),
        unknowns=(Unknown("Y", "", "logdet", "np.linalg.slogdet({0})[1]"),),
        residual="R[i] = sum(j, A[i, j]*K[j, i]) - exp(Y[()] - Z[()])",
        step="dY = sum(i, R[i])",
        fixed="K = inv(A)\nZ = Y[()]",
    )
)
# L Lᵀ = A with L lower triangular, A symmetric positive definite
register_kernel(
    Kernel(
        operands=(_A,),
        unknowns=(Unknown("L", "nn", "cholesky", "np.linalg.cholesky({0})"),),
        residual="""
            R[i, j] = A[i, j] - sum(k, L[i, k]*L[j, k])
            U[i, j] = where(i < j, L[i, j], 0)
        """,
        step="""
            S = solve(L, R)
            M = solve(L, S.T)
            P[i, j] = where(i > j, M[i, j], where(i == j, M[i, j]/2, 0))
            dL[i, j] = sum(k, L[i, k]*P[k, j])
        """,
    )
)
# A V = V diag(w) and VᵀV = I, A symmetric, its eigenvalues w in ascending order and no two the same
register_kernel(
    Kernel(
        operands=(_A,),
        unknowns=(
            Unknown("w", "n", "eigenvalues", "np.linalg.eigvalsh({0})"),
            Unknown("V", "nn", "eigenvectors", "np.linalg.eigh({0})[1]"),
        ),
        residual="""
            R[i, j] = sum(k, A[i, k]*V[k, j]) - V[i, j]*w[j]
            N[i, j] = sum(k, V[k, i]*V[k, j]) - where(i == j, 1, 0)
        """,
        step="""
            dw[j] = sum(i, V[i, j]*R[i, j])
            E[i, j] = sum(k, V[k, i]*R[k, j])
            X[i, j] = where(i == j, 0, 1)*E[i, j]/(w[j] - w[i] + where(i == j, 1, 0))
            dV[i, j] = sum(k, V[i, k]*X[k, j])
        """,
    )
)
# A = Q H with QᵀQ = I and H symmetric positive definite, the columns of A independent
register_kernel(
    Kernel(
        operands=(Given("A", "mn"),),
        unknowns=(
            Unknown("Q", "mn", "polar", "_polar({0})[0]"),
            Unknown("H", "nn", "polar_root", "_polar({0})[1]"),
        ),
        residual="""
            R[i, j] = A[i, j] - sum(k, Q[i, k]*H[k, j])
            N[i, j] = sum(k, Q[k, i]*Q[k, j]) - where(i == j, 1, 0)
            T[i, j] = H[i, j] - H[j, i]
        """,
        step="""
            G[i, j] = sum(k, Q[k, i]*R[k, j])
            D[i, j] = G[i, j] - G[j, i]
            X = lyapunov(H, D)
            P[i, j] = R[i, j] + sum(k, -Q[i, k]*G[k, j])
            S = solve(H, P.T)
            dQ[i, j] = sum(k, Q[i, k]*X[k, j]) + S[j, i]
            dH[i, j] = G[i, j] + sum(k, -X[i, k]*H[k, j])
        """,
    )
)
# the largest sum of A*Q over all Q with QᵀQ = I: there, at the polar factor, it does not change with Q
register_kernel(
    Kernel(
        operands=(Given("A", "mn"),),
        unknowns=(Unknown("Y", "", "nuclear", "np.linalg.svd({0}, compute_uv=False).sum()"),),
        residual="R = sum(i, j, A[i, j]*Q[i, j]) - Y[()]",
        step="dY = R[()]",
        fixed="Q = polar(A)",
    )
)
