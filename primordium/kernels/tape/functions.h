/* Elementary functions on one number, without branches, so that loops over them vectorize.
 *
 * Included once for each type and instruction set; F(name) is the name of this copy. NaN and infinity keep
 * their meaning: nothing here needs or allows -ffast-math. Errors over the whole range, measured against
 * long double, are printed by benchmarks/tape.py. Polynomials are Taylor series, except those of atan and erf
 * in float32 (fitted, minimax in relative error). In float64 what has no formula here is the C library's.
 */

static INLINE UINT F(bits)(REAL x) {
    UINT u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static INLINE REAL F(from_bits)(UINT u) {
    REAL x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^k of a normal exponent. */
static INLINE REAL F(power_of_two)(UINT k) { return F(from_bits)((k + BIAS) << MANTISSA); }

/* e^r - 1 where x = k ln 2 + r, |r| <= ln 2 / 2. Adding MAGIC leaves the nearest whole number in the low bits. */
static INLINE REAL F(reduced_exp)(REAL x, UINT *k) {
    REAL t = x * LITERAL(1.4426950408889634) + MAGIC;
    *k = F(bits)(t) - F(bits)(MAGIC);
    REAL n = t - MAGIC;
    REAL r = (x - n * LN2_HIGH) - n * LN2_LOW;
    REAL p = EXP_START;
    UNROLL
    for (int i = EXP_TERMS - 1; i >= 2; i--) p = p * r + (REAL)inverse_factorial[i];
    return r + r * r * p;
}

/* Where e^x would overflow or vanish, the last argument where it does; NaN stays. */
static INLINE REAL F(exp_range)(REAL x) {
    x = x > EXP_HIGH ? EXP_HIGH : x;
    return x < EXP_LOW ? EXP_LOW : x;
}

/* Half of k, rounded down, so that 2^k is the product of two normal powers. */
static INLINE UINT F(half)(UINT k) { return ((k + 4 * BIAS + 4) >> 1) - (2 * BIAS + 2); }

static INLINE REAL F(exp)(REAL x) {
    UINT k;
    REAL p = F(reduced_exp)(F(exp_range)(x), &k);
    UINT h = F(half)(k);
    return (LITERAL(1.0) + p) * F(power_of_two)(h) * F(power_of_two)(k - h);
}

static INLINE REAL F(expm1)(REAL x) {
    UINT k;
    REAL p = F(reduced_exp)(F(exp_range)(x), &k);
    UINT h = F(half)(k);
    REAL a = F(power_of_two)(h), b = F(power_of_two)(k - h), s = a * b;
    REAL near = p * s + (s - LITERAL(1.0));
    REAL far = (LITERAL(1.0) + p) * a * b;
    return x > LITERAL(60.0) ? far : near;
}

/* ln(u + c) of a normal u and a c that rounding lost from it; for other u, see below. */
static INLINE REAL F(log_of)(REAL u, REAL c) {
    UINT v = F(bits)(u) - F(bits)(LITERAL(0.70710678118654752));
    UINT k = ((v + ((UINT)BIAS << MANTISSA)) >> MANTISSA) - BIAS;
    REAL m = F(from_bits)((v & (((UINT)1 << MANTISSA) - 1)) + F(bits)(LITERAL(0.70710678118654752)));
    REAL n = F(from_bits)(F(bits)(MAGIC) + k) - MAGIC;
    REAL f = (m - LITERAL(1.0)) + c * F(power_of_two)(0 - k);
    REAL h = LITERAL(0.5) * f * f;
#if IS_DOUBLE
    /* ln(1 + f) = f - h + s (h + R(s²)), s = f / (2 + f). */
    REAL s = f / (2.0 + f), z = s * s, p = 2.0 / 23;
    UNROLL
    for (int i = 10; i >= 1; i--) p = p * z + 2.0 / (2 * i + 1);
    REAL tail = s * (h + z * p);
#else
    REAL tail = f * f * f * (0.33333316634468135f + f * (-0.25000812021985463f + f * (0.20002295040774953f
        + f * (-0.16624498764827672f + f * (0.14180956370548445f + f * (-0.13129100537152716f
        + f * (0.12883496822470816f - f * 0.07860943126366012f)))))));
#endif
    return n * LN2_HIGH + (f - (h - (tail + n * LN2_LOW)));
}

/* The natural logarithm: -inf at 0, NaN below. */
static INLINE REAL F(log)(REAL x) {
    int tiny = x < SMALLEST_NORMAL;
    REAL r = F(log_of)(tiny ? x * SUBNORMAL_SCALE : x, 0) - (tiny ? SUBNORMAL_LOG : 0);
    r = x > LARGEST ? x : r;
    r = x == 0 ? -INFINITY : r;
    return x < 0 ? NAN : x == x ? r : x;
}

/* The same of x that is no number below the least normal one. */
static INLINE REAL F(log_normal)(REAL x) {
    REAL r = F(log_of)(x, 0);
    return x <= LARGEST ? r : x;
}

/* ln(1 + a) of a >= 0. */
static INLINE REAL F(log1p_positive)(REAL a) {
    REAL u = LITERAL(1.0) + a;
    REAL r = F(log_of)(u, a - (u - LITERAL(1.0)));
    return u <= LARGEST ? r : u;
}

static INLINE REAL F(sign)(REAL x) {
    return (x > 0 ? LITERAL(1.0) : 0) - (x < 0 ? LITERAL(1.0) : 0);
}
static INLINE REAL F(max)(REAL a, REAL b) { return (a > b) | (a != a) ? a : b; }
static INLINE REAL F(min)(REAL a, REAL b) { return (a < b) | (a != a) ? a : b; }
static INLINE REAL F(relu)(REAL x) { return x <= 0 ? 0 : x; }
static INLINE REAL F(sigmoid)(REAL x) { return LITERAL(1.0) / (LITERAL(1.0) + F(exp)(-x)); }
static INLINE REAL F(gauss)(REAL x) { return F(exp)(-(x * x)); }
static INLINE REAL F(root)(REAL x) { return F(sign)(x) * SQRT(FABS(x)); }
static INLINE REAL F(safe_root)(REAL x, REAL eps) { return x / SQRT(FABS(x) + eps); }
static INLINE REAL F(safe_div)(REAL a, REAL b, REAL eps2) { return a * (b / (b * b + eps2)); }

static INLINE REAL F(signed_log)(REAL x, REAL eps) { return F(sign)(x) * F(log)(FABS(x) + eps); }
static INLINE REAL F(safe_log)(REAL x, REAL eps) { return F(sign)(x) * F(log_normal)(FABS(x) + eps); }
static INLINE REAL F(share)(REAL a, REAL b) { return a > b ? LITERAL(1.0) : a == b ? LITERAL(0.5) : 0; }

static INLINE REAL F(log1p)(REAL x) {
    REAL r = F(log1p_positive)(FABS(x));
    return x < 0 ? -r : r;
}

static INLINE REAL F(softplus)(REAL x) {
    return (x > 0 ? x : 0) + F(log1p_positive)(F(exp)(-FABS(x)));
}

static INLINE REAL F(tanh)(REAL x) {
    REAL a = FABS(x);
    REAL e = F(expm1)(LITERAL(2.0) * (a > LITERAL(20.0) ? LITERAL(20.0) : a));
    REAL r = e / (e + LITERAL(2.0));
    return x < 0 ? -r : r;
}

/* Half the square of e^(a/2) has the range of cosh; e^a has not. */
static INLINE REAL F(cosh)(REAL x) {
    REAL e = F(exp)(LITERAL(0.5) * FABS(x));
    REAL square = e * e;
    return LITERAL(0.5) * e * e + LITERAL(0.5) / square;
}

static INLINE REAL F(sinh)(REAL x) {
    REAL a = FABS(x);
    REAL m = F(expm1)(a), e = F(exp)(LITERAL(0.5) * a);
    REAL near = LITERAL(0.5) * (m + m / (m + LITERAL(1.0))), far = LITERAL(0.5) * e * e;
    REAL r = a > LITERAL(20.0) ? far : near;
    return x < 0 ? -r : r;
}

static INLINE REAL F(asinh)(REAL x) {
    REAL a = FABS(x);
    int big = a > LITERAL(1e8);
    REAL near = a + a * a / (LITERAL(1.0) + SQRT(LITERAL(1.0) + a * a));
    REAL r = F(log1p_positive)(big ? a : near) + (big ? LITERAL(0.69314718055994531) : 0);
    return x < 0 ? -r : r;
}

#if IS_DOUBLE

static INLINE REAL F(sin)(REAL x) { return sin(x); }
static INLINE REAL F(cos)(REAL x) { return cos(x); }
static INLINE REAL F(atan)(REAL x) { return atan(x); }
static INLINE REAL F(erf)(REAL x) { return erf(x); }
static INLINE REAL F(power)(REAL a, REAL b) { return pow(a, b); }
#define TRIGONOMETRIC_LIMIT INFINITY

#else

/* Right for |x| <= TRIGONOMETRIC_LIMIT: the nearest multiple of pi/2 is taken off in double. */
#define TRIGONOMETRIC_LIMIT 1e9f

static INLINE float F(sine_of)(float x, uint32_t quadrants) {
    double t = (double)x * 0.63661977236758134 + 6755399441055744.0;
    uint64_t u;
    memcpy(&u, &t, sizeof u);
    uint32_t q = (uint32_t)u + quadrants;
    double n = t - 6755399441055744.0;
    float r = (float)(((double)x - n * 1.5707963267341256) - n * 6.0771005065061922e-11);
    float z = r * r;
    float s = r + r * z * (-1.0f / 6 + z * (1.0f / 120 + z * (-1.0f / 5040 + z * (1.0f / 362880))));
    float c = 1.0f - 0.5f * z
        + z * z * (1.0f / 24 + z * (-1.0f / 720 + z * (1.0f / 40320 - z * (1.0f / 3628800))));
    float y = q & 1 ? c : s;
    return q & 2 ? -y : y;
}

static INLINE float F(sin)(float x) { return F(sine_of)(x, 0); }
static INLINE float F(cos)(float x) { return F(sine_of)(x, 1); }

/* |x| is taken to [-tan(pi/8), tan(pi/8)] with one division. */
static INLINE float F(atan)(float x) {
    float a = FABS(x);
    int high = a > 2.41421356f, low = a <= 0.41421356f;
    float over = high ? -1.0f : low ? a : a - 1.0f, under = high ? a : low ? 1.0f : a + 1.0f;
    float t = over / under, z = t * t;
    float p = z * (-0.3333331534171544f + z * (0.19998478551186097f
        + z * (-0.14243628609261805f + z * (0.10594277051725078f - z * 0.06078858250833392f))));
    float r = (high ? 1.57079633f : low ? 0.0f : 0.785398163f) + (t + t * p);
    return x < 0 ? -r : r;
}

/* erf(a) = 1 - e^-q(a) for a >= 1, q of degree 7. */
static INLINE float F(erf)(float x) {
    float a = FABS(x), z = x * x;
    float near = x * (1.1283791285996403f + z * (-0.37612355739444914f + z * (0.11280411946372165f
        + z * (-0.02671771525703191f + z * (0.0049247974326325685f - z * 0.0005660184226170698f)))));
    float b = a > 4.0f ? 4.0f : a;
    float q = -0.0001834431750921505f + b * (1.1295568255551713f + b * (0.6332626223188939f
        + b * (0.10837246703063283f + b * (-0.0251789600404423f + b * (0.004193608022385989f
        + b * (-0.00043910571483122144f + b * 2.1496054324885338e-05f))))));
    float far = 1.0f - F(exp)(-q);
    return a < 1.0f ? near : x < 0 ? -far : far;
}

/* a^b of a >= 0, through double, where the product b·ln(a) keeps the digits that e^ needs. */
static INLINE float F(power)(float a, float b) {
    double r = WIDE(exp)((double)b * WIDE(log)((double)a));
    float y = (float)r;
    return (b == 0.0f) | (a == 1.0f) ? 1.0f : y;
}

#endif

static INLINE REAL F(signed_power)(REAL a, REAL b, REAL eps) {
    return F(sign)(a) * F(power)(FABS(a) + eps, b);
}

static INLINE REAL F(sinc)(REAL x) {
    REAL s = F(sin)(x);
    return x == 0 ? LITERAL(1.0) : s / x;
}
