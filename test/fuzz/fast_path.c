// The fast path's programs (native/bpf/lb4.bpf.c) over a frame, a few flows and their hops, all of them the input's: what leaves is the frame, rewritten
// by a flow that has its tuple and was given to the kernel, and nothing else of it is changed; checksums are as right or wrong as they came; or it is whole
// inside of another packet, as its flow and hop say. What is dropped is a first packet that its frontend's list denies, or a SYN that has not come before.
// XDP and tc do the same, and what tc takes is what the packet socket's filter says that it takes.
#include "../../native/bpf/lb4.bpf.c"
#include "bpf_host.h"

enum { HOMES = 16, ENTRIES = HOMES + LB4_FLOW_PROBES, WORKERS = 3, HOPS = 4, INTERFACES = 8, FLOWS = 3, MOST = 2048 };

static struct flow flow_table[WORKERS * ENTRIES];
static struct hop hop_table[WORKERS * LB4_HOP_ENTRIES];
static struct link link_table[LB4_LINK_PLACES];
// A book with one frontend and one list; the cells that any SYN has; counts.
enum { PAIRS = 16, FRONTEND = 5 };
static struct pair book[PAIRS];
static union line asked, marked, cells;
static struct drops by_rule, by_worker;
static struct settings* written;
static __u64 forwarded;
// Where bpf_redirect() was told to.
static __u32 redirected;

static void* host_lookup(void* map, const void* key) {
  const __u32 place = *(const __u32*)key;
  if (map == &flows) return place < settings.workers * ENTRIES ? &flow_table[place] : NULL;
  if (map == &hops) return place < settings.workers * LB4_HOP_ENTRIES ? &hop_table[place] : NULL;
  if (map == &links) return place < LB4_LINK_PLACES ? &link_table[place] : NULL;
  if (map == &books) return place == 0 ? book : NULL;
  if (map == book) return place < PAIRS ? &book[place] : NULL;
  if (map == &syns) {
    if (place >= 1 + settings.workers * LB4_EARLY_WORKER_LINES) return NULL;
    return place == 0 ? &asked : (place - 1) % LB4_EARLY_WORKER_LINES == 0 ? &marked : &cells;
  }
  if (map == &drops) {
    if (place == FRONTEND) return &by_rule;
    CHECK(place >= LB4_COUNTER_MAX_FRONTENDS && place < LB4_COUNTER_MAX_FRONTENDS + settings.workers);
    return &by_worker;
  }
  CHECK(map == &counts && place == 0);
  return &forwarded;
}

static long host_redirect(__u32 interface, __u64 flags) {
  CHECK(flags == 0);
  redirected = interface;
  return TC_ACT_REDIRECT;
}
_Static_assert((int)TC_ACT_REDIRECT != (int)XDP_REDIRECT, "told apart below");

// What bpf_csum_update() was told.
static __u32 told;

static __s64 host_csum_update(struct __sk_buff* skb, __u32 sum) {
  (void)skb;
  told = sum;
  return 0;
}

// Room in front of the frame, `from` bytes of which move there.
static void push_frame(uint32_t bytes, uint32_t from) {
  CHECK(bytes <= (uint32_t)(frame - arena));
  open_frame();
  memmove(frame - bytes, frame, from);
  frame -= bytes;
  memset(frame + from, 0xdd, bytes);
  frame_length += bytes;
  frame_linear += bytes;
  close_frame();
}

// There may be no memory for it.
static bool has_room;

// bpf_skb_net_grow().
static long host_adjust_room(struct __sk_buff* skb, __s32 difference, __u32 mode, __u64 flags) {
  const __u64 udp = difference == 20 ? 0 : BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
  CHECK(difference > 0 && difference <= 48 && mode == BPF_ADJ_ROOM_MAC);
  CHECK(flags == (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | udp));
  if (!has_room) return -12;
  push_frame((uint32_t)difference, ETH_HLEN);
  show_frame(skb);
  return 0;
}

