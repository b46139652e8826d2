/* Dual numbers: values with their derivatives along one direction, of one instruction set, in double.
 *
 * Every register holds all points of all probes, whatever axes its value varies over; a statistic is written
 * back to each point that it was taken of. A derivative that is NULL is zero, and nothing is multiplied by it.
 */

static INLINE REAL F(sinc_slope)(REAL x, REAL y) {
    REAL square = x * x, series = x * (-1.0 / 3 + square * (1.0 / 30 - square / 840));
    return FABS(x) < 0.03 ? series : (F(cos)(x) - y) / x;
}

static void F(unary_slope)(int op, double k, const Dual *x, Dual *y, ptrdiff_t n) {
    const REAL *p = x->value, *q = y->value, *dx = x->slope;
    REAL *dy = y->slope;
    (void)k;
    switch (op) {
#define X(name, expression)                      \
    case OP_##name:                              \
        SIMD for (ptrdiff_t i = 0; i < n; i++) { \
            REAL a = p[i], y = q[i];             \
            (void)a, (void)y;                    \
            dy[i] = (expression) * dx[i];        \
        }                                        \
        return;
        UNARY_SLOPES(X)
#undef X
    default: y->slope = NULL;
    }
}

static void F(binary_slope)(int op, double k, const Dual *first, const Dual *second, Dual *y, ptrdiff_t n) {
    const REAL *p = first->value, *q = second->value, *v = y->value, *da = first->slope, *db = second->slope;
    REAL *dy = y->slope;
    (void)k;
    switch (op) {
#define LOOP(expression)                         \
    SIMD for (ptrdiff_t i = 0; i < n; i++) {     \
        REAL a = p[i], b = q[i], y = v[i];       \
        (void)a, (void)b, (void)y;               \
        dy[i] = expression;                      \
    }
#define X(name, by_first, by_second)             \
    case OP_##name:                              \
        if (!db) {                               \
            LOOP((by_first) * da[i])             \
        } else if (!da) {                        \
            LOOP((by_second) * db[i])            \
        } else {                                 \
            LOOP((by_first) * da[i] + (by_second) * db[i]) \
        }                                        \
        return;
        BINARY_SLOPES(X)
#undef X
#undef LOOP
    default: y->slope = NULL;
    }
}

static void F(where_slope)(const REAL *condition, const REAL *da, const REAL *db, REAL *dy, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL yes = condition[i] != 0 ? 1.0 : 0.0;
        dy[i] = !db ? yes * da[i] : !da ? (1.0 - yes) * db[i] : yes * da[i] + (1.0 - yes) * db[i];
    }
}

/* Sum, mean or extremum of each group of points, written to its points. */
static void F(spread)(const Probing *run, int op, const REAL *x, REAL *y) {
    const int32_t *of = run->groups.of;
    REAL *found = run->groups.sums, start = op == OP_amax ? -INFINITY : op == OP_amin ? INFINITY : 0;
    for (int p = 0; p < run->piece_count; p++) {
        ptrdiff_t n = run->pieces[p].size, copies = run->pieces[p].copies, count = run->groups.count[p];
        for (ptrdiff_t i = 0; i < copies * count; i++) found[i] = start;
        for (ptrdiff_t i = 0; i < n; i++) /* copies inside: their sums do not wait for each other */
            for (ptrdiff_t c = 0; c < copies; c++) {
                REAL *so_far = found + c * count + of[i], a = x[c * n + i];
                *so_far = op == OP_amax ? larger(*so_far, a) : op == OP_amin ? smaller(*so_far, a) : *so_far + a;
            }
        if (op == OP_mean)
            for (ptrdiff_t i = 0; i < copies * count; i++) found[i] /= (REAL)(n / count);
        for (ptrdiff_t c = 0; c < copies; c++)
            for (ptrdiff_t i = 0; i < n; i++) y[c * n + i] = found[c * count + of[i]];
        x += n * copies, y += n * copies, of += n;
    }
}

/* std, var and rms: the mean of products of a factor (what is centred, or the value) with itself and with dv. */
static void F(second_moment)(const Probing *run, const Node *node, const Dual *x, Dual *out) {
    const REAL *v = x->value, *dv = x->slope;
    REAL *y = out->value, *dy = out->slope, *centred = run->groups.work;
    ptrdiff_t n = run->points;
    if (node->op != OP_rms) {
        F(spread)(run, OP_mean, v, centred);
        SIMD for (ptrdiff_t i = 0; i < n; i++) centred[i] = v[i] - centred[i];
    }
    const REAL *factor = node->op == OP_rms ? v : centred;
    SIMD for (ptrdiff_t i = 0; i < n; i++) y[i] = factor[i] * factor[i];
    F(spread)(run, OP_mean, y, y);
    for (ptrdiff_t i = 0; i < n && node->op != OP_var; i++) y[i] = SQRT(y[i] + node->k);
    if (!dv) return;
    SIMD for (ptrdiff_t i = 0; i < n; i++) dy[i] = factor[i] * dv[i];
    F(spread)(run, OP_mean, dy, dy);
    SIMD for (ptrdiff_t i = 0; i < n; i++) dy[i] = node->op == OP_var ? 2.0 * dy[i] : dy[i] / y[i];
}

