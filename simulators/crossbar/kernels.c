/* What lines sense, its noise and its conversion, in one pass over memory: simulators.crossbar.kernels says what is
   computed. Every operation rounds as torch's does: products and sums are one operation only where they are one in
   torch's normals and convolutions, so that the bits are those of the same steps in torch. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define WORDS 624    /* of the state of a Mersenne Twister */
#define APART 397
#define GROUP 16     /* normals that torch makes at once */
#define BLOCK 2048   /* normals that lie in cache together, a multiple of GROUP */
#define TOGETHER 48  /* positions that lie in cache together, a multiple of ROWS and of GROUP */

#ifdef __AVX512F__
typedef __m512 lanes;
#define LANES 16
#define ROWS 8       /* positions whose sums fill the registers */
#define NONE _mm512_setzero_ps
#define EVERY _mm512_set1_ps
#define LOAD _mm512_loadu_ps
#define STORE _mm512_storeu_ps
#define FMA _mm512_fmadd_ps
#define SQRT _mm512_sqrt_ps
#define FIRST_HALVES(a, b) _mm512_shuffle_f32x4(a, b, 0x44)    /* of two groups */
#define SECOND_HALVES(a, b) _mm512_shuffle_f32x4(a, b, 0xee)
#else
typedef __m256 lanes;
#define LANES 8
#define ROWS 6
#define NONE _mm256_setzero_ps
#define EVERY _mm256_set1_ps
#define LOAD _mm256_loadu_ps
#define STORE _mm256_storeu_ps
#define FMA _mm256_fmadd_ps
#define SQRT _mm256_sqrt_ps
#define FIRST_HALVES(a, b) (a)    /* of one group */
#define SECOND_HALVES(a, b) (b)
#endif
typedef int32_t whole __attribute__((vector_size(4 * LANES)));
#define LINES (2 * LANES)   /* whose weights lie side by side in a panel */
const int64_t lines = LINES;

/* The Mersenne Twister: words left before the next round, place of the next one, and the words. */
typedef struct {
    uint32_t words[WORDS];
    int32_t left;
    int64_t next;
} twister;

static inline uint32_t twisted(uint32_t here, uint32_t next, uint32_t far) {
    uint32_t mixed = (here & 0x80000000u) | (next & 0x7fffffffu);
    return far ^ (mixed >> 1) ^ (-(next & 1u) & 0x9908b0dfu);
}

static void turn(twister *own) {
    uint32_t *w = own->words, first;
    for (int i = 0; i < WORDS - APART; i++) w[i] = twisted(w[i], w[i + 1], w[i + APART]);
    first = w[0];
    for (int i = WORDS - APART; i < WORDS - 1; i++) w[i] = twisted(w[i], w[i + 1], w[i + APART - WORDS]);
    w[WORDS - 1] = twisted(w[WORDS - 1], first, w[APART - 1]);
    own->left = WORDS;
    own->next = 0;
}

/* Uniform in [0, 1), multiples of 2^-24. */
static void uniforms(twister *own, float *out, int64_t n) {
    while (n) {
        if (own->left == 1) {
            turn(own);
            own->left++;
        }
        int64_t now = own->left - 1 < n ? own->left - 1 : n;
        const uint32_t *w = own->words + own->next;
        for (int64_t i = 0; i < now; i++) {
            uint32_t y = w[i];
            y ^= y >> 11;
            y ^= (y << 7) & 0x9d2c5680u;
            y ^= (y << 15) & 0xefc60000u;
            y ^= y >> 18;
            out[i] = (float)(int32_t)(y & 0xffffffu) * 0x1p-24f;
        }
        own->left -= (int32_t)now;
        own->next += now;
        out += now;
        n -= now;
    }
}