static __u64 host_clock(void) { return 7000000000; }

static struct xdp_md xdp_context;

static long host_adjust_tail(struct xdp_md* xdp, int delta) {
  const long length = (long)frame_length + delta;
  if (length < ETH_HLEN || delta > 0) return -22;
  frame_length = frame_linear = (uint32_t)length;
  close_frame();
  xdp->data_end = xdp->data + frame_length;
  return 0;
}

static long host_adjust_head(struct xdp_md* xdp, int delta) {
  CHECK(delta < 0 && delta >= -48);
  if (!has_room) return -22;
  push_frame((uint32_t)-delta, 0);
  xdp->data = (uint32_t)(uintptr_t)frame;
  return 0;
}

int LLVMFuzzerInitialize(int* count, char*** arguments) {
  (void)count, (void)arguments;
  written = write_constant(&settings, sizeof settings);
  bpf_map_lookup_elem = host_lookup;
  bpf_redirect = host_redirect;
  bpf_ktime_get_coarse_ns = host_clock;
  bpf_skb_load_bytes = host_load_bytes;
  bpf_skb_pull_data = host_pull_data;
  bpf_skb_change_tail = host_change_tail;
  bpf_l4_csum_replace = host_l4_csum_replace;
  bpf_skb_adjust_room = host_adjust_room;
  bpf_csum_update = host_csum_update;
  bpf_xdp_adjust_tail = host_adjust_tail;
  bpf_xdp_adjust_head = host_adjust_head;
  return 0;
}

// ---- the input

struct scene {
  uint8_t bytes[MOST];
  uint32_t length;
  uint32_t linear;
  __u32 interface;
  __u32 packet_type;
  __u32 gso_size;
  bool has_vlan;
  bool is_partial;
  uint32_t flows;
  struct flow* installed[FLOWS];
};

static uint32_t delta16(uint32_t from, uint32_t to) {
  return host_fold((uint64_t)(~from & 0xffff) + (~from >> 16) + (to & 0xffff) + (to >> 16));
}

// Hops of all workers, and whose links are clients' alone.
static void write_hops(struct input* input) {
  const uint8_t kinds = take8(input);
  const uint8_t sides = take8(input);
  const uint8_t tunnels = take8(input);
  for (uint32_t worker = 0; worker < settings.workers; worker++) {
    struct hop* const base = &hop_table[worker * LB4_HOP_ENTRIES];
    for (uint32_t i = 0; i < HOPS; i++) {
      __u32* const word = base[i].word;
      word[LB4_HOP_INTERFACE] = 1 + i;
      word[LB4_HOP_MTU] = i == 3 ? 0 : 1500 >> i;
      word[LB4_HOP_OUT] = kinds & 1 << i ? LB4_FRAME_ROUTE : LB4_FRAME_SEND;
      word[LB4_HOP_VERSION] = kinds >> 4 & 1 << i ? 3 : 2;
      const __u32 outer[] = {0, IPIP_BYTES, GUE_BYTES | 0x434c0000, GUE_BYTES};
      word[LB4_HOP_TUNNEL] = outer[tunnels >> 2 * i & 3];
      word[LB4_HOP_TUNNEL_SOURCE] = 0x01020304;
      word[LB4_HOP_TUNNEL_DESTINATION] = 0x0a0b0c00 + i;
      for (uint32_t k = 0; k < 4; k++) word[LB4_HOP_ETHERNET + k] = 0x02010000 + i * 0x101 + k;
      word[LB4_HOP_ETHERNET + 3] = (word[LB4_HOP_ETHERNET + 3] & 0xffff) | 0x00080000;
    }
    base[LB4_HOP_CLIENT_LINKS].word[0] = sides;
    base[LB4_HOP_SERVER_LINKS].word[0] = sides >> 2;
    base[LB4_HOP_TABLES].word[0] = sides & 1;
  }
}

