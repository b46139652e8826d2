/* What a fingerprint is taken with: probes, and one graph's nodes on them. See dual.h for the arithmetic.
 *
 * A piece is a probe of some shape, in several copies that differ in scale and share no statistic. The last piece
 * is the one at the edges, of which only the size of the results counts.
 */

#define MOST_NODES 4096
#define MOST_PIECES 8
#define ABSENT (-64.0)
#define MOST_POINTS (1 << 16)

enum Leaf {
    GIVEN_INPUT = -1,
    GIVEN_LEAF = -2,
    GIVEN_CONSTANT = -3,
    GIVEN_SIZE = -4,
    SAME = -5,
    WITHOUT_SLOPE = -6,
    SURROGATE = -7
};

typedef struct {
    int32_t op, args[3], over, unused;
    double k;
} Node;

typedef struct {
    double *value, *slope;
} Dual;

typedef struct {
    ptrdiff_t copies, sizes[AXES], size;
} Piece;

/* Which points of a piece's copy a statistic is taken of together: the group of each, and how many groups. */
typedef struct {
    int32_t over, *of;
    ptrdiff_t count[MOST_PIECES];
    double *sums, *work;
} Groups;

typedef struct {
    const Node *nodes;
    const Piece *pieces;
    int piece_count, projections, leaves_given, is_finite_at_edges;
    ptrdiff_t count, output, points;
    const double *x, *weights;
    const double **leaf;
    Dual *duals;
    Groups groups;
    double *summaries;
} Probing;

static void group_points(Probing *run, int32_t over) {
    Groups *groups = &run->groups;
    int32_t *of = groups->of;
    if (groups->over == over) return;
    for (int p = 0; p < run->piece_count; p++) {
        const ptrdiff_t *sizes = run->pieces[p].sizes;
        ptrdiff_t stride[AXES], kept = 1;
        for (int d = AXES - 1; d >= 0; d--) {
            stride[d] = over >> d & 1 ? 0 : kept;
            kept *= over >> d & 1 ? 1 : sizes[d];
        }
        for (ptrdiff_t b = 0; b < sizes[0]; b++)
            for (ptrdiff_t g = 0; g < sizes[1]; g++)
                for (ptrdiff_t c = 0; c < sizes[2]; c++) {
                    ptrdiff_t first = b * stride[0] + g * stride[1] + c * stride[2];
                    for (ptrdiff_t s = 0; s < sizes[3]; s++) *of++ = (int32_t)(first + s * stride[3]);
                }
        groups->count[p] = kept;
    }
    groups->over = over;
}

/* The number of positions of some axes, which every piece has its own of. */
static void give_size(const Probing *run, int32_t over, double *value) {
    for (const Piece *piece = run->pieces; piece < run->pieces + run->piece_count; piece++)
        for (ptrdiff_t i = 0; i < piece->size * piece->copies; i++) *value++ = (double)positions(piece->sizes, over);
}

/* A node that computes nothing, or nothing but a derivative. */
static void give_leaf(Probing *run, const Node *node, Dual *out) {
    const Dual *first = run->duals + node->args[0], *second = run->duals + node->args[1];
    switch (node->op) {
        case GIVEN_INPUT: *out = (Dual){(double *)run->x, (double *)run->x + run->points}; break;
        case GIVEN_LEAF: *out = (Dual){(double *)run->leaf[run->leaves_given++], NULL}; break;
        case GIVEN_SIZE:
            give_size(run, node->over, out->value);
            out->slope = NULL;
            break;
        case SAME: *out = *first; break;
        case WITHOUT_SLOPE: *out = (Dual){first->value, NULL}; break;
        case SURROGATE:
            for (ptrdiff_t i = 0; i < run->points; i++) out->value[i] = first->value[i] + 0.0 * second->value[i];
            out->slope = second->slope;
            break;
        default:
            for (ptrdiff_t i = 0; i < run->points; i++) out->value[i] = node->k;
            out->slope = NULL;
    }
}
