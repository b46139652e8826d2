/* The operations of the machine: name and expression of the operands (a, b, c) and the constant k.
 *
 * Names are the primitives' own; _safe is the protected form of one that has an attribute eps, k its ε (in
 * div_safe ε²); _positive one whose first argument has a positive range. magnitude is rms of a value that lacks
 * all axes; the slopes, written in the value, and share (1 for the larger, 1/2 each at a tie) are what derivative
 * rules write with several nodes.
 */

#define UNARY_OPERATIONS(X)                       \
    X(copy, a)                                    \
    X(neg, -a)                                    \
    X(abs, FABS(a))                               \
    X(sign, F(sign)(a))                           \
    X(square, a *a)                               \
    X(cube, a *a *a)                              \
    X(sqrt, F(root)(a))                           \
    X(sqrt_safe, F(safe_root)(a, k))              \
    X(magnitude, SQRT(a * a + k))                 \
    X(exp, F(exp)(a))                             \
    X(expm1, F(expm1)(a))                         \
    X(log, F(signed_log)(a, k))                   \
    X(log_safe, F(safe_log)(a, k))                \
    X(log_positive, F(log)(a + k))                \
    X(log1p, F(log1p)(a))                         \
    X(sin, F(sin)(a))                             \
    X(cos, F(cos)(a))                             \
    X(sinc, F(sinc)(a))                           \
    X(sinh, F(sinh)(a))                           \
    X(cosh, F(cosh)(a))                           \
    X(tanh, F(tanh)(a))                           \
    X(asinh, F(asinh)(a))                         \
    X(atan, F(atan)(a))                           \
    X(relu, F(relu)(a))                           \
    X(sigmoid, F(sigmoid)(a))                     \
    X(softplus, F(softplus)(a))                   \
    X(gauss, F(gauss)(a))                         \
    X(erf, F(erf)(a))                             \
    X(sigmoid_slope, a *(LITERAL(1.0) - a))       \
    X(tanh_slope, LITERAL(1.0) - a * a)

#define BINARY_OPERATIONS(X)                                 \
    X(add, a + b)                                            \
    X(sub, a - b)                                            \
    X(mul, a *b)                                             \
    X(div, a / b)                                            \
    X(div_safe, F(safe_div)(a, b, k))                        \
    X(pow, F(signed_power)(a, b, k))                         \
    X(pow_positive, F(power)(a + k, b))                      \
    X(max, F(max)(a, b))                                     \
    X(min, F(min)(a, b))                                     \
    X(greater, a > b ? LITERAL(1.0) : 0)                     \
    X(equal, a == b ? LITERAL(1.0) : 0)                      \
    X(share, F(share)(a, b))

#define TERNARY_OPERATIONS(X) X(where, a != 0 ? b : c)

#define STATISTICS(X) X(sum) X(mean) X(var) X(std) X(rms) X(amax) X(amin)

#define ALONG(X) X(index) X(cumsum) X(argsort) X(cumargmax) X(gather) X(scatter)
