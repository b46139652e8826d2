/* The machine of one number type and one instruction set: loops over tiles, and kernels over their values.
 *
 * Included once for each; F(name) is the name of this copy, REAL the type.
 */

#include "functions.h"

/* ---- elementwise kernels: dst may be an operand's own memory, so loops are marked free of dependences ---- */

#if !IS_DOUBLE
static int F(beyond)(const REAL *x, ptrdiff_t n) {
    int found = 0;
    SIMD_REDUCTION(|, found)
    for (ptrdiff_t i = 0; i < n; i++) found |= FABS(x[i]) > TRIGONOMETRIC_LIMIT;
    return found;
}

static int F(far_angles)(int op, const REAL *x, REAL *y, ptrdiff_t n) {
    if ((op != OP_sin && op != OP_cos && op != OP_sinc) || !F(beyond)(x, n)) return 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        double a = x[i];
        y[i] = (REAL)(op == OP_cos ? cos(a) : op == OP_sin || a == 0 ? sin(a) : sin(a) / a);
        if (op == OP_sinc && a == 0) y[i] = 1;
    }
    return 1;
}
#endif

static void F(unary)(int op, const REAL *x, REAL *y, ptrdiff_t n, REAL k) {
#if !IS_DOUBLE
    if (F(far_angles)(op, x, y, n)) return;
#endif
    (void)k;
    switch (op) {
#define X(name, expression)                   \
    case OP_##name:                           \
        SIMD for (ptrdiff_t i = 0; i < n; i++) { \
            REAL a = x[i];                    \
            y[i] = expression;                \
        }                                     \
        break;
        UNARY_OPERATIONS(X)
#undef X
    }
}

/* Rows of m values; an operand's inner stride is 1, or 0 where it lacks the inner axes. */
static void F(binary)(int op, const REAL *p, const REAL *q, REAL *y, const Nest *nest, REAL k) {
    ptrdiff_t rows = nest->n[1], m = nest->n[0];
    (void)k;
    switch (op) {
#define X(name, expression)                                                                \
    case OP_##name:                                                                        \
        for (ptrdiff_t r = 0; r < rows; r++, p += nest->a[1], q += nest->b[1], y += m) {   \
            if (nest->a[0] & nest->b[0]) {                                                 \
                SIMD for (ptrdiff_t i = 0; i < m; i++) {                                   \
                    REAL a = p[i], b = q[i];                                               \
                    y[i] = expression;                                                     \
                }                                                                          \
            } else if (nest->a[0]) {                                                       \
                const REAL b = q[0];                                                       \
                SIMD for (ptrdiff_t i = 0; i < m; i++) {                                   \
                    REAL a = p[i];                                                         \
                    y[i] = expression;                                                     \
                }                                                                          \
            } else {                                                                       \
                const REAL a = p[0];                                                       \
                SIMD for (ptrdiff_t i = 0; i < m; i++) {                                   \
                    REAL b = q[i];                                                         \
                    y[i] = expression;                                                     \
                }                                                                          \
            }                                                                              \
        }                                                                                  \
        break;
        BINARY_OPERATIONS(X)
#undef X
    }
}

static void F(ternary)(int op, const REAL *p, const REAL *q, const REAL *s, REAL *y, ptrdiff_t n) {
    switch (op) {
#define X(name, expression)                          \
    case OP_##name:                                  \
        SIMD for (ptrdiff_t i = 0; i < n; i++) {     \
            REAL a = p[i], b = q[i], c = s[i];       \
            y[i] = expression;                       \
        }                                            \
        break;
        TERNARY_OPERATIONS(X)
#undef X
    }
}

static void F(expand)(const REAL *p, REAL *y, const Nest *nest) {
    ptrdiff_t m = nest->n[0];
    for (ptrdiff_t r = 0; r < nest->n[1]; r++, p += nest->a[1], y += m) {
        if (nest->a[0])
            memcpy(y, p, (size_t)m * sizeof(REAL));
        else
            for (ptrdiff_t i = 0; i < m; i++) y[i] = p[0];
    }
}

/* ---- statistics ----------------------------------------------------------------------------------------- */

#define TERM(x) (mode == TOTAL ? (x) : mode == SQUARES ? (x) * (x) : ((x) - centre) * ((x) - centre))

#if defined(__GNUC__)
typedef REAL F(lanes) __attribute__((vector_size(64)));
typedef REAL F(half_lanes) __attribute__((vector_size(32)));
typedef REAL F(quarter_lanes) __attribute__((vector_size(16)));

/* The sum of lanes, half to half: a compiler that may not reorder adds them one by one. */
static INLINE REAL F(add_lanes)(const F(lanes) *lanes) {
    F(half_lanes) low, high;
    memcpy(&low, lanes, 32);
    memcpy(&high, (const char *)lanes + 32, 32);
    low += high;
    F(quarter_lanes) first, second;
    memcpy(&first, &low, 16);
    memcpy(&second, (const char *)&low + 16, 16);
    first += second;
#if IS_DOUBLE
    return first[0] + first[1];
#else
    return (first[0] + first[2]) + (first[1] + first[3]);
#endif
}
#endif

