"""Primordium discovers normalization-activation layers, activation functions and optimizers."""