static void write_links(struct input* input) {
  memset(link_table, 0, sizeof link_table);
  for (uint32_t i = 1; i < INTERFACES; i++) {
    const uint8_t what = take8(input);
    if (!(what & 1)) continue;
    struct link* const link = &link_table[i];
    *link = (struct link){.interface = i, .is_virtual = what >> 1 & 1, .takes_redirected = what >> 2 & 1, .has_tc = what >> 3 & 1, .is_front = what >> 5 & 1};
    memset(link->address, what & 16 ? 0x02 : 0, sizeof link->address);
  }
}

// A flow at its home or behind what was there, often the frame's own; the rewrite is whole, its deltas right.
static void write_flow(struct input* input, struct scene* scene) {
  const uint8_t how = take8(input);
  const uint8_t state = take8(input);
  const uint8_t before = take8(input);
  struct tuple key = {take32(input), take32(input), take32(input)};
  if (how & 1 && scene->length >= 38) memcpy(&key, scene->bytes + 26, sizeof key);
  const __u32 protocol = how & 2 || scene->length < 24 ? (how & 4 ? IPPROTO_TCP : IPPROTO_UDP) : scene->bytes[23];
  const __u32 worker = how & 8 ? worker_of_answer(&key) : how & 16 ? 0 : worker_of(&key);
  struct flow* flow = &flow_table[worker * ENTRIES + home_of(&key)];
  for (uint32_t i = 0; i < before % (LB4_FLOW_PROBES + 1) || flow->word[LB4_FLOW_STATE]; i++, flow++) {
    if (flow >= &flow_table[(worker + 1) * ENTRIES - 1]) return;
    if (!flow->word[LB4_FLOW_STATE]) flow->word[LB4_FLOW_STATE] = LB4_FLOW_TOMBSTONE;
  }
  const struct tuple to = {take32(input), take32(input), take32(input)};
  // A table has each tuple once.
  for (uint32_t i = 0; i < scene->flows; i++)
    if (!memcmp(&scene->installed[i]->word[LB4_FLOW_SOURCE], &key, sizeof key)) return;
  const uint32_t addresses = host_fold(delta16(key.source, to.source) + delta16(key.destination, to.destination));
  const uint32_t all = host_fold(addresses + delta16(key.ports, to.ports));
  __u32* const word = flow->word;
  word[LB4_FLOW_STATE] = state | protocol << LB4_FLOW_PROTOCOL_SHIFT | 5u << LB4_FLOW_VERSION_SHIFT;
  word[LB4_FLOW_SOURCE] = key.source;
  word[LB4_FLOW_DESTINATION] = key.destination;
  word[LB4_FLOW_PORTS] = key.ports;
  word[LB4_FLOW_NEW_SOURCE] = to.source;
  word[LB4_FLOW_NEW_DESTINATION] = to.destination;
  word[LB4_FLOW_NEW_PORTS] = to.ports;
  word[LB4_FLOW_DELTAS] = addresses << 16 | all;
  // The port that it leaves from, the number of further hops, and which tables it follows.
  if (state & LB4_FLOW_WRAPPED) word[LB4_FLOW_DELTAS] = 0x2181 | (to.source & 3) << LB4_FLOW_HOPS_SHIFT | (to.source >> 2 & 3) << LB4_FLOW_TAG_SHIFT;
  word[LB4_FLOW_NEXT_HOP] = how >> 5 == 7 ? 0xffffff : how >> 5 & 3;
  scene->installed[scene->flows++] = flow;
}

