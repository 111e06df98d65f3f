/* PathStar's draws as a compiled loop: the rows that NumPy draws of the same generator, in about a third of the time.

   Fisher-Yates, first of the labels, then of the edges. Draw j of all n instances is row j of a matrix that is never
   written down: NumPy fills it row by row with halves of the generator's 64 bits, the lower first, so row j begins j * n
   halves on, or one less where a half was left from before. The generator can be set ahead by any number of steps, so each
   row has one of its own here, and TILE columns are drawn and used at a time, in the processor's first cache.

   Sources: PCG64 is M. E. O'Neill, PCG: A family of simple fast space-efficient statistically good algorithms for random
   number generation (2014), XSL RR 128/64; setting it ahead is F. B. Brown, Random number generation with arbitrary
   strides (1994); numbers below a bound are D. Lemire, Fast random integer generation in an interval (2019). */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define TILE 64 /* columns drawn at a time */
#define STRIDE (TILE + 8)
#define LANES 8 /* instances shuffled in turn: the swaps of one wait for each other */
#define MANY 32 /* so many labels to a node, and copying a pool costs more than putting back what was moved */

typedef unsigned __int128 uint128;

typedef struct {
    uint128 factor, summand;
} Step;

/* Where the generator is after some steps: factor * state + summand. */
static Step steps(uint128 increment, uint64_t count)
{
    Step all = {1, 0};
    Step power = {((uint128)0x2360ed051fc65da4ULL << 64) | 0x4385df649fccf645ULL, increment};
    for (; count; count >>= 1) {
        if (count & 1) {
            all.summand = all.summand * power.factor + power.summand;
            all.factor *= power.factor;
        }
        power.summand *= power.factor + 1;
        power.factor *= power.factor;
    }
    return all;
}

static inline uint128 go(Step step, uint128 state) { return step.factor * state + step.summand; }

static inline uint64_t output(uint128 state)
{
    uint64_t folded = (uint64_t)(state >> 64) ^ (uint64_t)state;
    unsigned turn = (unsigned)(state >> 122);
    return (folded >> turn) | (folded << (-turn & 63));
}

typedef struct {
    uint128 state;
    uint32_t left; /* the upper half of the last output, if it comes next */
    int has_left;
} Generator;

typedef struct {
    Py_ssize_t n, length, edges, labels; /* instances, nodes of a path, edges, labels to draw from */
    int32_t *edge, *source, *goal, *path; /* (n, edges, 2), (n,), (n,), (n, length) */
} Star;

typedef struct {
    Generator *row;  /* (rows,): the row's generator */
    uint16_t *pick;  /* (rows, STRIDE): TILE numbers, and what is drawn beyond them */
    uint16_t *pool;  /* (LANES, labels): 0, 1, 2, ... between instances */
    uint16_t *whole; /* (labels,): 0, 1, 2, ... */
    uint32_t *pair;  /* (LANES, edges): parent, and child in the upper half */
} Scratch;

/* Numbers below `size` for `count` columns of a row. Returns whether NumPy would draw one of them again. */
static int draw_row(Generator *row, uint64_t size, Py_ssize_t count, Step one, Step four, uint16_t *pick)
{
    uint32_t least = (uint32_t)((1ULL << 32) % size), again = 0;
    uint128 ahead[4], last = row->state;
    for (int i = 0; i < 4; i++)
        ahead[i] = go(one, i ? ahead[i - 1] : row->state);
    if (row->has_left) {
        uint64_t first = row->left * size;
        *pick++ = (uint16_t)(first >> 32);
        again = (uint32_t)first < least;
    }
    for (Py_ssize_t column = 0; column < count; column += 8) { /* four at a time, as they need not wait for each other */
        last = ahead[3];
        for (int i = 0; i < 4; i++) {
            uint64_t bits = output(ahead[i]), low = (uint32_t)bits * size, high = (bits >> 32) * size;
            pick[column + 2 * i] = (uint16_t)(low >> 32);
            pick[column + 2 * i + 1] = (uint16_t)(high >> 32);
            again |= ((uint32_t)low < least) | ((uint32_t)high < least);
            ahead[i] = go(four, ahead[i]);
        }
    }
    row->state = last;
    row->left = (uint32_t)(output(last) >> 32);
    return again != 0;
}