/* ln x of x in (0, 1]. Source: Cephes, logf (S. Moshier). */
static inline lanes logarithm(lanes x) {
    static const float p[] = {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f,
                              1.4249322787e-1f, -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f,
                              3.3333331174e-1f};
    whole bits = (whole)x;
    lanes e = __builtin_convertvector((bits >> 23) - 127, lanes) + 1;
    x = (lanes)((bits & ~0x7f800000) | (whole)EVERY(0.5f));
    whole low = x < 0.707106781186547524f;
    x = x - 1 + (lanes)((whole)x & low);
    e -= (lanes)((whole)EVERY(1) & low);
    lanes z = x * x, y = EVERY(p[0]);
    for (int i = 1; i < 9; i++) y = FMA(y, x, EVERY(p[i]));
    y = FMA(y * x, z, e * -2.12194440e-4f);
    y = FMA(-z, EVERY(0.5f), y);
    return FMA(e, EVERY(0.693359375f), x + y);
}

/* sin x and cos x of x >= 0. Source: Cephes, sinf and cosf (S. Moshier). */
static inline void turned(lanes x, lanes *sine, lanes *cosine) {
    whole octant = (__builtin_convertvector(x * 1.27323954473516f, whole) + 1) & ~1;
    whole sign_sine = (octant & 4) << 29, sign_cosine = (~(octant - 2) & 4) << 29, odd = (octant & 2) == 0;
    lanes y = __builtin_convertvector(octant, lanes);
    x = FMA(y, EVERY(-0.78515625f), x);
    x = FMA(y, EVERY(-2.4187564849853515625e-4f), x);
    x = FMA(y, EVERY(-3.77489497744594108e-8f), x);
    lanes z = x * x;
    lanes c = FMA(FMA(EVERY(2.443315711809948e-5f), z, EVERY(-1.388731625493765e-3f)), z,
                  EVERY(4.166664568298827e-2f));
    c = FMA(c * z, z, -(z * 0.5f)) + 1;
    lanes s = FMA(FMA(EVERY(-1.9515295891e-4f), z, EVERY(8.3321608736e-3f)), z, EVERY(-1.6666654611e-1f));
    s = FMA(s * z, x, x);
    *sine = (lanes)(((odd & (whole)s) | (~odd & (whole)c)) ^ sign_sine);
    *cosine = (lanes)(((odd & (whole)c) | (~odd & (whole)s)) ^ sign_cosine);
}

/* As many groups of uniforms as fill the lanes twice become normals (Box and Muller): of each group the first half are
   radii and the second half angles. */
static inline void normals_at(float *at) {
    lanes first = LOAD(at), second = LOAD(at + LANES), sine, cosine;
    lanes radius = SQRT(-2 * logarithm(1 - FIRST_HALVES(first, second)));
    turned(6.283185307179586f * SECOND_HALVES(first, second), &sine, &cosine);
    first = radius * cosine;
    second = radius * sine;
    STORE(at, FIRST_HALVES(first, second));
    STORE(at + LANES, SECOND_HALVES(first, second));
}

/* n normals, a multiple of GROUP. */
static void normal_groups(twister *own, float *out, int64_t n) {
    float rest[2 * LANES] = {0};
    int64_t over = n % (2 * LANES);
    uniforms(own, out, n);
    for (int64_t i = 0; i < n - over; i += 2 * LANES) normals_at(out + i);
    memcpy(rest, out + n - over, over * sizeof *rest);
    if (over) normals_at(rest);
    memcpy(out + n - over, rest, over * sizeof *rest);
}

/* The last normals, GROUP or more and fewer than two of them: what is over a group is drawn again with those before. */
static void last_normals(twister *own, float *out, int64_t n) {
    normal_groups(own, out, GROUP);
    uniforms(own, out + GROUP, n - GROUP);
    normal_groups(own, out + n - GROUP, GROUP);
}

/* A CPU generator of torch: its state is a seed, `left`, whether it is seeded, `next`, then the words as 64 bits. */
#define LEFT(state) (*(int32_t *)((state) + 8))
#define NEXT(state) (*(int64_t *)((state) + 16))
#define STORED(state) ((uint64_t *)((state) + 24))

static void take(twister *own, char *state) {
    for (int i = 0; i < WORDS; i++) own->words[i] = (uint32_t)STORED(state)[i];
    own->left = LEFT(state);
    own->next = NEXT(state);
}

