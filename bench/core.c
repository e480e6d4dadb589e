/*
 * The work of src/forward/pipeline.ts in plain C, on the same memory layout: what bench/core.ts measures TypeScript by.
 * Usage: core CONNECTIONS ROUNDS PASSES   → prints the nanoseconds a packet of each round, one a line.
 * PASSES 1: one packet after the other, as most C programs do. PASSES 3: the same three passes as the TypeScript core.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../native/layout.h"

#define FLOW(word) LB4_FLOW_##word
#define FRAME(word) LB4_FRAME_##word
#define HOP(word) LB4_HOP_##word
enum { FRAMES = 16384, SLOT = 192, IP = 96, TCP = FLOW(LIVE) | 6 << FLOW(PROTOCOL_SHIFT) };

static uint32_t *flow, homes, hops[16 * 8], key[4] = {0x1234567, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35};
static uint64_t verdicts[32];
static uint8_t *slab;
static int32_t *frames;
static volatile uint32_t sink;

static uint32_t state = 1;
static uint32_t rnd(void) { state ^= state << 13; state ^= state >> 17; return state ^= state << 5; }
static uint16_t swap16(uint16_t v) { return __builtin_bswap16(v); }
static uint32_t hash(uint32_t s, uint32_t d, uint32_t p) {
  uint32_t h = (s ^ key[0]) * key[1];
  h ^= h >> 15; h = (h + p) * key[2];
  h ^= h >> 13; h = (h + d) * key[3];
  return h;
}
static uint32_t home(uint32_t h) { return (uint64_t)h * homes >> 32; }
static uint32_t fold(uint32_t s) { s = (s & 0xffff) + (s >> 16); return (s & 0xffff) + (s >> 16); }
static uint32_t delta(uint32_t a, uint32_t b) { return fold((~a & 0xffff) + (~a >> 16) + (b & 0xffff) + (b >> 16)); }

static void install(uint32_t s, uint32_t d, uint32_t p, uint32_t ns, uint32_t nd, uint32_t np) {
  uint32_t at = home(hash(s, d, p));
  while (flow[at * FLOW(ENTRY)]) at++;
  uint32_t *e = flow + at * FLOW(ENTRY), a = fold(delta(s, ns) + delta(d, nd));
  e[FLOW(SOURCE)] = s, e[FLOW(DESTINATION)] = d, e[FLOW(PORTS)] = p, e[FLOW(NEW_SOURCE)] = ns, e[FLOW(NEW_DESTINATION)] = nd, e[FLOW(NEW_PORTS)] = np;
  e[FLOW(DELTAS)] = fold(a + delta(p, np)) | a << 16, e[FLOW(NEXT_HOP)] = 1, e[FLOW(STATE)] = TCP | FLOW(FAST);
}

/* The connection i: client 10.x.y.z:port → VIP:80, VIP:port' → one of 16 servers. */
static void tuple(uint32_t i, uint32_t *c, uint32_t *cp, uint32_t *server, uint32_t *sp) {
  *c = 10 | (i >> 8) << 8, *cp = swap16(1024 + (i & 0xff)) | (uint32_t)swap16(80) << 16;
  *server = 172 | 16 << 8 | (i & 15) << 24, *sp = swap16(33768 + i % 27233) | (uint32_t)swap16(8000 + i / 27233) << 16;
}
#define VIP (192u | 168u << 8 | 1u << 24)

static void fill(uint32_t connections) {
  for (uint32_t i = 0; i < FRAMES; i++) {
    uint32_t *w = (uint32_t *)(slab + i * SLOT + IP), c, cp, s, sp, n = rnd() % connections;
    tuple(n, &c, &cp, &s, &sp);
    w[0] = 0x45 | (uint32_t)swap16(40) << 16, w[1] = 0x40, w[2] = 64 | 6 << 8;
    if (rnd() & 1) w[3] = c, w[4] = VIP, w[5] = cp; else w[3] = s, w[4] = VIP, w[5] = sp >> 16 | sp << 16;
    w[6] = n, w[7] = n, w[8] = 5 << 4 | 0x10 << 8, w[9] = 0;
  }
}

static inline int plausible(int32_t *f, uint32_t *w) {
  uint32_t ihl = w[0] & 15, length = w[0] >> 24 | (w[0] >> 8 & 0xff00), headers = (ihl + (w[ihl + 3] >> 4 & 15)) * 4;
  return !((w[0] & 0xf0) != 0x40 || ihl < 5 || length < headers || length > (uint32_t)f[FRAME(LENGTH)] || headers < ihl * 4 + 20 ||
           (w[1] & 0xff3f0000) || (w[2] & 0xff00) != 6 << 8 || f[FRAME(FLAGS)] & FRAME(FLAG_TRUNCATED));
}
static inline uint32_t home_of(uint32_t *w) { return home(hash(w[3], w[4], w[w[0] & 15])); }

