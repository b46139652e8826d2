"""Run configurations: the schema and the shipped presets."""
