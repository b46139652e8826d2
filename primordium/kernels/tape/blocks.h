/* Memory of outputs and of calls, kept for the next call: fresh pages cost more than most steps that fill them.
 *
 * A Block is a Python object with a writable buffer. Memory comes back when nothing refers to the object; the
 * last few blocks of up to KEPT_BYTES together are kept, all under the interpreter's lock.
 */

#define KEPT_BLOCKS 16
#define KEPT_BYTES ((size_t)64 << 20)
#define PAGE 4096

static struct {
    void *memory;
    size_t bytes;
} kept_blocks[KEPT_BLOCKS];
static size_t kept_bytes;

static void forget_block(int i) {
    free(kept_blocks[i].memory);
    kept_bytes -= kept_blocks[i].bytes;
    kept_blocks[i].memory = NULL, kept_blocks[i].bytes = 0;
}

static size_t whole_pages(size_t bytes) { return (bytes / PAGE + 1) * PAGE; }

static void *take_memory(size_t bytes) {
    bytes = whole_pages(bytes);
    for (int i = 0; i < KEPT_BLOCKS; i++)
        if (kept_blocks[i].bytes == bytes) {
            void *memory = kept_blocks[i].memory;
            kept_bytes -= bytes;
            kept_blocks[i].memory = NULL, kept_blocks[i].bytes = 0;
            return memory;
        }
    return malloc(bytes);
}

/* The oldest blocks make room. */
static void give_memory(void *memory, size_t bytes) {
    static int next = 0;
    bytes = whole_pages(bytes);
    if (!memory || bytes > KEPT_BYTES) {
        free(memory);
        return;
    }
    for (int i = 0; i < KEPT_BLOCKS && kept_bytes + bytes > KEPT_BYTES; i++) forget_block((next + i) % KEPT_BLOCKS);
    forget_block(next);
    kept_blocks[next].memory = memory, kept_blocks[next].bytes = bytes;
    kept_bytes += bytes;
    next = (next + 1) % KEPT_BLOCKS;
}

typedef struct {
    PyObject_HEAD
    void *memory;
    Py_ssize_t bytes;
} Block;

static PyObject *block_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    Py_ssize_t bytes;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "n", &bytes)) return NULL;
    if (bytes < 0) {
        PyErr_SetString(PyExc_ValueError, "a block has no negative size");
        return NULL;
    }
    allocfunc make = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Block *block = (Block *)make(type, 0);
    if (!block) return NULL;
    block->bytes = bytes;
    block->memory = take_memory((size_t)bytes + ALIGNMENT);
    if (!block->memory) {
        Py_DECREF(block);
        return PyErr_NoMemory();
    }
    return (PyObject *)block;
}

static void block_dealloc(PyObject *self) {
    Block *block = (Block *)self;
    PyTypeObject *type = Py_TYPE(self);
    give_memory(block->memory, (size_t)block->bytes + ALIGNMENT);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static void *aligned(void *memory) {
    return (void *)(((uintptr_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

static int block_buffer(PyObject *self, Py_buffer *view, int flags) {
    Block *block = (Block *)self;
    return PyBuffer_FillInfo(view, self, aligned(block->memory), block->bytes, 0, flags);
}

static PyType_Slot block_slots[] = {
    {Py_tp_doc, "Block(bytes): memory with a writable buffer, kept for another block once it is free."},
    {Py_tp_new, block_new},
    {Py_tp_dealloc, block_dealloc},
    {Py_bf_getbuffer, block_buffer},
    {0, NULL},
};

static PyType_Spec block_spec = {
    "primordium.kernels.tape._tape.Block", sizeof(Block), 0, Py_TPFLAGS_DEFAULT, block_slots,
};