static inline int apply(int32_t *f, uint32_t *w, uint32_t at, uint32_t now) {
  uint32_t *e = 0, *t = w + (w[0] & 15);
  for (int probe = 0; probe < FLOW(PROBES); probe++, at++) {
    uint32_t *x = flow + at * FLOW(ENTRY);
    if ((x[FLOW(STATE)] & FLOW(PRESENCE)) == FLOW(EMPTY)) break;
    if ((x[FLOW(STATE)] & FLOW(KEYED)) == TCP && x[FLOW(SOURCE)] == w[3] && x[FLOW(PORTS)] == t[0] && x[FLOW(DESTINATION)] == w[4]) { e = x; break; }
  }
  if (!e) return 20;
  uint32_t length = w[0] >> 24 | (w[0] >> 8 & 0xff00), *hop = hops + e[FLOW(NEXT_HOP)] * HOP(HOP), ttl = w[2];
  if ((ttl & 0xff) <= 1 || length > hop[HOP(MTU)] || (t[3] & 0x17 << 8) != 0x10 << 8 || !(e[FLOW(STATE)] & FLOW(FAST))) return 21;
  e[FLOW(SEEN)] = now, e[FLOW(ACKNOWLEDGED)] = t[2], e[FLOW(BYTES)] += length - ((w[0] & 15) + (t[3] >> 4 & 15)) * 4;
  uint32_t s = fold((~ttl >> 16) + (e[FLOW(DELTAS)] >> 16) + 0xfffe);
  w[2] = ((ttl & 0xffff) - 1) | ~s << 16;
  w[3] = e[FLOW(NEW_SOURCE)], w[4] = e[FLOW(NEW_DESTINATION)], t[0] = e[FLOW(NEW_PORTS)];
  if (f[FRAME(FLAGS)] & 1) s = fold((t[4] & 0xffff) + (e[FLOW(DELTAS)] >> 16)); else s = ~fold((~t[4] & 0xffff) + (e[FLOW(DELTAS)] & 0xffff));
  t[4] = (t[4] & ~0xffffu) | (s & 0xffff);
  ((uint16_t *)w)[-7] = hop[HOP(ETHERNET)], w[-3] = hop[HOP(ETHERNET) + 1], w[-2] = hop[HOP(ETHERNET) + 2], w[-1] = hop[HOP(ETHERNET) + 3];
  f[FRAME(LENGTH)] = length, f[FRAME(INTERFACE)] = hop[HOP(INTERFACE)], f[FRAME(OUT)] = hop[HOP(OUT)];
  return 0;
}

static void one_pass(int count, uint32_t now) {
  for (int i = 0; i < count; i++) {
    int32_t *f = frames + FRAME(HEADER) + i * FRAME(STRIDE);
    uint32_t *w = (uint32_t *)(slab + f[FRAME(OFFSET)]);
    verdicts[plausible(f, w) ? apply(f, w, home_of(w), now) : 22]++;
  }
}
static void three_passes(int count, uint32_t now) {
  for (int i = 0; i < count; i++) {
    int32_t *f = frames + FRAME(HEADER) + i * FRAME(STRIDE);
    uint32_t *w = (uint32_t *)(slab + f[FRAME(OFFSET)]);
    f[FRAME(HOME)] = plausible(f, w) ? (int32_t)home_of(w) : -1;
  }
  uint32_t x = 0;
  for (int i = 0; i < count; i++) x ^= flow[(uint32_t)(frames[FRAME(HEADER) + i * FRAME(STRIDE) + FRAME(HOME)] & ~(frames[FRAME(HEADER) + i * FRAME(STRIDE) + FRAME(HOME)] >> 31)) * FLOW(ENTRY)];
  sink = x;
  for (int i = 0; i < count; i++) {
    int32_t *f = frames + FRAME(HEADER) + i * FRAME(STRIDE);
    uint32_t *w = (uint32_t *)(slab + f[FRAME(OFFSET)]);
    verdicts[f[FRAME(HOME)] < 0 ? 22 : apply(f, w, f[FRAME(HOME)], now)]++;
  }
}

static double nanoseconds(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  uint32_t connections = atoi(argv[1]), capacity;
  for (homes = 256; homes * 3ull < connections * 10ull; homes *= 2);
  capacity = homes + FLOW(PROBES);
  flow = aligned_alloc(4096, (size_t)capacity * 64), slab = aligned_alloc(4096, FRAMES * SLOT), frames = calloc(FRAME(HEADER) + FRAME(BATCH) * FRAME(STRIDE), 4);
  memset(flow, 0, (size_t)capacity * 64), memset(slab, 0, FRAMES * SLOT);
  hops[HOP(HOP) + HOP(INTERFACE)] = 2, hops[HOP(HOP) + HOP(MTU)] = 1500, hops[HOP(HOP) + HOP(OUT)] = FRAME(SEND);
  for (uint32_t i = 0; i < connections; i++) {
    uint32_t c, cp, s, sp;
    tuple(i, &c, &cp, &s, &sp);
    install(c, VIP, cp, VIP, s, sp), install(s, VIP, sp >> 16 | sp << 16, VIP, c, cp >> 16 | cp << 16);
  }
  for (int round = 0, rounds = atoi(argv[2]); round < rounds; round++) {
    fill(connections);
    double spent = 0;
    for (int first = 0; first < FRAMES; first += FRAME(BATCH)) {
      for (int i = 0; i < FRAME(BATCH); i++) {
        int32_t *f = frames + FRAME(HEADER) + i * FRAME(STRIDE);
        f[FRAME(OFFSET)] = (first + i) * SLOT + IP, f[FRAME(LENGTH)] = 46, f[FRAME(FLAGS)] = 0;
      }
      double start = nanoseconds();
      if (argv[3][0] == '1') one_pass(FRAME(BATCH), round); else three_passes(FRAME(BATCH), round);
      spent += nanoseconds() - start;
    }
    printf("%.3f\n", spent / FRAMES);
  }
  if (verdicts[20] || verdicts[21] || verdicts[22]) { fprintf(stderr, "core: not all packets were forwarded\n"); return 1; }
  return 0;
}
