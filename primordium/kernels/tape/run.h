/* What a run of a program is made of, whatever the number type: registers, steps, tiles and how they are bound.
 *
 * A value varies over a set of the axes B, G, c, S (bits 1, 2, 4, 8) and lies densely, in that order. A tile is a
 * range of samples, or a range of the groups of one sample; its values stay in cache from step to step.
 */

enum Kind { INPUT, OUTPUT, CONSTANT, SIZE, WHOLE, KEPT, TILED, ACCUMULATOR, KINDS };
enum Field { OP, DST, A, B, C, K, PRESENT, LACKING, FIELDS };
enum Header { INPUTS, OUTPUTS, REGISTERS, PHASES, STEPS, FLAGS, HEADER };
enum Flag { SPLIT_GROUPS = 1, MERGE_CHANNELS = 2 };
enum Mode { TOTAL, SQUARES, CENTRED, LARGEST_OF, SMALLEST_OF };
enum StepKind { WITHIN_TILE, TO_ACCUMULATOR, FROM_ACCUMULATOR };

enum Operation {
#define X(name, expression) OP_##name,
    UNARY_OPERATIONS(X) FIRST_BINARY,
    BEFORE_BINARY = FIRST_BINARY - 1,
    BINARY_OPERATIONS(X) FIRST_TERNARY,
    BEFORE_TERNARY = FIRST_TERNARY - 1,
    TERNARY_OPERATIONS(X)
#undef X
#define X(name) OP_##name,
    OP_expand,
    FIRST_STATISTIC,
    BEFORE_STATISTIC = FIRST_STATISTIC - 1,
    STATISTICS(X) FIRST_ALONG,
    BEFORE_ALONG = FIRST_ALONG - 1,
    ALONG(X)
#undef X
    OPERATIONS
};

enum { AXES = 4, SAMPLES = 1, GROUPS = 2, ALL_AXES = 15 };

/* A register: where its value is, over which axes it varies, and an index that its kind gives a meaning. */
typedef struct {
    int32_t kind, axes, index;
} Register;

/* Loops over a dense value, innermost first, with the strides of two operands (or of operand and result). */
typedef struct {
    ptrdiff_t n[AXES], a[AXES], b[AXES];
} Nest;

/* A step bound to the sizes of a tile. */
typedef struct {
    const int32_t *code;
    enum StepKind kind;
    ptrdiff_t outputs, total;
    double count;
    Nest nest;
} Step;

typedef struct {
    ptrdiff_t start_b, start_g, sizes[AXES];
    int changed;
} Tile;

typedef struct {
    int32_t phases, flags, register_count, step_count;
    const Register *registers;
    const int32_t *phase_steps, *first_step;
    const double *constants;
    ptrdiff_t sizes[AXES], item;
    ptrdiff_t largest_tile[AXES];
    char **base;
    ptrdiff_t (*stride)[2];
    void **at;
    Step *steps;
    double *first, *second;
    ptrdiff_t *lines;
} Run;

/* The lines of an axis: how far the elements of one are from its first, and room to sort it. */
typedef struct {
    ptrdiff_t length, *at, *order, *spare;
} Lines;

static inline double larger(double a, double b) { return (a > b) | (a != a) ? a : b; }
static inline double smaller(double a, double b) { return (a < b) | (a != a) ? a : b; }

/* The number of positions of some axes. */
static ptrdiff_t positions(const ptrdiff_t *sizes, int axes) {
    ptrdiff_t n = 1;
    for (int d = 0; d < AXES; d++)
        if (axes >> d & 1) n *= sizes[d];
    return n;
}

/* Loops over the axes of a value, for operands that vary over a and b; loops that can be one are one. */
static void make_nest(Nest *nest, const ptrdiff_t *sizes, int axes, int a, int b) {
    ptrdiff_t stride_a = 1, stride_b = 1;
    int used = 0;
    for (int d = AXES - 1; d >= 0; d--) {
        ptrdiff_t n = sizes[d], sa = a >> d & 1 ? stride_a : 0, sb = b >> d & 1 ? stride_b : 0;
        if (!(axes >> d & 1) || n == 1) continue;
        stride_a *= sa ? n : 1;
        stride_b *= sb ? n : 1;
        if (used && sa == nest->a[used - 1] * nest->n[used - 1] && sb == nest->b[used - 1] * nest->n[used - 1]) {
            nest->n[used - 1] *= n;
            continue;
        }
        nest->n[used] = n, nest->a[used] = sa, nest->b[used] = sb;
        used++;
    }
    for (; used < AXES; used++) {
        nest->n[used] = 1;
        nest->a[used] = nest->b[used] = used ? 0 : 1;
    }
}

