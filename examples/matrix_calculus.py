"""Newton's method for ridge logistic regression, derived from one line.

The gradient and the Hessian are NumPy functions. The Hessian is Xᵀ D X plus a multiple of the identity, and knows it:
with fewer samples than features, solving with it never forms the matrix of all features.
"""

import numpy as np

import symgrad as sg

LOSS = "sum(log(1 + exp(-y * (X @ w)))) + lam/2*norm2(w)**2"


def problem(samples, features):
    """Labels +1 and -1 of points on two sides of a plane, with noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(samples, features))
    y = np.sign(X @ rng.normal(size=features) + 0.5 * rng.normal(size=samples))
    return {"X": X, "y": y, "lam": 0.1}


def main():
    gradient, hessian = sg.gradient(LOSS, wrt="w"), sg.hessian(LOSS, wrt="w")
    print("the gradient, step by step\n", gradient.steps(), sep="\n")
    print("\nthe Hessian\n", hessian, sep="\n")

    data = problem(samples=100, features=400)
    w = np.zeros(400)
    print("\nNewton's method, 100 samples of 400 features")
    for iteration in range(1, 12):
        w -= hessian(w=w, **data).solve(gradient(w=w, **data))
        print(f"  iteration {iteration:2}: largest entry of the gradient {np.abs(gradient(w=w, **data)).max():.1e}")

    dense = hessian(w=w, **data).todense()
    v = np.linspace(-1, 1, 400)
    error = np.abs(hessian(w=w, **data).solve(v) - np.linalg.solve(dense, v)).max()
    print(f"\nlargest difference from solving with the dense Hessian: {error:.1e}")


if __name__ == "__main__":
    main()