// What a fuzzer alone is long in finding: a plain packet that fills its frame, but for `padding` bytes. The input has a say in the rest.
static void make_plain(struct scene* scene, bool is_tcp, bool is_syn, uint32_t padding) {
  const uint32_t least = is_tcp ? 40 : 28;
  if (scene->length < 14 + least + padding) return;
  uint8_t* const ip = scene->bytes + 14;
  const uint32_t whole = scene->length - 14 - padding;
  memcpy(scene->bytes + 12, (uint8_t[]){8, 0, 0x45}, 3);
  memcpy(ip + 2, (uint8_t[]){whole >> 8, whole & 0xff}, 2);
  ip[6] &= 0x40;
  ip[7] = 0;
  ip[9] = is_tcp ? IPPROTO_TCP : IPPROTO_UDP;
  if (is_tcp) {
    ip[32] = (ip[32] % 11 + 5) << 4;
    if ((ip[32] >> 4) * 4u + 20 > whole) ip[32] = 0x50;
    ip[33] = (ip[33] & 0xe8) | (is_syn ? 0x02 : 0x10);
  } else {
    memcpy(ip + 24, (uint8_t[]){(whole - 20) >> 8, (whole - 20) & 0xff}, 2);
  }
  // A first packet is judged only where its header's checksum is right.
  if (!is_syn) return;
  memset(ip + 10, 0, 2);
  const uint32_t sum = 0xffff - residue(ip, 20);
  memcpy(ip + 10, (uint8_t[]){sum >> 8, sum & 0xff}, 2);
}

// What is asked of first packets: `kind` in four bits. The frame's own frontend is in the book, or another one; the upper half of all sources is denied.
static void write_book(const struct scene* scene, uint8_t kind, bool has_come) {
  memset(book, 0, sizeof book);
  memset(&marked, 0, sizeof marked);
  asked.word[LB4_EARLY_ASKED] = (kind & 3) == 3 ? LB4_EARLY_LISTS : kind & 3;
  if (kind & 1) marked.word[LB4_EARLY_MARKS] = 1 | 0xfc << LB4_EARLY_PROVING_SHIFT;
  memset(&cells, has_come ? 4 : 1, sizeof cells);
  __u32 address = 1, ports = 0;
  if (scene->length >= 38 && kind >> 2 != 3) {
    memcpy(&address, scene->bytes + 30, 4);
    memcpy(&ports, scene->bytes + 34, 4);
  }
  const __u32 protocol = scene->length > 23 ? scene->bytes[23] : 0;
  // The one place is behind the first pair: all frontends' home.
  book[1] = (struct pair){address, ports >> 16 | protocol << 16};
  book[2] = (struct pair){3, FRONTEND | (kind & 4 ? LB4_EARLY_DRY_RUN : 0) | (kind & 8 ? LB4_EARLY_RESETS : 0)};
  book[3] = (struct pair){6, 31};
  book[4] = (struct pair){0, 1};
  book[5] = (struct pair){1, 1};
  book[7] = (struct pair){0x80000000, 2};
}

static void set_scene(struct input* input, struct scene* scene) {
  const uint8_t shape = take8(input);
  *written = (struct settings){
      .key = {1, 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35},
      .homes = HOMES,
      .entries = ENTRIES,
      .workers = 1 + (shape & 3) % WORKERS,
      .steering_key = 0x1234567,
      .first_port = 32768,
      .last_port = 61000,
      .is_inline = shape >> 2 & 1,
  };
  const uint8_t arrival = take8(input);
  scene->interface = arrival % INTERFACES;
  scene->packet_type = arrival & 8 ? 3 : 0;
  scene->has_vlan = shape >> 3 & 1;
  scene->is_partial = shape >> 4 & 1;
  scene->gso_size = shape >> 5 & 1 ? take16(input) : 0;
  has_room = !(shape & 128);
  scene->linear = shape >> 6 & 1 ? take8(input) : MOST;
  write_hops(input);
  write_links(input);
  memset(flow_table, 0, sizeof flow_table);
  const uint8_t plain = take8(input);
  const uint32_t wanted = take8(input) % (FLOWS + 1);
  struct input flows = *input;
  for (uint32_t i = 0; i < wanted * 27; i++) take8(input);
  // What follows is the frame.
  scene->length = input->left < MOST ? (uint32_t)input->left : MOST;
  memcpy(scene->bytes, input->at, scene->length);
  if (plain & 1) make_plain(scene, plain & 2, plain >> 6 & 1, plain >> 2 & 7);
  scene->flows = 0;
  for (uint32_t i = 0; i < wanted; i++) write_flow(&flows, scene);
  write_book(scene, arrival >> 4, plain >> 5 & 1);
}