/* Σx, Σx² or Σ(x - mean)² of one short run, in the type itself, lane by lane. */
static INLINE REAL F(run_sum)(int mode, const REAL *x, ptrdiff_t m, REAL centre) {
    ptrdiff_t i = 0;
    REAL sum = 0;
    (void)centre;
#if defined(__GNUC__)
    const ptrdiff_t width = sizeof(F(lanes)) / sizeof(REAL);
    F(lanes) lanes = {0};
    for (; i + width <= m; i += width) {
        F(lanes) v;
        memcpy(&v, x + i, sizeof v);
        lanes += TERM(v);
    }
    const F(lanes) whole = lanes;  /* a copy, since what is pointed at is stored in every turn of the loop */
    sum = F(add_lanes)(&whole);
#endif
    for (; i < m; i++) sum += TERM(x[i]);
    return sum;
}
#undef TERM

/* Adds up rows, run by run in double; a row's number may be the next one's too. */
static INLINE void F(row_sums)(int mode, const REAL *x, const Nest *nest, const double *mean, double *out) {
    ptrdiff_t length = nest->n[0];
    for (ptrdiff_t r = 0; r < nest->n[1]; r++, x += nest->a[1], out += nest->b[1], mean += nest->b[1]) {
        const REAL centre = mode == CENTRED ? (REAL)*mean : 0;
        double total = 0;
        for (ptrdiff_t start = 0; start < length; start += RUN)
            total += F(run_sum)(mode, x + start, at_most(RUN, length - start), centre);
        *out += total;
    }
}

static double F(extremum)(int mode, const REAL *x, ptrdiff_t m) {
    REAL best = mode == LARGEST_OF ? -INFINITY : INFINITY;
    int odd = 0;
    if (mode == LARGEST_OF) {
        SIMD_REDUCTION(max, best)
        for (ptrdiff_t i = 0; i < m; i++) best = x[i] > best ? x[i] : best;
    } else {
        SIMD_REDUCTION(min, best)
        for (ptrdiff_t i = 0; i < m; i++) best = x[i] < best ? x[i] : best;
    }
    SIMD_REDUCTION(|, odd)
    for (ptrdiff_t i = 0; i < m; i++) odd |= x[i] != x[i];
    return odd ? NAN : best;
}

static void F(column)(int mode, const REAL *x, ptrdiff_t m, const double *mean, double *out) {
    switch (mode) {
        case TOTAL:
            SIMD for (ptrdiff_t i = 0; i < m; i++) out[i] += x[i];
            break;
        case SQUARES:
            SIMD for (ptrdiff_t i = 0; i < m; i++) out[i] += (double)x[i] * x[i];
            break;
        case CENTRED:
            SIMD for (ptrdiff_t i = 0; i < m; i++) {
                double d = x[i] - mean[i];
                out[i] += d * d;
            }
            break;
        case LARGEST_OF:
            SIMD for (ptrdiff_t i = 0; i < m; i++) out[i] = larger(out[i], x[i]);
            break;
        default:
            SIMD for (ptrdiff_t i = 0; i < m; i++) out[i] = smaller(out[i], x[i]);
    }
}

/* Extrema of rows. */
static void F(row_extrema)(int mode, const REAL *x, const Nest *nest, double *out) {
    for (ptrdiff_t r = 0; r < nest->n[1]; r++, x += nest->a[1], out += nest->b[1]) {
        double best = F(extremum)(mode, x, nest->n[0]);
        *out = mode == LARGEST_OF ? larger(*out, best) : smaller(*out, best);
    }
}

/* Rows, or columns where neighbours go to different numbers. */
static void F(reduce_rows)(int mode, const REAL *x, const Nest *nest, const double *mean, double *out) {
    if (nest->b[0])
        for (ptrdiff_t r = 0; r < nest->n[1]; r++)
            F(column)(mode, x + r * nest->a[1], nest->n[0], mean + r * nest->b[1], out + r * nest->b[1]);
    else if (mode == TOTAL)
        F(row_sums)(TOTAL, x, nest, mean, out);
    else if (mode == SQUARES)
        F(row_sums)(SQUARES, x, nest, mean, out);
    else if (mode == CENTRED)
        F(row_sums)(CENTRED, x, nest, mean, out);
    else
        F(row_extrema)(mode, x, nest, out);
}

/* Reduces a whole operand into out, one number a position that is kept. */
static void F(reduce)(int mode, const REAL *x, const Nest *nest, const double *mean, double *out) {
    for (ptrdiff_t i3 = 0; i3 < nest->n[3]; i3++)
        for (ptrdiff_t i2 = 0; i2 < nest->n[2]; i2++) {
            ptrdiff_t o = i3 * nest->b[3] + i2 * nest->b[2];
            F(reduce_rows)(mode, x + i3 * nest->a[3] + i2 * nest->a[2], nest, mean + o, out + o);
        }
}

