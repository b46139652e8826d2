"""A graph made runnable: the reference back end, straight-line torch source, NumPy for screening."""
