"""A network drawn with networkx alone: symgrad takes any graph of this form, whoever made it.

Nodes are named tensors with an `op`; an edge u -> v with `arg=k` makes u operand k of v. The network learns
the exclusive or of two bits, which no single layer can.
"""

import networkx as nx
import numpy as np

import symgrad as sg

OPERATIONS = {  # name: (op, operands)
    "x_W1": ("matmul", ["x", "W1"]),
    "z": ("add", ["x_W1", "b1"]),
    "h": ("tanh", ["z"]),
    "y": ("matmul", ["h", "v"]),
    "loss": ("binary_cross_entropy_with_logits", ["y", "t"]),
}


def network():
    graph = nx.MultiDiGraph(symgrad=1, loss="loss", outputs=["y"])
    graph.add_node("x", op="input", shape=("N", 2))
    graph.add_node("t", op="input", shape=("N",))
    graph.add_node("W1", op="parameter", shape=(2, 8))
    graph.add_node("b1", op="parameter", shape=(8,), init=("normal", 0.5))
    graph.add_node("v", op="parameter", shape=(8,), init=("normal", 0.5))
    for name, (op, operands) in OPERATIONS.items():
        graph.add_node(name, op=op)
        for position, operand in enumerate(operands):
            graph.add_edge(operand, name, arg=position)
    return graph


def main():
    graph = network()
    levels = [", ".join(sorted(level)) for level in nx.topological_generations(graph)]
    print("networkx sees a graph, level by level:", *levels, sep="\n  ")

    derivation = sg.derive(graph)
    print("\nsymgrad derives\n", derivation, sep="\n")
    adjoints = derivation.graph.number_of_nodes() - graph.number_of_nodes()
    print(f"\nthe derived graph is a networkx graph as well, with {adjoints} nodes more")

    program = sg.emit(derivation, optimizer="adam", dtype="float64").load()
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    trainer = program.Trainer(program.init_params(seed=0), lr=0.05)
    trainer.fit({"x": x, "t": np.array([0.0, 1.0, 1.0, 0.0])}, epochs=500)
    print("\nexclusive or, learned")
    for bits, logit in zip(x, trainer.predict(x=x), strict=True):
        print(f"  {bits[0]:.0f} xor {bits[1]:.0f}: {1 / (1 + np.exp(-logit)):.3f}")


if __name__ == "__main__":
    main()