static void write_instance(const Star *star, Py_ssize_t instance, const uint16_t *pool)
{
    star->source[instance] = pool[0];
    star->goal[instance] = pool[star->length - 1];
    for (Py_ssize_t i = 0; i < star->length; i++)
        star->path[instance * star->length + i] = pool[i];
}

/* Some columns of the tile, at most LANES, from their picks to finished instances. */
static void finish_lanes(const Star *star, Scratch *scratch, Py_ssize_t first, Py_ssize_t column, Py_ssize_t lanes)
{
    Py_ssize_t edges = star->edges, labels = star->labels, nodes = edges + 1 < labels ? edges + 1 : labels - 1;
    for (Py_ssize_t j = 0; j < nodes; j++)
        for (int lane = 0; lane < LANES; lane++) {
            uint16_t *entry = scratch->pool + lane * labels + j, pick = scratch->pick[j * STRIDE + column + lane];
            uint16_t taken = entry[pick];
            entry[pick] = entry[0];
            entry[0] = taken;
        }
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        const uint16_t *pool = scratch->pool + lane * labels;
        uint32_t *pair = scratch->pair + lane * edges;
        for (Py_ssize_t i = 0, arm = 0; i < edges; i++, arm = arm + 1 == star->length - 1 ? 0 : arm + 1)
            pair[i] = pool[arm ? i : 0] | (uint32_t)pool[i + 1] << 16;
        write_instance(star, first + column + lane, pool);
    }
    for (Py_ssize_t j = 0; j < edges - 1; j++)
        for (int lane = 0; lane < LANES; lane++) {
            uint32_t *entry = scratch->pair + lane * edges + j, pick = scratch->pick[(nodes + j) * STRIDE + column + lane];
            uint32_t taken = entry[pick];
            entry[pick] = entry[0];
            entry[0] = taken;
        }
    for (Py_ssize_t lane = 0; lane < lanes; lane++) {
        const uint32_t *pair = scratch->pair + lane * edges;
        int32_t *edge = star->edge + (first + column + lane) * 2 * edges;
        for (Py_ssize_t i = 0; i < edges; i++) {
            edge[2 * i] = (int32_t)(pair[i] & 0xffff);
            edge[2 * i + 1] = (int32_t)(pair[i] >> 16);
        }
    }
    for (int lane = 0; lane < LANES; lane++) {
        uint16_t *pool = scratch->pool + lane * labels;
        if (labels < MANY * nodes) {
            memcpy(pool, scratch->whole, sizeof(uint16_t) * labels);
            continue;
        }
        for (Py_ssize_t j = 0; j < nodes; j++) { /* put back only what was moved */
            Py_ssize_t other = j + scratch->pick[j * STRIDE + column + lane];
            pool[j] = (uint16_t)j;
            pool[other] = (uint16_t)other;
        }
    }
}

/* The generator of the next row, n halves on; `half` makes n / 2 steps. */
static Generator next_row(Generator row, Py_ssize_t n, Step one, Step half)
{
    row.state = go(half, row.state);
    if (n % 2 && !row.has_left)
        row.state = go(one, row.state);
    row.has_left = (n + row.has_left) % 2;
    row.left = (uint32_t)(output(row.state) >> 32);
    return row;
}

/* All instances; sets *now to where NumPy's generator would be. Returns whether NumPy would draw a number again. */
static int draw_all(const Star *star, Scratch *scratch, Generator *now, uint128 increment)
{
    Py_ssize_t nodes = star->edges + 1 < star->labels ? star->edges + 1 : star->labels - 1, rows = nodes + star->edges - 1;
    Step one = steps(increment, 1), four = steps(increment, 4), half = steps(increment, (uint64_t)star->n / 2);
    int again = 0;
    for (Py_ssize_t j = 0; j < rows; j++, *now = next_row(*now, star->n, one, half))
        scratch->row[j] = *now;
    for (Py_ssize_t i = 0; i < star->labels; i++)
        scratch->whole[i] = (uint16_t)i;
    for (int lane = 0; lane < LANES; lane++)
        memcpy(scratch->pool + lane * star->labels, scratch->whole, sizeof(uint16_t) * star->labels);
    for (Py_ssize_t first = 0; first < star->n && !again; first += TILE) {
        Py_ssize_t count = star->n - first < TILE ? star->n - first : TILE;
        for (Py_ssize_t j = 0; j < rows; j++) {
            Py_ssize_t size = j < nodes ? star->labels - j : star->edges - (j - nodes);
            again |= draw_row(&scratch->row[j], (uint64_t)size, count, one, four, scratch->pick + j * STRIDE);
        }
        for (Py_ssize_t column = 0; column < count; column += LANES)
            finish_lanes(star, scratch, first, column, count - column < LANES ? count - column : LANES);
    }
    return again;
}

