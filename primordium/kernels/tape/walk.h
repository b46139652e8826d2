/* The walk over a graph's live nodes that looks each up in a table of canonical nodes: primitives/passes.py, walk.
 *
 * Works on the Python objects that graphs are made of; what the table does not have is asked of Python.
 */

typedef struct {
    PyObject *nodes, *outputs, *known, *leaves, *leaf_operations, *emit, *make_leaf, *graph, *rewriter;
    Py_ssize_t count;
    char *needed;
    PyObject **place;
} Walk;

/* The index that a number object says, if it is one below a limit; else -1 with an error. */
static Py_ssize_t index_below(PyObject *number, Py_ssize_t limit) {
    Py_ssize_t index = number ? PyLong_AsSsize_t(number) : -1;
    if (index >= 0 && index < limit) return index;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_IndexError, "an argument or output is no earlier node");
    return -1;
}

static int find_live(Walk *walk) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(walk->outputs); i++) {
        PyObject *pair = PyTuple_GetItem(walk->outputs, i);
        Py_ssize_t output = index_below(pair ? PyTuple_GetItem(pair, 1) : NULL, walk->count);
        if (output < 0) return 0;
        walk->needed[output] = 1;
    }
    for (Py_ssize_t i = walk->count - 1; i >= 0; i--) {
        if (!walk->needed[i]) continue;
        PyObject *node = PyTuple_GetItem(walk->nodes, i), *args = node ? PyTuple_GetItem(node, 1) : NULL;
        Py_ssize_t many = args ? PyTuple_Size(args) : -1;
        if (many < 0) return 0;
        for (Py_ssize_t k = 0; k < many; k++) {
            Py_ssize_t arg = index_below(PyTuple_GetItem(args, k), i);
            if (arg < 0) return 0;
            walk->needed[arg] = 1;
        }
    }
    return 1;
}

/* The canonical node of a leaf; a new reference. */
static PyObject *walk_leaf(Walk *walk, PyObject *node, PyObject *attrs) {
    PyObject *found = PyDict_GetItemWithError(walk->leaves, attrs);
    if (found) return Py_NewRef(found);
    if (PyErr_Occurred()) return NULL;
    found = PyObject_CallFunctionObjArgs(walk->make_leaf, walk->graph, walk->rewriter, node, NULL);
    if (found && PyDict_SetItem(walk->leaves, attrs, found)) Py_CLEAR(found);
    return found;
}

/* The canonical node of an operation; a new reference. */
static PyObject *walk_operation(Walk *walk, PyObject *op, PyObject *args, PyObject *attrs) {
    Py_ssize_t many = PyTuple_Size(args);
    PyObject *moved = PyTuple_New(many), *found = NULL;
    for (Py_ssize_t k = 0; moved && k < many; k++)
        PyTuple_SetItem(moved, k, Py_NewRef(walk->place[PyLong_AsSsize_t(PyTuple_GetItem(args, k))]));
    PyObject *key = moved ? PyTuple_Pack(3, op, moved, attrs) : NULL;
    if (key) {
        found = Py_XNewRef(PyDict_GetItemWithError(walk->known, key));
        if (!found && !PyErr_Occurred())
            found = PyObject_CallFunctionObjArgs(walk->emit, op, moved, attrs, NULL);
    }
    Py_XDECREF(key);
    Py_XDECREF(moved);
    return found;
}

static int walk_nodes(Walk *walk) {
    for (Py_ssize_t i = 0; i < walk->count; i++) {
        if (!walk->needed[i]) continue;
        PyObject *node = PyTuple_GetItem(walk->nodes, i);
        PyObject *op = PyTuple_GetItem(node, 0), *args = PyTuple_GetItem(node, 1), *attrs = PyTuple_GetItem(node, 2);
        if (!op || !attrs) return 0;
        int is_leaf = PyTuple_Size(args) ? 0 : PySet_Contains(walk->leaf_operations, op);
        if (is_leaf < 0) return 0;
        walk->place[i] = is_leaf ? walk_leaf(walk, node, attrs) : walk_operation(walk, op, args, attrs);
        if (!walk->place[i]) return 0;
    }
    return 1;
}

/* The outputs with their canonical nodes. */
static PyObject *walked_outputs(const Walk *walk) {
    Py_ssize_t many = PyTuple_Size(walk->outputs);
    PyObject *found = PyTuple_New(many);
    for (Py_ssize_t i = 0; found && i < many; i++) {
        PyObject *pair = PyTuple_GetItem(walk->outputs, i), *name = PyTuple_GetItem(pair, 0);
        PyObject *place = walk->place[PyLong_AsSsize_t(PyTuple_GetItem(pair, 1))];
        PyObject *moved = name ? PyTuple_Pack(2, name, place) : NULL;
        if (!moved || PyTuple_SetItem(found, i, moved)) Py_CLEAR(found);
    }
    return found;
}

static PyObject *walk_graph(PyObject *module, PyObject *args) {
    Walk walk;
    PyObject *found = NULL;
    (void)module;
    memset(&walk, 0, sizeof walk);
    if (!PyArg_ParseTuple(args, "O!O!O!O!OOOOO", &PyTuple_Type, &walk.nodes, &PyTuple_Type, &walk.outputs,
                          &PyDict_Type, &walk.known, &PyDict_Type, &walk.leaves, &walk.leaf_operations,
                          &walk.emit, &walk.make_leaf, &walk.graph, &walk.rewriter))
        return NULL;
    walk.count = PyTuple_Size(walk.nodes);
    walk.place = calloc((size_t)walk.count + 1, sizeof *walk.place + 1);
    if (!walk.place) return PyErr_NoMemory();
    walk.needed = (char *)(walk.place + walk.count);
    if (find_live(&walk) && walk_nodes(&walk)) found = walked_outputs(&walk);
    for (Py_ssize_t i = 0; i < walk.count; i++) Py_XDECREF(walk.place[i]);
    free(walk.place);
    return found;
}
