"""`symgrad demo`: the whole way on handwritten digits, from the network to its held-out accuracy."""

from __future__ import annotations

import io
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from symgrad.builder import Tensor, graph, input, op_function, parameter
from symgrad.data import Arrays, split_digits
from symgrad.emit import Program
from symgrad.files import save_graph
from symgrad.pipeline import derive, emit
from symgrad.verify import verify

Write = Callable[[Path, bytes], None]
Check = Callable[[Path, bytes | None], object]

LAYERS = (64, 128, 64, 10)
OPTIMIZER, SETTINGS = "adamw", ["--epochs", "20", "--lr", "0.003"]
REQUIRED = 0.97
ENTRIES = 4  # of each gradient that are verified
GRAPH, CODE, DATA = "digits.json", "digits_train.py", "digits.npz"
HELD_OUT, PARAMETERS = "digits_held_out.npz", "digits_params.npz"


def digits_network() -> nx.MultiDiGraph[Any]:
    """A classifier of 8 x 8 images: fully connected layers, relu between them, cross-entropy."""
    relu, cross_entropy = op_function("relu"), op_function("cross_entropy")
    a, labels = input("x", ("N", LAYERS[0])), input("t", ("N",), dtype="int64")
    for k in range(1, len(LAYERS)):
        z = _layer(a, k)
        a = relu(z, name=f"a{k}")
    return graph(cross_entropy(z, labels, name="loss"))


def _layer(a: Tensor, k: int) -> Tensor:
    return a @ parameter(f"W{k}", LAYERS[k - 1 : k + 1]) + parameter(f"b{k}", (LAYERS[k],))


def run_demo(directory: Path, write: Write, check: Check) -> int:
    """Show the way and leave its files in `directory`; 0 if gradients and accuracy are as they should be.

    `write` writes a file. `check` raises the error of `write`, and writes nothing; with None, for content that is
    not known yet.
    """
    start = time.perf_counter()
    network = digits_network()
    _, held_out = split_digits()
    derivation = derive(network)
    program = emit(derivation, OPTIMIZER, title="A classifier of handwritten digits, 8 x 8 pixels")
    _write_files(directory, _contents(network, program), program, write, check)
    _heading("1. The derivation", _summary(program))
    print(derivation)
    verified = _verify(network)
    status = _train(directory, write)
    if status:
        return status
    accuracy = _accuracy(program, directory, held_out)
    correct = round(accuracy * len(held_out["t"]))
    _heading("4. The result", f"{accuracy:.2%} held-out accuracy, {correct} of {len(held_out['t'])} images")
    _print_files(directory)
    print(f"the demo took {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return _verdict(verified, accuracy)


def _contents(network: nx.MultiDiGraph[Any], program: Program) -> dict[str, bytes]:
    """The files that are known before the training."""
    train, held_out = split_digits()
    return {
        GRAPH: _graph_bytes(network),
        CODE: program.source.encode(),
        DATA: _npz_bytes(train),
        HELD_OUT: _npz_bytes(held_out),
    }


def _write_files(directory: Path, contents: dict[str, bytes], program: Program, write: Write, check: Check) -> None:
    """All of them, or none where one would take the place of a file of the user's."""
    for name, content in contents.items():
        check(directory / name, content)
    if not _is_trained(program, directory / PARAMETERS):
        check(directory / PARAMETERS, None)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write(directory / name, content)


def _is_trained(program: Program, path: Path) -> bool:
    """Whether the parameters there may be those of an earlier demo: as long trained, of the same network."""
    try:
        trainer = program.load().Trainer.load(path)
    except Exception:  # whatever it is, it is not ours
        return False
    return str(trainer.epochs) == SETTINGS[SETTINGS.index("--epochs") + 1]


def _verify(network: nx.MultiDiGraph[Any]) -> bool:
    _heading("2. The evidence", "relative errors of the program's gradients against numeric ones")
    _note("verifying the gradients ...")
    report = verify(network, entries=ENTRIES)
    print(report)
    return report.ok


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _heading(title: str, text: str) -> None:
    print(f"\n{title}: {text}\n", flush=True)


def _summary(program: Program) -> str:
    count = sum(map(math.prod, program.parameters.values()))
    return f"a network of {' -> '.join(map(str, LAYERS))} units with {count:,} parameters"


def _graph_bytes(network: nx.MultiDiGraph[Any]) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, GRAPH)
        save_graph(network, path)
        return path.read_bytes()


def _npz_bytes(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _train(directory: Path, write: Write) -> int:
    """Run the emitted file as anybody would; its parameters go where no file of the user's is lost."""
    _heading("3. The training", f"{_python(directory)} {CODE} {DATA} {' '.join(SETTINGS)} --save {PARAMETERS}")
    code, data = (directory / CODE).resolve(), (directory / DATA).resolve()
    if not sys.stderr.isatty():  # where the program shows no bar
        _note("training ...")
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, str(code), str(data), *SETTINGS, "--save", PARAMETERS]
        done = subprocess.run(command, cwd=scratch, stdout=subprocess.PIPE, text=True)
        print(done.stdout, end="")
        if done.returncode == 0:
            write(directory / PARAMETERS, Path(scratch, PARAMETERS).read_bytes())
    return done.returncode


def _accuracy(program: Program, directory: Path, held_out: Arrays) -> float:
    """Of the saved parameters, in the emitted program."""
    trainer = program.load().Trainer.load(directory / PARAMETERS)
    scores = trainer.predict(x=held_out["x"])
    return float((scores.argmax(axis=1) == held_out["t"]).mean())


FILES = {
    GRAPH: "the network, a networkx graph as JSON",
    CODE: "the program that trains it: one file, needs only NumPy",
    DATA: "the images and labels it was trained on (UCI; E. Alpaydin, C. Kaynak; CC BY 4.0)",
    HELD_OUT: "those held out, on which the accuracy is measured",
    PARAMETERS: "the trained parameters, and the optimizer's state to go on from",
}
RECOUNT = (
    f"import numpy, {Path(CODE).stem} as d; h = numpy.load('{HELD_OUT}'); "
    f"print((d.Trainer.load('{PARAMETERS}').predict(x=h['x']).argmax(1) == h['t']).mean())"
)
NEXT = {
    "train on": f"{CODE} {DATA} --resume {PARAMETERS} --save more.npz",
    "the accuracy again": f'-c "{RECOUNT}"',
    "the same program as a textbook writes it": f"-m symgrad emit {GRAPH} --style readable",
    "every gradient in index notation": f"-m symgrad inspect {GRAPH} --indexed",
    "the gradients at another random point": f"-m symgrad verify {GRAPH} --seed 1",
}


def _print_files(directory: Path) -> None:
    width = max(map(len, FILES))
    print(
        f"in {directory.resolve()}:",
        *(f"  {name:<{width}}  {what}" for name, what in FILES.items()),
        "",
        "next, in that directory:",
        *(f"  {what}:\n    {_python(directory)} {arguments}" for what, arguments in NEXT.items()),
        sep="\n",
    )


def _python(directory: Path) -> str:
    """The running interpreter, as a shell in the directory calls it."""
    path, folder = Path(sys.executable), Path(os.path.abspath(directory))
    if path.is_relative_to(folder):
        path = path.relative_to(folder)
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def _verdict(verified: bool, accuracy: float) -> int:
    if not verified:
        _note("symgrad: error: the gradients differ from the numeric ones")
    if accuracy < REQUIRED:
        _note(f"symgrad: error: the accuracy is {accuracy:.2%}, expected {REQUIRED:.0%} or more")
    return 0 if verified and accuracy >= REQUIRED else 1
