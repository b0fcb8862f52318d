"""An op of one's own: one line of formula, and symgrad derives, prints, checks and programs its gradient.

The op is the "snake" activation, x + sin(a x)^2 / a, with a frequency `a` learned for each feature.
"""

import networkx as nx
import numpy as np

import symgrad as sg

SNAKE = "Y[n, j] = X[n, j] + sin(A[j] * X[n, j])**2 / A[j]"


def with_builder():
    x, t, a = sg.input("x", ("N", 4)), sg.input("t", ("N", 4)), sg.parameter("a", (4,), init=1.5)
    y = sg.define(SNAKE, X=x, A=a, name="y")
    return sg.graph(sg.mse(y, t, name="loss"))


def with_networkx():
    """The same network as a graph file holds it: op="define", and the names of the operands in order."""
    graph = nx.MultiDiGraph(symgrad=1, loss="loss")
    graph.add_node("x", op="input", shape=("N", 4))
    graph.add_node("t", op="input", shape=("N", 4))
    graph.add_node("a", op="parameter", shape=(4,), init=1.5)
    graph.add_node("y", op="define", formula=SNAKE, operands=["X", "A"])
    graph.add_node("loss", op="mse")
    for source, target, position in [("x", "y", 0), ("a", "y", 1), ("y", "loss", 0), ("t", "loss", 1)]:
        graph.add_edge(source, target, arg=position)
    return graph


def by_hand(x, t, a):
    """What one gets with pencil and paper for the gradients by a and x."""
    error = 2 * (x + np.sin(a * x) ** 2 / a - t) / x.size
    by_a = error * (x * np.sin(2 * a * x) / a - np.sin(a * x) ** 2 / a**2)
    return {"a": by_a.sum(axis=0), "x": error * (1 + np.sin(2 * a * x))}


def main():
    derivation = sg.derive(with_builder(), wrt=["a", "x"])
    print("derived, in index notation\n")
    for name in derivation:
        print(derivation[name].indexed, end="\n\n")

    rng = np.random.default_rng(0)
    x, t, a = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.uniform(0.5, 2, size=4)
    program = sg.emit(derivation, dtype="float64").load()
    _, grads = program.loss_and_grads({"a": a}, x=x, t=t)
    print("largest difference from the derivative by hand")
    for name, expected in by_hand(x, t, a).items():
        print(f"  {name}: {np.abs(grads[name] - expected).max():.1e}")

    other = sg.emit(sg.derive(with_networkx(), wrt=["a", "x"]), dtype="float64").load()
    _, same = other.loss_and_grads({"a": a}, x=x, t=t)
    print(f'op="define" gives the same numbers: {all(np.array_equal(grads[n], same[n]) for n in grads)}\n')
    print(sg.verify(with_networkx(), wrt=["a", "x"]))


if __name__ == "__main__":
    main()
