"""Known methods and the registry that finds them, built-in and from outside."""