// ---- what must hold

static bool has_tuple(const struct flow* flow, const uint8_t* bytes) {
  const __u32* const word = flow->word;
  return !memcmp(&word[LB4_FLOW_SOURCE], bytes + 26, 4) && !memcmp(&word[LB4_FLOW_DESTINATION], bytes + 30, 4) &&
         !memcmp(&word[LB4_FLOW_PORTS], bytes + 34, 4);
}

// The flow that a frame may have left by, as it was installed.
static const struct flow* flow_of(const struct scene* scene, const struct flow* before) {
  for (uint32_t i = 0; i < scene->flows; i++) {
    const struct flow* const flow = before + (scene->installed[i] - flow_table);
    const __u32 state = flow->word[LB4_FLOW_STATE];
    const bool is_ours = (state & LB4_FLOW_PRESENCE) == LB4_FLOW_LIVE && state & LB4_FLOW_FAST;
    const __u32 bit = 1u << scene->interface;
    const bool is_forged = state & LB4_FLOW_GUARDED && hop_table[LB4_HOP_CLIENT_LINKS].word[0] & ~hop_table[LB4_HOP_SERVER_LINKS].word[0] & bit;
    if (is_ours && !is_forged && (state >> 8 & 0xff) == scene->bytes[23] && has_tuple(flow, scene->bytes)) return flow;
  }
  return NULL;
}

// That a frame of this kind may be taken at all.
static void check_plain(const struct scene* scene) {
  const uint8_t* const ip = scene->bytes + 14;
  CHECK(scene->length >= 42 && be16(scene->bytes + 12) == 0x0800 && ip[0] == 0x45);
  CHECK((be16(ip + 6) & 0x3fff) == 0 && be16(ip + 2) <= scene->length - 14);
  CHECK(settings.is_inline || ip[8] > 1);
  CHECK(ip[9] == IPPROTO_TCP || ip[9] == IPPROTO_UDP);
  if (ip[9] == IPPROTO_UDP) CHECK(be16(ip + 24) == be16(ip + 2) - 20);
  if (ip[9] == IPPROTO_TCP) CHECK((ip[33] & 0x17) == 0x10 && ip[32] >> 4 >= 5 && (ip[32] >> 4) * 4u + 20 <= be16(ip + 2));
}

// That a frame may be dropped, and is counted for that.
static void check_dropped(const struct scene* scene) {
  const uint8_t* const ip = scene->bytes + 14;
  CHECK(scene->length >= 42 && be16(scene->bytes + 12) == 0x0800 && ip[0] == 0x45 && residue(ip, 20) == 0);
  CHECK((be16(ip + 6) & 0x3fff) == 0 && be16(ip + 2) <= scene->length - 14);
  if (ip[9] == IPPROTO_TCP) CHECK(ip[32] >> 4 >= 5 && (ip[32] >> 4) * 4u + 20 <= be16(ip + 2));
  else CHECK(ip[9] == IPPROTO_UDP && be16(ip + 24) >= 8 && be16(ip + 24) <= be16(ip + 2) - 20);
  CHECK(!settings.is_inline || link_of(scene->interface)->is_front);
  struct tuple key;
  memcpy(&key, ip + 12, sizeof key);
  CHECK(book[1].first == key.destination && book[1].second == (key.ports >> 16 | (__u32)ip[9] << 16));
  const bool is_judged = ip[9] == IPPROTO_TCP && (ip[33] & 0x17) == 0x02 && marked.word[LB4_EARLY_MARKS];
  CHECK(is_judged || asked.word[LB4_EARLY_ASKED] == LB4_EARLY_LISTS);
  const bool is_denied = ip[12] & 0x80 && !(book[2].second & LB4_EARLY_DRY_RUN);
  CHECK(is_denied ? !(book[2].second & LB4_EARLY_RESETS) : is_judged && cells.cell[0] == 1);
  // No live flow has its tuple, as far as one is looked for: to an empty entry.
  const struct flow* flow = &flow_table[worker_of(&key) * ENTRIES + home_of(&key)];
  for (uint32_t i = 0; i < LB4_FLOW_PROBES && (flow->word[LB4_FLOW_STATE] & LB4_FLOW_PRESENCE) != LB4_FLOW_EMPTY; i++, flow++) {
    const bool is_its = !memcmp(&flow->word[LB4_FLOW_SOURCE], &key, sizeof key) && (flow->word[LB4_FLOW_STATE] >> 8 & 0xff) == ip[9];
    CHECK(!is_its || (flow->word[LB4_FLOW_STATE] & LB4_FLOW_PRESENCE) != LB4_FLOW_LIVE);
  }
  CHECK(by_worker.column[LB4_EARLY_DENIED] == is_denied && by_worker.column[LB4_EARLY_FIRST_SYNS] == !is_denied);
  CHECK(by_rule.column[2] == is_denied);
}

