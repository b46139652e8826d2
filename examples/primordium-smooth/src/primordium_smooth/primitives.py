"""A primitive: one operation of the graphs. Written in others, it has every back end and its derivative.

Yours: a name, the number of arguments, a line that says what it is, the formula, and the laws that it obeys.
"""

from primordium.primitives.primitive import Algebra, Primitive

smooth_clip = Primitive(
    "smooth_clip",
    1,
    "derived",
    "x/6 + 1/2 between 0 and 1: the hard sigmoid with softplus in place of ReLU",
    derive=lambda o, x: (o.softplus(x + 3.0) - o.softplus(x - 3.0)) / 6.0,
    algebra=Algebra(monotone=1, bounds=(0.0, 1.0)),
)
