"""Logistic regression on the breast-cancer data, beside scikit-learn's: the same optimum, found twice.

Needs scikit-learn, for the data and for the comparison.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import symgrad as sg


def data():
    """569 tumours, 30 measurements each; a fifth is held out. Standardised by the training part."""
    x, t = load_breast_cancer(return_X_y=True)
    x, x_test, t, t_test = train_test_split(x, t.astype(float), test_size=0.2, random_state=0, stratify=t)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    return (x - mean) / deviation, (x_test - mean) / deviation, t, t_test


def network(samples, features):
    """The mean log-loss, and the penalty on the weights that scikit-learn adds for C = 1."""
    x, t = sg.input("x", ("N", features)), sg.input("t", ("N",))
    w, b = sg.parameter("w", (features,), init="zeros"), sg.parameter("b", (), init="zeros")
    y = sg.add(x @ w, b, name="y")
    fit = sg.binary_cross_entropy_with_logits(y, t, name="fit")
    return sg.graph(sg.add(fit, sg.sum(w * w) / (2 * samples), name="loss"), outputs=y)


def main():
    x, x_test, t, t_test = data()
    graph = network(*x.shape)
    derivation = sg.derive(graph)
    print(derivation)
    print("\n", sg.verify(graph), sep="")

    program = sg.emit(derivation, optimizer="nesterov", dtype="float64").load()
    trainer = program.Trainer(program.init_params(), lr=0.3, momentum=0.95)
    trainer.fit({"x": x, "t": t}, epochs=2000, batch_size=None)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(x, t)
    coefficients = {"w": theirs.coef_[0], "b": theirs.intercept_[0]}

    right = (trainer.predict(x=x_test) > 0) == t_test
    rows = [
        ("loss", trainer.loss(x=x, t=t), program.loss_fn(coefficients, x=x, t=t)),
        ("held-out accuracy", right.mean(), theirs.score(x_test, t_test)),
        *((f"coefficient {k}", trainer.params["w"][k], coefficients["w"][k]) for k in range(3)),
    ]
    print(f"\n{'':<20}{'symgrad':>12}  {'scikit-learn':>12}")
    for what, ours, other in rows:
        print(f"{what:<20}{ours:>12.8f}  {other:>12.8f}")
    difference = np.abs(trainer.params["w"] - coefficients["w"]).max()
    print(f"largest difference of the coefficients: {difference:.1e}")


if __name__ == "__main__":
    main()