static uint32_t headers_of(const uint8_t* ip) { return 20 + (ip[9] == IPPROTO_TCP ? (ip[32] >> 4) * 4u : 8); }

// Of the checksum field alone, where it holds a sum of the pseudo-header.
static uint32_t partial_error(const uint8_t* ip, uint32_t at) { return (0xffff + be16(ip + at) % 0xffff - pseudo_residue(ip, be16(ip + 2) - 20)) % 0xffff; }

static void check_sums(const struct scene* scene, const uint8_t* out) {
  const uint8_t* const in = scene->bytes + 14;
  const uint32_t length = be16(in + 2) - 20;
  const uint32_t field = in[9] == IPPROTO_TCP ? 36 : 26;
  CHECK(residue(in, 20) == residue(out, 20));
  if (in[9] == IPPROTO_UDP && be16(in + field) == 0) CHECK(be16(out + field) == 0);
  else if (scene->is_partial) CHECK(partial_error(in, field) == partial_error(out, field));
  else CHECK(transport_error(in, in + 20, length) == transport_error(out, out + 20, length));
  if (in[9] == IPPROTO_UDP && be16(in + field) != 0) CHECK(be16(out + field) != 0 || scene->is_partial);
}

// The packet as it came, behind headers of the flow's and its hop's.
static void check_wrapped(const struct scene* scene, const __u32* flow, const __u32* hop, const uint8_t* out, uint32_t length) {
  const uint8_t* const in = scene->bytes;
  const uint32_t whole = be16(in + 16);
  const __u32 deltas = flow[LB4_FLOW_DELTAS], tunnel = hop[LB4_HOP_TUNNEL];
  const uint32_t count = (tunnel & 0xffff) == IPIP_BYTES ? 0 : deltas >> LB4_FLOW_HOPS_SHIFT & 3;
  const uint32_t bytes = (tunnel & 0xffff) + 4 * count;
  const bool is_gue = (tunnel & 0xffff) != IPIP_BYTES;
  const __u32 tag = deltas >> LB4_FLOW_TAG_SHIFT;
  CHECK(tunnel != 0 && !settings.is_inline && (!tag || tag == hop_table[LB4_HOP_TABLES].word[0]));
  CHECK(length == 14 + bytes + whole && !memcmp(out + 14 + bytes, in + 14, whole));
  const uint32_t total = bytes + whole;
  uint8_t expected[62] = {[12] = 8, [14] = 0x45, [16] = total >> 8, [17] = total & 0xff, [20] = 0x40, [22] = 64, [23] = is_gue ? 17 : 4};
  memcpy(expected, &hop[LB4_HOP_ETHERNET], 2);
  memcpy(expected + 2, &hop[LB4_HOP_ETHERNET + 1], 12);
  memcpy(expected + 24, out + 24, 2);
  memcpy(expected + 26, &hop[LB4_HOP_TUNNEL_SOURCE], 8);
  if (is_gue) {
    memcpy(expected + 34, (__u16[]){deltas & 0xffff, tunnel >> 16, bpf_htons(total - 20), 0}, 8);
    memcpy(expected + 42, (uint8_t[]){1 + count, 4, 0, 0, 0, 0, 0, count}, 8);
    memcpy(expected + 50, &flow[LB4_FLOW_NEW_SOURCE], 4 * count);
  }
  CHECK(!memcmp(out, expected, 14 + bytes) && residue(out + 14, 20) == 0);
  // What the kernel is told has come to the frame.
  if (told) CHECK((residue(out + 34, bytes - 20) + 0xffff - residue((const uint8_t*)&told, 4)) % 0xffff == 0);
}