/* Returns 0, 1 where NumPy would draw a number again, and -1 without memory; sets the state ahead only for 0. */
static int draw_into(const Star *star, uint64_t *state)
{
    Py_ssize_t rows = 2 * star->edges;
    uint128 increment = (uint128)state[3] << 64 | state[2];
    Generator now = {(uint128)state[1] << 64 | state[0], (uint32_t)state[5], state[4] != 0};
    int buffered = star->n % 2 || now.has_left, result = -1;
    Scratch scratch = {
        PyMem_RawMalloc(sizeof(Generator) * rows),
        PyMem_RawCalloc((size_t)rows * STRIDE, sizeof(uint16_t)),
        PyMem_RawMalloc(sizeof(uint16_t) * LANES * star->labels),
        PyMem_RawMalloc(sizeof(uint16_t) * star->labels),
        PyMem_RawCalloc((size_t)LANES * star->edges, sizeof(uint32_t)),
    };
    if (scratch.row && scratch.pick && scratch.pool && scratch.whole && scratch.pair)
        result = draw_all(star, &scratch, &now, increment);
    if (result == 0) {
        state[0] = (uint64_t)now.state;
        state[1] = (uint64_t)(now.state >> 64);
        state[4] = (uint64_t)now.has_left;
        if (buffered) /* NumPy keeps what it buffered last, used or not */
            state[5] = now.left;
    }
    PyMem_RawFree(scratch.row);
    PyMem_RawFree(scratch.pick);
    PyMem_RawFree(scratch.pool);
    PyMem_RawFree(scratch.whole);
    PyMem_RawFree(scratch.pair);
    return result;
}

PyDoc_STRVAR(draw_doc,
    "draw(state, degree, path_length, num_nodes, edges, source, goal, path) -> bool\n\n"
    "Fill C-contiguous int32 arrays with n graphs, at least one. `state` is set ahead; it is PCG64's: 6 uint64, state and\n"
    "increment with the lower halves first, has_uint32, uinteger. False, with `state` as it was, where NumPy would draw a\n"
    "number again.\n"
    "ValueError: arrays of other sizes, or a graph of more nodes than labels.");

static PyObject *draw(PyObject *module, PyObject *args)
{
    Py_buffer state, edges, source, goal, path;
    Py_ssize_t degree;
    Star star;
    int again = -1, fits;
    if (!PyArg_ParseTuple(args, "w*nnnw*w*w*w*", &state, &degree, &star.length, &star.labels, &edges, &source, &goal, &path))
        return NULL;
    fits = degree > 0 && star.length > 1 && star.labels > 1 && star.labels <= 65536 && star.length <= star.labels
        && degree <= (star.labels - 1) / (star.length - 1);
    if (fits) {
        star.n = source.len / 4;
        star.edges = degree * (star.length - 1);
        star.edge = edges.buf, star.source = source.buf, star.goal = goal.buf, star.path = path.buf;
        fits = state.len == 48 && star.n > 0 && source.len % 4 == 0 && goal.len == source.len && path.len == source.len * star.length
            && edges.len == source.len * 2 * star.edges;
    }
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        again = draw_into(&star, state.buf);
        Py_END_ALLOW_THREADS
        if (again < 0)
            PyErr_NoMemory();
    } else {
        PyErr_SetString(PyExc_ValueError, "arrays and knobs of a star do not fit together.");
    }
    PyBuffer_Release(&state);
    PyBuffer_Release(&edges);
    PyBuffer_Release(&source);
    PyBuffer_Release(&goal);
    PyBuffer_Release(&path);
    return again < 0 ? NULL : PyBool_FromLong(!again);
}

static PyMethodDef methods[] = {{"draw", draw, METH_VARARGS, draw_doc}, {NULL}};

static int add_digest(PyObject *module) { return PyModule_AddStringConstant(module, "SOURCE_DIGEST", SOURCE_DIGEST); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_digest},
#ifdef Py_MOD_GIL_NOT_USED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_star_loop", "PathStar's draws as a compiled loop.", 0, methods, slots,
};

PyMODINIT_FUNC PyInit__star_loop(void) { return PyModuleDef_Init(&definition); }
