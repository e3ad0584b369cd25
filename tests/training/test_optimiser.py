"""What moves weights is what torch's own classes do, without what they load."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vedette.training.optimiser import TorchOptimiser
from vedette.training.task import Optimiser

Made = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
RULES: dict[str, tuple[Optimiser, Made]] = {
    "sgd": (Optimiser(name="sgd"), lambda p: torch.optim.SGD(p)),
    "momentum, decay": (
        Optimiser(name="sgd", momentum=0.9, decay=0.01),
        lambda p: torch.optim.SGD(p, momentum=0.9, weight_decay=0.01),
    ),
    "adam": (Optimiser(), lambda p: torch.optim.Adam(p, fused=True)),
    "adam, decay": (Optimiser(decay=0.1), lambda p: torch.optim.Adam(p, weight_decay=0.1, fused=True)),
    "adamw": (Optimiser(name="adamw", decay=0.1), lambda p: torch.optim.AdamW(p, weight_decay=0.1, fused=True)),
}


def parameters() -> dict[str, torch.nn.Parameter]:
    rng = np.random.default_rng(3)
    return {
        name: torch.nn.Parameter(torch.from_numpy(rng.normal(size=shape).astype(np.float32))) for name, shape in (("w", (5, 7)), ("b", 5))
    }


@pytest.mark.parametrize("name", RULES)
def test_it_is_torchs_to_the_bit_and_goes_on_from_what_is_remembered(name: str) -> None:
    settings, made = RULES[name]
    ours, theirs = parameters(), parameters()
    optimiser, torchs = TorchOptimiser(settings, ours, {}), made(list(theirs.values()))
    for number in range(8):
        if number == 5:
            kept = optimiser.remembered()
            optimiser = TorchOptimiser(settings, ours, {key: value.copy() for key, value in kept.items()})
        for group in torchs.param_groups:
            group["lr"] = 0.1 / (1 + number)
        optimiser.zero_grad()
        torchs.zero_grad()
        for one, other in zip(ours.values(), theirs.values(), strict=True):
            # The bias has no gradient at first.
            if number > 1 or one.ndim == 2:
                one.grad = torch.sin(one.detach() * (number + 1))
                other.grad = torch.sin(other.detach() * (number + 1))
        optimiser.step(0.1 / (1 + number))
        torchs.step()
        for key in ours:
            np.testing.assert_array_equal(ours[key].detach().numpy(), theirs[key].detach().numpy())
    for key, parameter in theirs.items():
        wanted = {what: value.numpy() for what, value in torchs.state.get(parameter, {}).items() if value is not None}
        found = {place.removeprefix(f"{key}/"): value for place, value in optimiser.remembered().items() if place.startswith(f"{key}/")}
        assert found.keys() == wanted.keys()
        for what, value in wanted.items():
            np.testing.assert_array_equal(found[what], value)


def test_training_does_not_load_torchs_compiler() -> None:
    """It takes a process 2 s and 80 MB."""
    code = """
        import sys
        import numpy as np
        from vedette.detectors.lstm import LstmAutoencoder
        LstmAutoencoder(window={"size": 4}, hidden=(3, 2), epochs=1).fit(np.random.default_rng(0).normal(size=(60, 3)))
        assert "torch" in sys.modules
        print("torch._dynamo" in sys.modules)
    """
    lines = "\n".join(line.strip() for line in code.strip().splitlines())
    assert subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout == "False\n"
