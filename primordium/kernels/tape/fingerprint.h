/* The function fingerprint: a graph's dual numbers on the probes, summarized, scaled and rounded. */

typedef struct {
    Py_buffer code, pieces, points, weights, features, *leaves;
    int held, affine;
    ptrdiff_t rows;
    double steps, log_steps, negligible;
    void *memory;
    size_t bytes;
    Piece piece[MOST_PIECES];
    Probing run;
} Fingerprinting;

static int is_node_right(const Node *node, ptrdiff_t index) {
    if (node->op < SURROGATE || node->op >= FIRST_ALONG || node->op == OP_expand) return 0;
    if (node->over & ~ALL_AXES) return 0;
    if (node->op <= GIVEN_INPUT && node->op >= GIVEN_SIZE) return 1;
    for (int i = 0; i < 3; i++)
        if (node->args[i] < 0 || node->args[i] >= index) return 0;
    return 1;
}

static int is_aligned(const Py_buffer *array) { return (uintptr_t)array->buf % sizeof(double) == 0; }

static int read_pieces(Fingerprinting *call) {
    Probing *run = &call->run;
    const int32_t *given = call->pieces.buf;
    ptrdiff_t count = call->pieces.len / (ptrdiff_t)sizeof *given, summarized = 0;
    if (count % (AXES + 1) || count < 2 * (AXES + 1) || count > MOST_PIECES * (AXES + 1))
        return refuse("there are from two to eight pieces, each copies and four sizes");
    if (!is_aligned(&call->pieces) || !is_aligned(&call->points) || !is_aligned(&call->weights)
        || !is_aligned(&call->features))
        return refuse("an array is not aligned");
    run->pieces = call->piece, run->piece_count = (int)(count / (AXES + 1));
    for (int p = 0; p < run->piece_count; p++, given += AXES + 1) {
        Piece *piece = &call->piece[p];
        ptrdiff_t points = 1;
        for (int i = 0; i <= AXES; i++) {
            if (given[i] < 1 || given[i] > MOST_POINTS) return refuse("a piece's size is out of range");
            points *= given[i];
            if (points > MOST_POINTS) return refuse("there are too many points");
            if (i) piece->sizes[i - 1] = given[i];
        }
        piece->copies = given[0], piece->size = points / given[0];
        run->points += points;
        if (p < run->piece_count - 1) summarized += piece->size, call->rows += 2 * piece->copies;
    }
    ptrdiff_t weights = call->weights.len / (ptrdiff_t)sizeof(double);
    if (weights % summarized || weights > summarized * 64) return refuse("weights do not fit the pieces");
    run->projections = (int)(weights / summarized);
    if (call->points.len != 2 * run->points * (ptrdiff_t)sizeof(double))
        return refuse("points are two numbers for each of the pieces'");
    if (call->features.len != call->rows * (run->projections + 1) * (ptrdiff_t)sizeof(double))
        return refuse("features do not fit the pieces and weights");
    run->x = call->points.buf, run->weights = call->weights.buf;
    return 1;
}

static int read_nodes(Fingerprinting *call) {
    Probing *run = &call->run;
    ptrdiff_t leaves = 0;
    run->nodes = call->code.buf, run->count = call->code.len / (ptrdiff_t)sizeof(Node);
    if (call->code.len % (ptrdiff_t)sizeof(Node) || run->count < 1 || run->count > MOST_NODES)
        return refuse("code is from one to 4096 nodes");
    if (!is_aligned(&call->code)) return refuse("code is not aligned");
    if (run->output < 0 || run->output >= run->count) return refuse("the output is no node");
    for (ptrdiff_t i = 0; i < run->count; i++) {
        if (!is_node_right(&run->nodes[i], i)) return refuse("a node is wrong");
        leaves += run->nodes[i].op == GIVEN_LEAF;
    }
    if (leaves != call->held) return refuse("wrong number of leaves");
    for (int i = 0; i < call->held; i++)
        if (call->leaves[i].len != run->points * (ptrdiff_t)sizeof(double) || !is_aligned(&call->leaves[i]))
            return refuse("a leaf has not one number for each point");
    return 1;
}

static void lay_out_duals(Fingerprinting *call, Arena *arena) {
    Probing *run = &call->run;
    size_t points = (size_t)run->points;
    run->leaf = reserve(arena, (size_t)call->held * sizeof *run->leaf);
    run->duals = reserve(arena, (size_t)run->count * sizeof *run->duals);
    run->groups.over = -1; /* none yet */
    run->groups.of = reserve(arena, points * sizeof *run->groups.of);
    run->groups.sums = reserve(arena, points * sizeof(double));
    run->groups.work = reserve(arena, points * sizeof(double));
    run->summaries = reserve(arena, (size_t)(call->rows * (run->projections + 2)) * sizeof(double));
    for (ptrdiff_t i = 0; i < run->count; i++) {
        double *value = reserve(arena, points * sizeof(double)), *slope = reserve(arena, points * sizeof(double));
        if (arena->start) run->duals[i] = (Dual){value, slope};
    }
    for (int i = 0; arena->start && i < call->held; i++) run->leaf[i] = call->leaves[i].buf;
}

