"""The Hessian of a logistic loss: the derived graph is a network again, so it is derived once more.

The gradient's product with a constant vector v is a scalar, and its gradient is H v. The columns of H are
the products with unit vectors. The check is a central difference of the first gradient.
"""

import numpy as np

import symgrad as sg


def network():
    """The mean of softplus(-t (X w)), labels t = +1 or -1."""
    X, t, w = sg.input("X", ("N", 3)), sg.input("t", ("N",)), sg.parameter("w", (3,))
    return sg.graph(sg.mean(sg.softplus(-t * (X @ w)), name="loss"))


def gradient_times_v(derivation):
    """The derived graph, with (gradient by w) . v as its loss."""
    graph = derivation.graph
    graph.add_node("v", op="input", shape=(3,))
    graph.add_node("slope", op="dot")
    graph.add_edge(graph.graph["gradients"]["w"], "slope", arg=0)
    graph.add_edge("v", "slope", arg=1)
    graph.graph["loss"] = "slope"
    return graph


def main():
    first = sg.derive(network())
    print("the gradient\n", first["w"], sep="\n")
    program = sg.emit(first, dtype="float64").load()
    second = sg.derive(gradient_times_v(first), wrt=["w"])
    print("\nits product with v, derived again: H v\n", second["w"], sep="\n")
    product = sg.emit(second, dtype="float64").load()

    rng = np.random.default_rng(0)
    w, data = rng.normal(size=3), {"X": rng.normal(size=(50, 3)), "t": rng.choice([-1.0, 1.0], size=50)}

    def gradient(w):
        return program.loss_and_grads({"w": w}, **data)[1]["w"]

    def column(v):
        return product.loss_and_grads({"w": w}, **data, v=v)[1]["w"]

    hessian = np.stack([column(v) for v in np.eye(3)])
    step = 1e-5
    differences = [(gradient(w + v) - gradient(w - v)) / (2 * step) for v in step * np.eye(3)]
    print("\nthe Hessian at a random point\n", hessian, sep="\n")
    print("\nits eigenvalues, none negative as the loss is convex:", np.linalg.eigvalsh(hessian))
    print(f"largest asymmetry: {np.abs(hessian - hessian.T).max():.1e}")
    print(f"largest difference from central differences: {np.abs(hessian - differences).max():.1e}")


if __name__ == "__main__":
    main()
