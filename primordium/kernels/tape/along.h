/* Primitives along one axis (which may be several dimensions, flattened): line by line, operands dense. */

/* Whether x comes before y in a stable sort; NaN counts as the largest, as in torch. */
static INLINE int F(before)(REAL x, REAL y, int descending) {
    return descending ? (y == y) & ((x != x) | (x > y)) : (x == x) & ((y != y) | (x < y));
}

/* Bottom-up merge sort of positions; returns where the result lies, order or spare. */
static ptrdiff_t *F(sort)(const REAL *x, const ptrdiff_t *at, ptrdiff_t n, int descending, ptrdiff_t *order,
                          ptrdiff_t *spare) {
    for (ptrdiff_t i = 0; i < n; i++) order[i] = i;
    for (ptrdiff_t width = 1; width < n; width *= 2) {
        for (ptrdiff_t low = 0; low < n; low += 2 * width) {
            ptrdiff_t middle = at_most(low + width, n), high = at_most(low + 2 * width, n);
            ptrdiff_t i = low, j = middle;
            for (ptrdiff_t o = low; o < high; o++) {
                int second = i >= middle
                    || (j < high && F(before)(x[at[order[j]]], x[at[order[i]]], descending));
                spare[o] = second ? order[j++] : order[i++];
            }
        }
        ptrdiff_t *swap = order;
        order = spare, spare = swap;
    }
    return order;
}

/* A position that a number says; -1 where it says none. */
static INLINE ptrdiff_t F(position)(REAL x, ptrdiff_t n) {
    return (x > -1) & (x < (REAL)n) ? (ptrdiff_t)x : -1;
}

static void F(scatter)(const REAL *x, const REAL *to, REAL *y, const ptrdiff_t *at, ptrdiff_t n) {
    int outside = 0;
    for (ptrdiff_t i = 0; i < n; i++) y[at[i]] = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t p = F(position)(to[at[i]], n);
        if (p < 0)
            outside = 1;
        else
            y[at[p]] += x[at[i]];
    }
    for (ptrdiff_t i = 0; outside && i < n; i++) y[at[i]] = NAN;
}

static void F(line)(const int32_t *code, const REAL *x, const REAL *to, REAL *y, const Lines *lines) {
    const ptrdiff_t *at = lines->at, n = lines->length;
    double sum = 0, best = -INFINITY;
    ptrdiff_t place = 0, *order;
    switch (code[OP]) {
        case OP_index:
            for (ptrdiff_t i = 0; i < n; i++) y[at[i]] = (REAL)i;
            break;
        case OP_cumsum:
            for (ptrdiff_t i = 0; i < n; i++) {
                ptrdiff_t o = at[code[LACKING] ? n - 1 - i : i];
                y[o] = (REAL)(sum += x[o]);
            }
            break;
        case OP_argsort:
            order = F(sort)(x, at, n, code[LACKING], lines->order, lines->spare);
            for (ptrdiff_t i = 0; i < n; i++) y[at[i]] = (REAL)order[i];
            break;
        case OP_cumargmax:
            for (ptrdiff_t i = 0; i < n; i++) {
                if (x[at[i]] > best) place = i;
                best = larger(best, x[at[i]]);
                y[at[i]] = (REAL)place;
            }
            break;
        case OP_gather:
            for (ptrdiff_t i = 0; i < n; i++) {
                ptrdiff_t p = F(position)(to[at[i]], n);
                y[at[i]] = p < 0 ? NAN : x[at[p]];
            }
            break;
        default: F(scatter)(x, to, y, at, n);
    }
}

static void F(along)(const Run *run, const Step *step, const Tile *tile) {
    const int32_t *code = step->code;
    int axes = run->registers[code[DST]].axes;
    Lines lines = make_lines(run, tile, axes, code[PRESENT]);
    const REAL *x = run->at[code[A]], *to = run->at[code[B]];
    REAL *y = run->at[code[DST]];
    ptrdiff_t n[AXES], stride[AXES], next = 1;
    for (int d = AXES - 1; d >= 0; d--) {
        ptrdiff_t size = axes >> d & 1 ? tile->sizes[d] : 1;
        n[d] = code[PRESENT] >> d & 1 ? 1 : size;
        stride[d] = next;
        next *= size;
    }
    for (ptrdiff_t b = 0; b < n[0]; b++)
        for (ptrdiff_t g = 0; g < n[1]; g++)
            for (ptrdiff_t c = 0; c < n[2]; c++)
                for (ptrdiff_t s = 0; s < n[3]; s++) {
                    ptrdiff_t o = b * stride[0] + g * stride[1] + c * stride[2] + s * stride[3];
                    F(line)(code, x + o, to + o, y + o, &lines);
                }
}
