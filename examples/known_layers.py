"""For an engineer: a known layer or activation as a plain torch module, alone and in a model that exists."""

import torch
from torch import nn

import primordium as pm

x = torch.randn(8, 64, 14, 14)

layer = pm.layer("evonorm_s0", 64)
print(layer(x).shape, [name for name, _ in layer.named_parameters()])

golu = pm.activation("golu")
print(golu(torch.linspace(-2, 2, 5)))

model = nn.Sequential(
    nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.BatchNorm2d(64)
)
replacement = pm.replace(model, "evonorm_b0")
print(replacement.report())
print(replacement.model(torch.randn(2, 3, 16, 16)).shape)