static void check_rewritten(const struct scene* scene, const __u32* flow, const __u32* hop, const uint8_t* out, uint32_t length) {
  const uint8_t* const in = scene->bytes;
  // Padding does not leave; a super-packet has none.
  CHECK(length == 14 + be16(in + 16));
  uint8_t expected[MOST];
  memcpy(expected, in, length);
  if (!settings.is_inline) {
    memcpy(expected, &hop[LB4_HOP_ETHERNET], 2);
    memcpy(expected + 2, &hop[LB4_HOP_ETHERNET + 1], 12);
    expected[22]--;
  }
  memcpy(expected + 26, &flow[LB4_FLOW_NEW_SOURCE], 12);
  // Checksums are looked at for themselves.
  memcpy(expected + 24, out + 24, 2);
  const uint32_t field = in[23] == IPPROTO_TCP ? 50 : 40;
  memcpy(expected + field, out + field, 2);
  CHECK(!memcmp(expected, out, length));
  check_sums(scene, out + 14);
}

// It is written down, and nothing else.
static void check_account(const struct flow* before, const struct flow* after, uint64_t payload) {
  uint64_t counted[2];
  memcpy(&counted[0], &before->word[LB4_FLOW_KERNEL_BYTES], 8);
  memcpy(&counted[1], &after->word[LB4_FLOW_KERNEL_BYTES], 8);
  CHECK(counted[1] - counted[0] == payload && after->word[LB4_FLOW_SEEN] == 7000 && forwarded == 1);
  struct flow rest = *after;
  for (int word = LB4_FLOW_SEEN; word <= LB4_FLOW_ACKNOWLEDGED; word++)
    if (word != LB4_FLOW_BYTES) rest.word[word] = before->word[word];
  CHECK(!memcmp(&rest, before, sizeof rest));
}

// `out` is the frame that left, of `length` bytes.
static void check_forwarded(const struct scene* scene, const struct flow* before, const uint8_t* out, uint32_t length) {
  check_plain(scene);
  const struct flow* const flow = flow_of(scene, before);
  CHECK(flow != NULL);
  const uint32_t whole = be16(scene->bytes + 16);
  const __u32 place = flow->word[LB4_FLOW_NEXT_HOP];
  CHECK(place < HOPS);
  const __u32* const hop = hop_table[place].word;
  const uint32_t headers = headers_of(scene->bytes + 14);
  CHECK((scene->gso_size ? headers + scene->gso_size : whole) <= hop[LB4_HOP_MTU]);
  CHECK(hop[LB4_HOP_OUT] == LB4_FRAME_SEND && !(hop[LB4_HOP_VERSION] & 1) && redirected == hop[LB4_HOP_INTERFACE]);
  if (flow->word[LB4_FLOW_STATE] & LB4_FLOW_WRAPPED) check_wrapped(scene, flow->word, hop, out, length);
  else check_rewritten(scene, flow->word, hop, out, length);
  check_account(flow, flow_table + (flow - before), whole - headers);
}

// ---- the programs

struct outcome {
  bool is_taken;
  bool is_dropped;
  __u32 interface;
  uint32_t length;
  uint8_t bytes[MOST + HEADROOM];
};

