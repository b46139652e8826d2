"""Small networks whose normalization-activation sites take any layer, one file a family."""