static int take_leaves(Fingerprinting *call, PyObject *leaves) {
    Py_ssize_t count = PyTuple_Size(leaves);
    call->leaves = calloc((size_t)count + 1, sizeof *call->leaves);
    if (!call->leaves) {
        PyErr_NoMemory();
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++, call->held++)
        if (PyObject_GetBuffer(PyTuple_GetItem(leaves, i), &call->leaves[i], PyBUF_C_CONTIGUOUS)) return 0;
    return 1;
}

/* Root mean squares in place of the sums of squares; whether all are finite. */
static int find_sizes(Fingerprinting *call, double *largest) {
    const Probing *run = &call->run;
    double *summary = run->summaries, total = 0;
    largest[0] = largest[1] = 0;
    for (const Piece *piece = run->pieces; piece < run->pieces + run->piece_count - 1; piece++)
        for (ptrdiff_t row = 0; row < 2 * piece->copies; row++, summary += run->projections + 2) {
            int part = row >= piece->copies;
            total += summary[0] = sqrt(summary[0] / (double)piece->size);
            largest[part] = larger(summary[1], largest[part]);
        }
    return total <= DBL_MAX;
}

/* Projections relative to the size of what they are of, then the logarithms of the sizes; both also rounded. */
static void find_features(Fingerprinting *call, int32_t *rounded) {
    const Probing *run = &call->run;
    double *features = call->features.buf, *logs = features + call->rows * run->projections, reference = 1;
    ptrdiff_t width = run->projections + 2;
    if (call->affine) {
        reference = call->negligible;
        for (ptrdiff_t row = 0; row < run->pieces->copies; row++)
            reference = larger(run->summaries[row * width], reference);
    }
    for (ptrdiff_t row = 0; row < call->rows; row++) {
        const double *summary = run->summaries + row * width;
        int present = summary[0] > call->negligible;
        for (int k = 0; k < run->projections; k++) *features++ = present ? summary[2 + k] / summary[0] : 0;
        logs[row] = present ? log2(summary[0] / reference) : ABSENT;
    }
    features = call->features.buf;
    for (; features < logs; features++) *rounded++ = (int32_t)rint(*features * call->steps);
    for (; features < logs + call->rows; features++) *rounded++ = (int32_t)rint(*features * call->log_steps);
}

static PyObject *finish_fingerprint(Fingerprinting *call) {
    double largest[2];
    if (!find_sizes(call, largest)) Py_RETURN_NONE;
    PyObject *rounded = PyBytes_FromStringAndSize(NULL, call->features.len / 2);
    if (!rounded) return NULL;
    find_features(call, (int32_t *)(void *)PyBytes_AsString(rounded));
    return Py_BuildValue("(NddN)", rounded, largest[0], largest[1],
                         PyBool_FromLong(call->run.is_finite_at_edges));
}

static PyObject *perform_fingerprint(Fingerprinting *call, PyObject *leaves) {
    Arena arena = {NULL, 0};
    if (!take_leaves(call, leaves) || !read_pieces(call) || !read_nodes(call)) return NULL;
    lay_out_duals(call, &arena);
    call->bytes = arena.used + ALIGNMENT;
    call->memory = take_memory(call->bytes);
    if (!call->memory) return PyErr_NoMemory();
    arena = (Arena){aligned(call->memory), 0};
    lay_out_duals(call, &arena);
    probe(&call->run);
    return finish_fingerprint(call);
}

static PyObject *fingerprint(PyObject *module, PyObject *args) {
    Fingerprinting call;
    PyObject *leaves, *found = NULL;
    (void)module;
    memset(&call, 0, sizeof call);
    if (PyArg_ParseTuple(args, "y*nO!y*y*y*w*pddd", &call.code, &call.run.output, &PyTuple_Type, &leaves,
                         &call.pieces, &call.points, &call.weights, &call.features, &call.affine, &call.steps,
                         &call.log_steps, &call.negligible))
        found = perform_fingerprint(&call, leaves);
    Py_buffer *held[] = {&call.code, &call.pieces, &call.points, &call.weights, &call.features};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++)
        if (held[i]->obj) PyBuffer_Release(held[i]);
    for (int i = 0; i < call.held; i++) PyBuffer_Release(&call.leaves[i]);
    free(call.leaves);
    give_memory(call.memory, call.bytes);
    return found;
}