static struct flow saved[WORKERS * ENTRIES];

static void finish(const struct scene* scene, bool is_taken, bool is_dropped, struct outcome* outcome) {
  open_frame();
  if (is_dropped) check_dropped(scene);
  else CHECK(!by_worker.column[LB4_EARLY_DENIED] && !by_worker.column[LB4_EARLY_FIRST_SYNS]);
  *outcome = (struct outcome){.is_taken = is_taken, .is_dropped = is_dropped, .interface = redirected, .length = frame_length};
  memcpy(outcome->bytes, frame, frame_length);
  if (is_taken) check_forwarded(scene, saved, outcome->bytes, outcome->length);
  else CHECK(forwarded == 0 && !memcmp(saved, flow_table, sizeof saved) && !memcmp(scene->bytes, outcome->bytes, outcome->length));
  // Padding is all that what goes up may have lost.
  if (!is_taken) CHECK(outcome->length == scene->length || outcome->length == 14 + be16(scene->bytes + 16));
  memcpy(flow_table, saved, sizeof saved);
}

static void begin(const struct scene* scene, uint32_t linear) {
  forwarded = redirected = told = 0;
  memset(&by_rule, 0, sizeof by_rule);
  memset(&by_worker, 0, sizeof by_worker);
  put_frame(scene->bytes, scene->length, linear, scene->is_partial);
}

static struct __sk_buff skb_of(const struct scene* scene) {
  struct __sk_buff skb = {
      .pkt_type = scene->packet_type, .vlan_present = scene->has_vlan, .ifindex = scene->interface, .gso_size = scene->gso_size};
  show_frame(&skb);
  return skb;
}

static void by_tc(const struct scene* scene, struct outcome* outcome) {
  begin(scene, scene->linear);
  struct __sk_buff skb = skb_of(scene);
  const int action = lb4_tc(&skb);
  CHECK(action == TC_ACT_UNSPEC || action == TC_ACT_REDIRECT || action == TC_ACT_SHOT);
  finish(scene, action == TC_ACT_REDIRECT, action == TC_ACT_SHOT, outcome);
}

static void by_xdp(const struct scene* scene, struct outcome* outcome) {
  begin(scene, MOST);
  xdp_context = (struct xdp_md){.data = (uint32_t)(uintptr_t)frame, .ingress_ifindex = scene->interface};
  xdp_context.data_end = xdp_context.data + frame_length;
  int action = lb4_xdp(&xdp_context);
  CHECK(action == XDP_PASS || action == XDP_DROP || action == XDP_TX || action == TC_ACT_REDIRECT);
  if (action == XDP_TX) redirected = scene->interface;
  finish(scene, action == XDP_TX || action == TC_ACT_REDIRECT, action == XDP_DROP, outcome);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  struct input input = {data, size};
  static struct scene scene;
  static struct outcome tc, xdp;
  set_scene(&input, &scene);
  memcpy(saved, flow_table, sizeof saved);
  by_tc(&scene, &tc);

  // Between interfaces a filter says what tc is going to take.
  if (settings.is_inline && !scene.has_vlan) {
    begin(&scene, scene.linear);
    struct __sk_buff skb = skb_of(&scene);
    const struct link* const link = link_of(scene.interface);
    CHECK((lb4_tap(&skb) == 0) == (!link || (link->has_tc && (tc.is_taken || tc.is_dropped))));
    open_frame();
  }

  // A driver's frame is whole, and so is its checksum.
  scene.gso_size = 0;
  scene.is_partial = scene.has_vlan = false;
  scene.linear = MOST;
  scene.packet_type = 0;
  by_xdp(&scene, &xdp);
  by_tc(&scene, &tc);
  CHECK(!xdp.is_dropped || tc.is_dropped);
  if (xdp.is_taken) CHECK(tc.is_taken && tc.interface == xdp.interface && tc.length == xdp.length && !memcmp(tc.bytes, xdp.bytes, xdp.length));
  return 0;
}