/* Bind steps to the sizes of a tile. */
static void bind(Run *run, int first, int count, const Tile *tile) {
    for (Step *step = run->steps + first; step < run->steps + first + count; step++) {
        const int32_t *code = step->code;
        int dst = run->registers[code[DST]].axes;
        step->outputs = positions(tile->sizes, dst);
        if (code[OP] < FIRST_BINARY || code[OP] >= FIRST_ALONG) continue;
        int a = run->registers[code[A]].axes;
        if (code[OP] < FIRST_STATISTIC) {
            make_nest(&step->nest, tile->sizes, dst, a, code[OP] == OP_expand ? a : run->registers[code[B]].axes);
            continue;
        }
        step->kind = run->registers[code[A]].kind == ACCUMULATOR ? FROM_ACCUMULATOR
            : run->registers[code[DST]].kind == ACCUMULATOR      ? TO_ACCUMULATOR
                                                                 : WITHIN_TILE;
        step->total = positions(run->sizes, dst);
        step->count = (double)positions(step->kind == FROM_ACCUMULATOR ? run->sizes : tile->sizes, code[PRESENT]);
        make_nest(&step->nest, tile->sizes, a, a, dst);
    }
}

/* Point every register at its part of a tile. INLINE, as all that runs for every tile: a call from a loop of wide
 * vectors into code of narrow ones is slow. */
static INLINE void place(Run *run, const Tile *tile) {
    for (int r = 0; r < run->register_count; r++)
        run->at[r] = run->base[r] + tile->start_b * run->stride[r][0] + tile->start_g * run->stride[r][1];
}

static ptrdiff_t at_most(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static ptrdiff_t at_least(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* The largest tile: whole samples if one fits, else groups of one, if nothing connects them. */
static void choose_tile(Run *run) {
    ptrdiff_t elements = TILE_BYTES / run->item, *sizes = run->largest_tile;
    ptrdiff_t group = run->sizes[2] * run->sizes[3], sample = run->sizes[1] * group;
    memcpy(sizes, run->sizes, sizeof run->sizes);
    sizes[0] = at_least(1, at_most(sizes[0], elements / at_least(1, sample)));
    if (run->flags & SPLIT_GROUPS && sample > elements)
        sizes[1] = at_least(1, at_most(sizes[1], elements / at_least(1, group)));
}

/* The part of the largest tile that is there. */
static void cut(const Run *run, Tile *tile) {
    ptrdiff_t b = at_most(run->largest_tile[0], run->sizes[0] - tile->start_b);
    ptrdiff_t g = at_most(run->largest_tile[1], run->sizes[1] - tile->start_g);
    tile->changed = b != tile->sizes[0] || g != tile->sizes[1];
    tile->sizes[0] = b, tile->sizes[1] = g;
}

static int more(const Run *run, const Tile *tile) {
    return tile->start_b < run->sizes[0] && positions(run->sizes, ALL_AXES) > 0;
}

static Tile first_tile(const Run *run) {
    Tile tile = {0, 0, {0, 0, run->sizes[2], run->sizes[3]}, 1};
    cut(run, &tile);
    tile.changed = 1;
    return tile;
}

/* On to the next groups, or to the next samples. */
static void advance(const Run *run, Tile *tile) {
    tile->start_g += tile->sizes[1];
    if (tile->start_g >= run->sizes[1]) {
        tile->start_g = 0;
        tile->start_b += tile->sizes[0];
    }
    if (tile->start_b < run->sizes[0]) cut(run, tile);
}

/* The lines along some axes of a dense value. */
static Lines make_lines(const Run *run, const Tile *tile, int axes, int along) {
    ptrdiff_t length = positions(tile->sizes, along);
    Lines lines = {length, run->lines, run->lines + length, run->lines + 2 * length};
    for (ptrdiff_t i = 0; i < length; i++) {
        ptrdiff_t rest = i, stride = 1;
        lines.at[i] = 0;
        for (int d = AXES - 1; d >= 0; d--) {
            ptrdiff_t n = tile->sizes[d];
            if (along >> d & 1) {
                lines.at[i] += rest % n * stride;
                rest /= n;
            }
            stride *= axes >> d & 1 ? n : 1;
        }
    }
    return lines;
}

/* Add the statistic of a tile to what came before: sums add, means and centred squares by Chan's formula. */
static INLINE void merge(Run *run, const Step *step, const Tile *tile) {
    const int32_t *code = step->code;
    double *sums = run->at[code[DST]], *squares = sums + step->total;
    ptrdiff_t sizes[AXES] = {tile->start_b, run->sizes[1], run->sizes[2], run->sizes[3]};
    double seen = (double)positions(sizes, code[PRESENT] | SAMPLES);
    if (code[PRESENT] & GROUPS) {
        ptrdiff_t part[AXES] = {1, tile->start_g, run->sizes[2], run->sizes[3]};
        seen += (double)positions(part, code[PRESENT]);
    }
    double share = step->count / (seen + step->count);
    for (ptrdiff_t i = 0; i < step->outputs; i++) {
        double x = run->first[i];
        switch (code[OP]) {
            case OP_amax: sums[i] = seen ? larger(sums[i], x) : x; break;
            case OP_amin: sums[i] = seen ? smaller(sums[i], x) : x; break;
            case OP_var:
            case OP_std: {
                double apart = seen ? x - sums[i] : 0;
                sums[i] = seen ? sums[i] + apart * share : x;
                squares[i] = (seen ? squares[i] + apart * apart * share * seen : 0) + run->second[i];
                break;
            }
            default: sums[i] = seen ? sums[i] + x : x;
        }
    }
}