/* The derivative of an extremum is the mean of those of the points that have it. */
static void F(dual_extremum)(const Probing *run, int op, const Dual *x, Dual *out) {
    REAL *y = out->value, *dy = out->slope, *at = run->groups.work;
    ptrdiff_t n = run->points;
    F(spread)(run, op, x->value, y);
    if (!x->slope) return;
    for (ptrdiff_t i = 0; i < n; i++) at[i] = x->value[i] == y[i] ? 1.0 : 0.0;
    for (ptrdiff_t i = 0; i < n; i++) dy[i] = at[i] * x->slope[i];
    F(spread)(run, OP_mean, dy, dy);
    F(spread)(run, OP_mean, at, at);
    for (ptrdiff_t i = 0; i < n; i++) dy[i] /= at[i];
}

static void F(dual_statistic)(Probing *run, const Node *node, Dual *out) {
    const Dual *x = run->duals + node->args[0];
    group_points(run, node->over);
    if (node->op == OP_sum || node->op == OP_mean) {
        F(spread)(run, node->op, x->value, out->value);
        if (x->slope) F(spread)(run, node->op, x->slope, out->slope);
    } else if (node->op == OP_amax || node->op == OP_amin) {
        F(dual_extremum)(run, node->op, x, out);
    } else {
        F(second_moment)(run, node, x, out);
    }
    if (!x->slope) out->slope = NULL;
}

static void F(dual_elementwise)(const Node *node, const Dual *it, Dual *out, ptrdiff_t n) {
    const Dual *a = it + node->args[0], *b = it + node->args[1], *c = it + node->args[2];
    int op = node->op;
    if (op < FIRST_BINARY) {
        F(unary)(op, a->value, out->value, n, node->k);
        if (op == OP_sign) /* as NumPy has it */
            for (ptrdiff_t i = 0; i < n; i++) out->value[i] = a->value[i] == a->value[i] ? out->value[i] : NAN;
        if (!a->slope)
            out->slope = NULL;
        else
            F(unary_slope)(op, node->k, a, out, n);
        return;
    }
    if (op < FIRST_TERNARY) {
        const Nest flat = {{n, 1, 1, 1}, {1, 0, 0, 0}, {1, 0, 0, 0}};
        F(binary)(op, a->value, b->value, out->value, &flat, node->k);
        if (!a->slope && !b->slope)
            out->slope = NULL;
        else
            F(binary_slope)(op, node->k, a, b, out, n);
        return;
    }
    F(ternary)(op, a->value, b->value, c->value, out->value, n);
    if (!b->slope && !c->slope)
        out->slope = NULL;
    else
        F(where_slope)(a->value, b->slope, c->slope, out->slope, n);
}

static void F(run_duals)(Probing *run) {
    run->leaves_given = 0;
    for (ptrdiff_t i = 0; i < run->count; i++) {
        const Node *node = run->nodes + i;
        Dual *out = run->duals + i;
        if (node->op < 0) {
            give_leaf(run, node, out);
        } else if (node->op < FIRST_STATISTIC) {
            F(dual_elementwise)(node, run->duals, out, run->points);
        } else {
            F(dual_statistic)(run, node, out);
        }
    }
}

/* Sum of squares, largest magnitude and projections of n numbers; a projection's weights lie together. */
static void F(summarize)(const REAL *x, ptrdiff_t n, const double *weights, int count, double *summary) {
    double squares = 0, largest = 0;
    SIMD_REDUCTION(+, squares)
    for (ptrdiff_t i = 0; i < n; i++) squares += x[i] * x[i];
    SIMD_REDUCTION(max, largest)
    for (ptrdiff_t i = 0; i < n; i++) largest = FABS(x[i]) > largest ? FABS(x[i]) : largest;
    summary[0] = squares, summary[1] = largest;
    for (int k = 0; k < count; k++, weights += n) {
        double sum = 0;
        SIMD_REDUCTION(+, sum)
        for (ptrdiff_t i = 0; i < n; i++) sum += x[i] * weights[i];
        summary[2 + k] = sum;
    }
}

static void F(probe)(Probing *run) {
    F(run_duals)(run);
    const Dual *out = run->duals + run->output;
    const double *weights = run->weights, *parts[2] = {out->value, out->slope};
    double *summary = run->summaries;
    ptrdiff_t start = 0;
    for (const Piece *piece = run->pieces; piece < run->pieces + run->piece_count - 1; piece++) {
        for (int part = 0; part < 2; part++)
            for (ptrdiff_t copy = 0; copy < piece->copies; copy++, summary += 2 + run->projections) {
                memset(summary, 0, (2 + (size_t)run->projections) * sizeof *summary);
                const double *x = parts[part] + start + copy * piece->size;
                if (parts[part]) F(summarize)(x, piece->size, weights, run->projections, summary);
            }
        start += piece->size * piece->copies;
        weights += piece->size * run->projections;
    }
    run->is_finite_at_edges = 1;
    for (int part = 0; part < 2; part++)
        for (ptrdiff_t i = start; parts[part] && i < run->points; i++)
            if (!(FABS(parts[part][i]) <= LARGEST)) run->is_finite_at_edges = 0;
}
