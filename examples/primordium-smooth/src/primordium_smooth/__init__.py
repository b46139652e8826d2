"""Plugins for Primordium: smooth activations."""