static void give_back(const twister *own, char *state) {
    for (int i = 0; i < WORDS; i++) STORED(state)[i] = own->words[i];
    LEFT(state) = own->left;
    NEXT(state) = own->next;
}

/* How many of n normals, GROUP or more, are drawn next where `done` of them are; the last ones together. */
static int64_t drawn_next(int64_t n, int64_t done) {
    int64_t last = n % GROUP ? GROUP + n % GROUP : 0, whole = n - done - last;
    return whole == 0 ? last : whole < BLOCK ? whole : BLOCK;
}

static void draw(twister *own, float *out, int64_t n) {
    if (n % GROUP) last_normals(own, out, n);
    else normal_groups(own, out, n);
}

/* n normals, GROUP or more. */
void normals(char *state, float *out, int64_t n) {
    twister own;
    take(&own, state);
    for (int64_t done = 0, now; done < n; done += now) {
        now = drawn_next(n, done);
        draw(&own, out + done, now);
    }
    give_back(&own, state);
}

typedef struct {
    float low, high;
} codes;

/* One stretch of values whose steps lie side by side, added to those `before` where there are any; how many were
   clipped. */
static inline __attribute__((always_inline)) int64_t stretch(
    const float *current, const float *variance, const float *normal, const float *inverse, const float *step,
    const codes *range, const float *before, float *out, uint8_t *outside, int64_t n) {
    float low = range->low, high = range->high;
    int32_t clipped = 0;
#pragma GCC ivdep
    for (int64_t i = 0; i < n; i++) {
        float y = current[i];
        if (normal) y += normal[i] * sqrtf(variance[i] < 0 ? 0 : variance[i]);
        float code = rintf(y * inverse[i]), inside = code < low ? low : code;
        inside = inside > high ? high : inside;   /* one after the other, as two instructions */
        int32_t off = islessgreater(inside, code);
        clipped += off;
        if (outside) outside[i] = (uint8_t)off;
        float value = inside * step[i];
        out[i] = before ? before[i] + value : value;
    }
    return clipped;
}

/* Where values lie in a map: at `place` k of the window of `position` p `length` of them side by side, image by image. */
typedef struct {
    const int64_t *place, *position;
    int64_t length, places, positions, image;
} windows;

/* A place in a map: value of a stretch, place in the window, position, and where its image begins. */
typedef struct {
    int64_t value, place, position, image;
} spot;

static spot spot_of(const windows *w, int64_t at) {
    int64_t group = at / w->length, position = group / w->places;
    spot s = {at % w->length, group % w->places, position % w->positions, position / w->positions * w->image};
    return s;
}

/* Go on by n values, which end with their stretch at most. */
static inline void go_on(const windows *w, spot *s, int64_t n) {
    s->value += n;
    if (s->value < w->length) return;
    s->value = 0;
    if (++s->place < w->places) return;
    s->place = 0;
    if (++s->position < w->positions) return;
    s->position = 0;
    s->image += w->image;
}

/* What is converted, from place `from` on; where there is nothing of a kind, its pointer is 0. */
typedef struct {
    const float *current, *variance, *inverse, *step, *before;
    float *out;
    uint8_t *outside;
    int64_t from, period;
    codes range;
    const windows *overlap;
} values;