/* The statistic of one tile: first is Σx, Σx², the mean or the extremum; second Σ(x - mean)². */
static void F(statistic)(const Run *run, const Step *step, double *first, double *second) {
    int op = step->code[OP];
    const REAL *x = run->at[step->code[A]];
    ptrdiff_t outputs = step->outputs;
    double start = op == OP_amax ? -INFINITY : op == OP_amin ? INFINITY : 0;
    for (ptrdiff_t i = 0; i < outputs; i++) first[i] = start;
    int mode = op == OP_rms ? SQUARES : op == OP_amax ? LARGEST_OF : op == OP_amin ? SMALLEST_OF : TOTAL;
    F(reduce)(mode, x, &step->nest, first, first);
    if (op != OP_var && op != OP_std) return;
    for (ptrdiff_t i = 0; i < outputs; i++) first[i] /= step->count, second[i] = 0;
    F(reduce)(CENTRED, x, &step->nest, first, second);
}

static void F(finish)(const Run *run, const Step *step, const double *first, const double *second) {
    REAL *y = run->at[step->code[DST]];
    double k = step->code[K] < 0 ? 0 : run->constants[step->code[K]];
    double lacking = positions(run->sizes, step->code[LACKING]);
    for (ptrdiff_t i = 0; i < step->outputs; i++) {
        switch (step->code[OP]) {
            case OP_sum: y[i] = (REAL)(first[i] * lacking); break;
            case OP_mean: y[i] = (REAL)(first[i] / step->count); break;
            case OP_rms: y[i] = (REAL)sqrt(first[i] / step->count + k); break;
            case OP_var: y[i] = (REAL)(second[i] / step->count); break;
            case OP_std: y[i] = (REAL)sqrt(second[i] / step->count + k); break;
            default: y[i] = (REAL)first[i];
        }
    }
}

#include "along.h"

/* ---- the loop over tiles ---------------------------------------------------------------------------------*/

static void F(elementwise)(const Run *run, const Step *step) {
    const int32_t *code = step->code;
    const Nest *nest = &step->nest;
    REAL k = code[K] < 0 ? 0 : (REAL)run->constants[code[K]];
    const REAL *p = run->at[code[A]];
    REAL *y = run->at[code[DST]];
    if (code[OP] < FIRST_BINARY) {
        F(unary)(code[OP], p, y, step->outputs, k);
        return;
    }
    if (code[OP] >= FIRST_TERNARY && code[OP] != OP_expand) {
        F(ternary)(code[OP], p, run->at[code[B]], run->at[code[C]], y, step->outputs);
        return;
    }
    const REAL *q = code[OP] == OP_expand ? p : run->at[code[B]];
    ptrdiff_t inner = nest->n[0] * nest->n[1];
    for (ptrdiff_t i3 = 0; i3 < nest->n[3]; i3++)
        for (ptrdiff_t i2 = 0; i2 < nest->n[2]; i2++, y += inner) {
            const REAL *p2 = p + i3 * nest->a[3] + i2 * nest->a[2];
            const REAL *q2 = q + i3 * nest->b[3] + i2 * nest->b[2];
            if (code[OP] == OP_expand)
                F(expand)(p2, y, nest);
            else
                F(binary)(code[OP], p2, q2, y, nest, k);
        }
}

static void F(perform)(Run *run, const Step *step, const Tile *tile) {
    if (step->code[OP] < FIRST_STATISTIC) {
        F(elementwise)(run, step);
        return;
    }
    if (step->code[OP] >= FIRST_ALONG) {
        F(along)(run, step, tile);
        return;
    }
    if (step->kind == FROM_ACCUMULATOR) {
        double *sums = run->at[step->code[A]];
        F(finish)(run, step, sums, sums + step->total);
        return;
    }
    F(statistic)(run, step, run->first, run->second);
    if (step->kind == TO_ACCUMULATOR)
        merge(run, step, tile);
    else
        F(finish)(run, step, run->first, run->second);
}

/* Values that are there before any step: constants, and numbers of positions. */
static void F(fill)(const Run *run) {
    for (int r = 0; r < run->register_count; r++) {
        const Register *it = &run->registers[r];
        if (it->kind == CONSTANT) *(REAL *)run->base[r] = (REAL)run->constants[it->index];
        if (it->kind == SIZE) *(REAL *)run->base[r] = (REAL)positions(run->sizes, it->index);
    }
}

/* Phase by phase: first what does not vary over samples, then tile by tile what does. */
static void F(execute)(Run *run) {
    int next = 0;
    F(fill)(run);
    for (int phase = 0; phase < run->phases; phase++) {
        int whole = run->phase_steps[2 * phase], tiled = run->phase_steps[2 * phase + 1];
        Tile all = {0, 0, {1, run->sizes[1], run->sizes[2], run->sizes[3]}, 1};
        place(run, &all);
        bind(run, next, whole, &all);
        for (int i = 0; i < whole; i++) F(perform)(run, &run->steps[next + i], &all);
        next += whole;
        for (Tile tile = first_tile(run); tiled && more(run, &tile); advance(run, &tile)) {
            if (tile.changed) bind(run, next, tiled, &tile);
            place(run, &tile);
            for (int i = 0; i < tiled; i++) F(perform)(run, &run->steps[next + i], &tile);
        }
        next += tiled;
    }
}
