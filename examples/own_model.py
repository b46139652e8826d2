"""For a researcher: find a layer for a network and data of one's own, then take it home as a file."""

from collections.abc import Callable
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import primordium as pm


def network(site: Callable[[int, bool], nn.Module]) -> nn.Module:
    """The network to improve; ``site(channels, apply_act)`` is the layer under search."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), site(16, True),
        nn.Conv2d(16, 16, 3, stride=2, padding=1), site(16, True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def main(directory: Path = Path("runs/own_model"), candidates: int = 20, steps: int = 100) -> None:
    """Search, print the leaderboard and try the winner."""
    images, targets = load_digits(return_X_y=True)
    inputs = torch.tensor(images / 16.0 - 0.5, dtype=torch.float32).reshape(-1, 1, 8, 8)
    run = pm.search(
        "quick",
        directory,
        model_fn=network,
        data=(inputs, targets),
        overrides=[f"candidates={candidates}", f"training.steps={steps}"],
    )
    for line in run.leaderboard():
        print(f"{line.name:<12} {line.mean:.3f} ± {line.interval:.3f}  {line.text}")
    print(network(lambda channels, apply_act: run.layer(channels, apply_act=apply_act))(inputs[:2]).shape)


if __name__ == "__main__":
    main()