/* All stretches of a piece of n values that begins at place `at`. */
static int64_t piece(const values *v, const float *normal, int64_t at, int64_t n) {
    int64_t clipped = 0;
    const windows *w = v->overlap;
    spot there = w ? spot_of(w, at) : (spot){0};
    for (int64_t done = 0, column = at % v->period, now; done < n; done += now) {
        int64_t here = at + done;
        now = v->period - column < n - done ? v->period - column : n - done;
        if (w && w->length - there.value < now) now = w->length - there.value;
        const float *c = v->current + here - v->from, *i = v->inverse + column, *s = v->step + column;
        const float *b = v->before ? v->before + here : 0, *a = normal ? v->variance + here - v->from : 0;
        const float *x = normal ? normal + done : 0;
        float *o = v->out + here;
        if (w) {
            b = o = v->out + there.image + w->position[there.position] + w->place[there.place] + there.value;
            go_on(w, &there, now);
        }
        if (v->outside && x) clipped += stretch(c, a, x, i, s, &v->range, 0, o, v->outside + here, now);
        else if (v->outside) clipped += stretch(c, 0, 0, i, s, &v->range, 0, o, v->outside + here, now);
        else if (b && x) clipped += stretch(c, a, x, i, s, &v->range, b, o, 0, now);
        else if (b) clipped += stretch(c, 0, 0, i, s, &v->range, b, o, 0, now);
        else if (x) clipped += stretch(c, a, x, i, s, &v->range, 0, o, 0, now);
        else clipped += stretch(c, 0, 0, i, s, &v->range, 0, o, 0, now);
        if ((column += now) == v->period) column = 0;
    }
    return clipped;
}

/* n values from place `at` on, with noise where something draws it. */
static int64_t pieces(const values *v, twister *own, int64_t at, int64_t n) {
    if (!own) return piece(v, 0, at, n);
    float normal[BLOCK + GROUP];
    int64_t clipped = 0;
    for (int64_t done = 0, now; done < n; done += now) {
        now = drawn_next(n, done);
        draw(own, normal, now);
        clipped += piece(v, normal, at + done, now);
    }
    return clipped;
}

/* Conversion of n values, with noise where there is a state. They are added to those `before` where nobody asks which
   were `outside`; `out` may be `current` or `before`. With an overlap, `out` is a map that they are added to. How many
   were clipped. */
int64_t convert(char *state, const float *current, const float *variance, const float *inverse, const float *step,
                int64_t period, float low, float high, const float *before, uint8_t *outside, float *out, int64_t n,
                const windows *overlap) {
    values v = {current, variance, inverse, step, before, out, outside, 0, period, {low, high}, overlap};
    twister own;
    if (state) take(&own, state);
    int64_t clipped = pieces(&v, state ? &own : 0, 0, n);
    if (state) give_back(&own, state);
    return clipped;
}

/* Rows of `columns` sums: of what lies in each window of the drives and its weights, and of their squares and variances
   where there are any. Drives are maps of channels side by side, their values `apart` from image to image, row to row and
   position to position, and windows are those of maps with their padding. Weights lie in panels of LINES columns, one
   after the other for each value of a window. */
typedef struct {
    const windows *from;
    const float *drive, *weight, *variance;
    int64_t apart[3], channels, height, width, padding, rows, columns;
} product;

/* Where the sums of some rows lie in cache, and the maps of the images that they are of, with their padding; then the
   same of variances and squares. */
typedef struct {
    float *sums, *maps, *variances, *squares;
    int64_t images, laid;    /* how many maps there are, the last image that was laid out so far */
} cached;

