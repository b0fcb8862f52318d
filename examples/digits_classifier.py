"""Handwritten digits, the whole way: draw a network, read its gradients, check them, train it, measure it.

Run it with `python digits_classifier.py`; it writes `digits_mlp.py`, a program that needs only NumPy.
"""

import symgrad as sg
from symgrad.data import split_digits


def network():
    """8 x 8 pixels -> 128 relu units -> 10 classes."""
    x, t = sg.input("x", ("N", 64)), sg.input("t", ("N",), dtype="int64")
    W1, b1 = sg.parameter("W1", (64, 128)), sg.parameter("b1", (128,))
    W2, b2 = sg.parameter("W2", (128, 10)), sg.parameter("b2", (10,))
    h = sg.relu(x @ W1 + b1, name="h")
    return sg.graph(sg.cross_entropy(h @ W2 + b2, t, name="loss"))


def main():
    graph = network()
    derivation = sg.derive(graph)
    print("the gradient of the first layer's weights\n")
    print(derivation["W1"])

    print("\nthe gradients beside numeric ones\n")
    print(sg.verify(graph, entries=3))

    program = sg.emit(derivation, optimizer="adamw")
    program.save("digits_mlp.py")
    module = program.load()  # what `import digits_mlp` gives as well
    train, held_out = split_digits()
    trainer = module.Trainer(module.init_params(seed=0), lr=3e-3)
    history = trainer.fit(train, epochs=20, batch_size=32)
    print(f"\nloss: {history['loss'][0]:.4f} after 1 epoch, {history['loss'][-1]:.4f} after 20")

    scores = trainer.predict(x=held_out["x"])
    accuracy = (scores.argmax(axis=1) == held_out["t"]).mean()
    print(f"held-out accuracy: {accuracy:.2%} of {len(scores)} images")


if __name__ == "__main__":
    main()
