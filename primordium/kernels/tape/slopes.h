/* Derivatives of the operations: name and slope by each operand, in operands (a, b), value y and constant k.
 *
 * Operations that are not here have no gradient. They say what the primitives' derivative rules say.
 */

#define UNARY_SLOPES(X)                                                                         \
    X(copy, 1.0)                                                                                \
    X(neg, -1.0)                                                                                \
    X(abs, F(sign)(a))                                                                          \
    X(square, 2.0 * a)                                                                          \
    X(cube, 3.0 * (a * a))                                                                      \
    X(sqrt, 0.5 / FABS(y))                                                                      \
    X(sqrt_safe, (0.5 * FABS(a) + k) / ((FABS(a) + k) * SQRT(FABS(a) + k)))                     \
    X(exp, y)                                                                                   \
    X(expm1, F(exp)(a))                                                                         \
    X(log, F(sign)(a) * F(sign)(a) / (FABS(a) + k))                                             \
    X(log_safe, F(sign)(a) * F(sign)(a) / (FABS(a) + k))                                        \
    X(log1p, 1.0 / (1.0 + FABS(a)))                                                             \
    X(sin, F(cos)(a))                                                                           \
    X(cos, -F(sin)(a))                                                                          \
    X(sinc, F(sinc_slope)(a, y))                                                                \
    X(sinh, F(cosh)(a))                                                                         \
    X(cosh, F(sinh)(a))                                                                         \
    X(tanh, 1.0 - y * y)                                                                        \
    X(asinh, 1.0 / SQRT(1.0 + a * a))                                                           \
    X(atan, 1.0 / (1.0 + a * a))                                                                \
    X(relu, a > 0 ? 1.0 : 0.0)                                                                  \
    X(sigmoid, y * (1.0 - y))                                                                   \
    X(softplus, F(sigmoid)(a))                                                                  \
    X(gauss, -2.0 * a * y)                                                                      \
    X(erf, 1.1283791670955126 * F(gauss)(a))

#define BINARY_SLOPES(X)                                                                        \
    X(add, 1.0, 1.0)                                                                            \
    X(sub, 1.0, -1.0)                                                                           \
    X(mul, b, a)                                                                                \
    X(div, 1.0 / b, -y / b)                                                                     \
    X(div_safe, b / (b * b + k), (a - 2.0 * b * y) / (b * b + k))                               \
    X(pow, b * F(signed_power)(FABS(a), b - 1.0, k), y * F(signed_log)(FABS(a) + (a == 0), k))  \
    X(max, F(share)(a, b), F(share)(b, a))                                                      \
    X(min, F(share)(b, a), F(share)(a, b))
