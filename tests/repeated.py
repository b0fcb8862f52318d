"""Loss and gradients of an emitted program, computed twice in the same memory: no step may see the one before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def loss_and_grads(module: Any, params: Mapping[str, Any], **inputs: Any) -> tuple[float, dict[str, np.ndarray]]:
    """What the module's function of that name gives, which must be the same bits in a second step."""
    arrays, dims = module._check_inputs(inputs, module.INPUTS)
    network, grads = module._bound(params, arrays, dims)
    found = []
    for _ in range(2):
        module._run(network.whole, arrays)
        loss = float(network.loss)
        module._run(network.tasks, arrays)
        found.append((loss, {name: np.array(gradient) for name, gradient in grads.items()}))
    (loss, first), (again, second) = found
    assert np.array_equal(loss, again, equal_nan=True)
    for name, gradient in first.items():
        np.testing.assert_array_equal(second[name], gradient, err_msg=f"{name} in the second step")
    return loss, first
