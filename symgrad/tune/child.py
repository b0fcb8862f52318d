"""What measures one program: a script that imports nothing of symgrad, because the program must import NumPy first.

    python child.py PROGRAM.py DATA.npz

It prints the loss. Then, for each line of standard input, a number of seconds, it makes training steps for so long,
after one that is not timed, and prints the seconds that a step took.
"""

from __future__ import annotations

import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

RATE = 1e-12  # no step changes the parameters by what could be seen, or the work would change with them


def loaded(path: str) -> Any:
    """The program as a module, executed."""
    spec = spec_from_file_location("program", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["program"] = module
    spec.loader.exec_module(module)
    return module


def main(program: str, data: str) -> None:
    module = loaded(program)
    import numpy as np

    batch = {}
    with np.load(data, allow_pickle=False) as archive:
        for name, array in archive.items():
            batch[name] = module._aligned(array.shape, array.dtype)
            batch[name][...] = array
    trainer = module.Trainer(module.init_params(0), lr=RATE)
    print(trainer.loss(**batch), flush=True)
    for line in sys.stdin:
        print(burst(trainer, batch, float(line)), flush=True)


def burst(trainer: Any, batch: dict[str, Any], seconds: float) -> float:
    """The mean time of the steps."""
    trainer.step(**batch)
    count, start = 0, time.perf_counter()
    while True:
        trainer.step(**batch)
        count += 1
        took = time.perf_counter() - start
        if took >= seconds:
            return took / count


if __name__ == "__main__":
    main(*sys.argv[1:])