/* ROWS rows of a panel: each sum grows by one value of the window after the other, as in torch's convolutions. */
static void block(const windows *w, const float *const from[ROWS], const float *panel, float *out, int64_t columns) {
    lanes sum[ROWS][2];
    for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = NONE();
    for (int64_t place = 0; place < w->places; place++) {
        int64_t begin = w->place[place], end = begin + w->length;
        for (int64_t c = begin; c < end; c++, panel += LINES) {
            lanes left = LOAD(panel), right = LOAD(panel + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                lanes x = EVERY(from[r][c]);
                sum[r][0] = FMA(x, left, sum[r][0]);
                sum[r][1] = FMA(x, right, sum[r][1]);
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        STORE(out + r * columns, sum[r][0]);
        STORE(out + r * columns + LANES, sum[r][1]);
    }
}

static int64_t held(const product *p) { return (2 * TOGETHER - 2) / p->from->positions + 2; }
static int64_t sums_room(const product *p, int64_t rows) { return (rows + ROWS) * p->columns + LINES; }

/* Values of scratch that a product needs. */
int64_t room(const product *p) {
    return (p->variance ? 2 : 1) * (sums_room(p, 2 * TOGETHER) + held(p) * p->from->image);
}

static cached caches(const product *p, float *scratch) {
    int64_t images = held(p), maps = images * p->from->image, sums = sums_room(p, 2 * TOGETHER);
    cached c = {scratch, scratch + sums, scratch + sums + maps, scratch + 2 * sums + maps, images, -1};
    memset(c.maps, 0, maps * sizeof *c.maps);
    if (p->variance) memset(c.squares, 0, maps * sizeof *c.maps);
    return c;
}

/* An image's map and its squares. */
static void lay_out(const product *p, const cached *own, int64_t image) {
    int64_t side = p->width + 2 * p->padding, place = image % own->images * p->from->image;
    for (int64_t y = 0; y < p->height; y++) {
        int64_t to = place + ((y + p->padding) * side + p->padding) * p->channels;
        const float *from = p->drive + image * p->apart[0] + y * p->apart[1];
        for (int64_t x = 0; x < p->width; x++, to += p->channels, from += p->apart[2]) {
            float *map = own->maps + to, *square = own->squares + to;
#pragma GCC ivdep
            for (int64_t c = 0; c < p->channels; c++) map[c] = from[c];
            if (!p->variance) continue;
#pragma GCC ivdep
            for (int64_t c = 0; c < p->channels; c++) square[c] = from[c] * from[c];
        }
    }
}

/* n rows from the first on, fewer than twice TOGETHER. What a panel has beyond the last column spills into the next row
   and is overwritten: panels go from the last to the first. Up to ROWS rows more are spilled. */
static void multiply(const product *p, const cached *own, const float *maps, const float *panels, float *out,
                     int64_t first, int64_t n) {
    const windows *w = p->from;
    const float *from[2 * TOGETHER + ROWS];
    int64_t image = first / w->positions % own->images, position = first % w->positions;
    for (int64_t i = 0; i < n + ROWS; i++) {
        from[i] = maps + image * w->image + w->position[position];
        if (i < n - 1 && ++position == w->positions) position = 0, image = (image + 1) % own->images;
    }
    for (int64_t column = (p->columns - 1) / LINES * LINES; column >= 0; column -= LINES)
        for (int64_t i = 0; i < n; i += ROWS)
            block(w, from + i, panels + column * w->places * w->length, out + i * p->columns + column, p->columns);
}

/* The sums of n rows, and their variances. */
static void sense(const product *p, cached *own, int64_t first, int64_t n) {
    while (own->laid < (first + n - 1) / p->from->positions) lay_out(p, own, ++own->laid);
    multiply(p, own, own->maps, p->weight, own->sums, first, n);
    if (p->variance) multiply(p, own, own->squares, p->variance, own->variances, first, n);
}

/* How many rows are sensed next: the last ones together, so that they are never fewer than their normals need. */
static int64_t sensed_next(const product *p, int64_t first) {
    return p->rows - first < 2 * TOGETHER ? p->rows - first : TOGETHER;
}

/* All sums. */
void sums(const product *p, float *scratch, float *out) {
    cached own = caches(p, scratch);
    for (int64_t first = 0, now; first < p->rows; first += now) {
        now = sensed_next(p, first);
        sense(p, &own, first, now);
        memcpy(out + first * p->columns, own.sums, now * p->columns * sizeof *out);
    }
}

/* `convert` of all sums, some rows after the other. */
int64_t read_lines(char *state, const product *p, float *scratch, const float *inverse, const float *step,
                   int64_t period, float low, float high, const float *before, float *out, const windows *overlap) {
    cached own = caches(p, scratch);
    values v = {own.sums, own.variances, inverse, step, before, out, 0, 0, period, {low, high}, overlap};
    int64_t clipped = 0;
    twister drawing;
    if (state) take(&drawing, state);
    for (int64_t first = 0, now; first < p->rows; first += now) {
        now = sensed_next(p, first);
        sense(p, &own, first, now);
        v.from = first * p->columns;
        clipped += pieces(&v, state ? &drawing : 0, v.from, now * p->columns);
    }
    if (state) give_back(&drawing, state);
    return clipped;
}
