// The program of servers behind `dsr = "gue"` (native/bpf/server.bpf.c) over a frame that may be anything: what is not a tunnel's stays as it is; what
// goes on differs by its addresses and its place in the list alone, and goes to a server that is known; what is taken off is the client's packet, to the byte,
// for an address that is known; each is counted.
#include "../../native/bpf/server.bpf.c"
#include "bpf_host.h"

enum { MOST = 2048 };

static struct gue_settings* written;
static __u64 numbers[COUNTERS];
static struct bpf_sock socket_found;
// What the input says: is there a socket, and does a cookie fit.
static bool has_socket, cookie_fits;
// Sockets that were found and not given back.
static int held;
static __u32 sent_on;
// What the settings know: the destination inside, whether hops are asked for, and whether the next one is among them.
static bool knows_destination, asks_hops, knows_hop;
// Places of theirs, to be emptied for the next input.
static struct known* filled[2];
// The frame as it came.
static uint8_t in[MOST];
static uint32_t in_length;

static void* host_lookup(void* map, const void* key) {
  const __u32 place = *(const __u32*)key;
  CHECK(map == &lb4_gue_00000000 && place < COUNTERS);
  return &numbers[place];
}

// The connection asked for is the one of the packet inside, in its direction; of an error the one that it quotes, turned round.
static void check_tuple(const uint8_t* tuple, __u32 size) {
  const uint8_t* const inner = in + 50 + 4 * in[49];
  const bool is_ipv6 = inner[0] >> 4 == 6;
  CHECK(is_ipv6 == (size == 36));
  const uint32_t address = is_ipv6 ? 16 : 4;
  const uint32_t header = is_ipv6 ? 40 : (inner[0] & 15) * 4u;
  const bool is_error = inner[is_ipv6 ? 6 : 9] != IPPROTO_TCP;
  const uint8_t* const ip = is_error ? inner + header + 8 : inner;
  const uint8_t* const ports = ip + (is_ipv6 ? 40 : (ip[0] & 15) * 4u);
  const uint8_t* const addresses = ip + (is_ipv6 ? 8 : 12);
  const uint32_t second = is_error ? 0 : address;
  CHECK(ports + 4 <= in + in_length);
  CHECK(!memcmp(tuple, addresses + address - second, address) && !memcmp(tuple + address, addresses + second, address));
  CHECK(!memcmp(tuple + 2 * address, ports + (is_error ? 2 : 0), 2) && !memcmp(tuple + 2 * address + 2, ports + (is_error ? 0 : 2), 2));
}

static struct bpf_sock* host_socket(void* context, struct bpf_sock_tuple* tuple, __u32 size, __u64 network, __u64 flags) {
  (void)context;
  CHECK((size == sizeof tuple->ipv4 || size == sizeof tuple->ipv6) && network == (__u64)BPF_F_CURRENT_NETNS && flags == 0);
  check_tuple((const uint8_t*)tuple, size);
  if (!has_socket) return NULL;
  held++;
  return &socket_found;
}

static long host_release(void* socket) {
  CHECK(socket == &socket_found && held == 1);
  held--;
  return 0;
}

static long host_cookie(void* socket, void* ip, __u32 ip_length, struct tcphdr* tcp, __u32 tcp_length) {
  CHECK(socket == &socket_found && tcp_length == sizeof *tcp && (ip_length == 20 || ip_length == 40));
  CHECK(*(const uint8_t*)ip >> 4 == (ip_length == 20 ? 4 : 6) && tcp->ack && !tcp->fin && !tcp->rst && !tcp->syn);
  return cookie_fits ? 0 : -2;
}

// bpf_skb_proto_4_to_6(): room for what its header is longer by, behind the link header.
static long host_change_proto(struct __sk_buff* skb, __u16 protocol, __u64 flags) {
  CHECK(protocol == bpf_htons(ETH_P_IPV6) && flags == 0 && frame - arena >= 20);
  open_frame();
  memmove(frame - 20, frame, ETH_HLEN);
  frame -= 20;
  frame_length += 20;
  frame_linear += 20;
  skb->protocol = protocol;
  close_frame();
  show_frame(skb);
  return 0;
}

// bpf_skb_net_shrink(): nothing less than an IP header is left.
static long host_adjust_room(struct __sk_buff* skb, __s32 difference, __u32 mode, __u64 flags) {
  CHECK(mode == BPF_ADJ_ROOM_MAC && flags == BPF_F_ADJ_ROOM_FIXED_GSO && difference < 0);
  const uint32_t cut = (uint32_t)-difference;
  const uint32_t least = skb->protocol == bpf_htons(ETH_P_IPV6) ? 40 : 20;
  const uint32_t rest = frame_length - ETH_HLEN;
  if (cut > 0xfff || cut >= rest || rest - cut < least) return -95;
  open_frame();
  memmove(frame + cut, frame, ETH_HLEN);
  frame += cut;
  frame_length -= cut;
  frame_linear = frame_linear > cut ? frame_linear - cut : 0;
  close_frame();
  show_frame(skb);
  return 0;
}

static long host_redirect_neigh(__u32 interface, struct bpf_redir_neigh* way, int size, __u64 flags) {
  CHECK(!way && !size && !flags);
  sent_on = interface;
  return TC_ACT_REDIRECT;
}

int LLVMFuzzerInitialize(int* count, char*** arguments) {
  (void)count, (void)arguments;
  written = write_constant(&gue_settings, sizeof gue_settings);
  bpf_map_lookup_elem = host_lookup;
  bpf_skc_lookup_tcp = host_socket;
  bpf_sk_release = host_release;
  bpf_tcp_check_syncookie = host_cookie;
  bpf_skb_change_proto = host_change_proto;
  bpf_skb_adjust_room = host_adjust_room;
  bpf_redirect_neigh = host_redirect_neigh;
  bpf_skb_load_bytes = host_load_bytes;
  bpf_skb_store_bytes = host_store_bytes;
  bpf_skb_pull_data = host_pull_data;
  bpf_l3_csum_replace = host_l3_csum_replace;
  bpf_l4_csum_replace = host_l4_csum_replace;
  return 0;
}

// ---- the input

// What a fuzzer alone is long in finding: a tunnel to this server, with so many hops and such a packet inside.
// An error about a segment: "fragmentation needed" or "packet too big", as far as there is room.
static void make_error(uint8_t* at, bool is_ipv6) {
  if (at + 28 > in + in_length) return;
  memcpy(at, is_ipv6 ? "\2\0" : "\3\4", 2);
  if (!is_ipv6) at[8] = 0x45, at[14] = 0, at[15] = 0;
  at[is_ipv6 ? 14 : 17] = IPPROTO_TCP;
}

static void make_tunnel(uint32_t hops, uint32_t kind, bool is_error) {
  const uint32_t inner = 50 + 4 * hops;
  if (in_length < inner) return;
  uint8_t* const ip = in + 14;
  memcpy(in + 12, (uint8_t[]){8, 0, 0x45}, 3);
  ip[6] &= 0x40, ip[7] = 0, ip[9] = IPPROTO_UDP;
  in[42] = (uint8_t)(hops + 1);
  in[43] = kind & 1 ? IPPROTO_IPV6 : IPPROTO_IPIP;
  in[49] = (uint8_t)hops;
  if (kind & 2) in[48] %= hops + 1;
  if (in_length < inner + 40) return;
  in[inner] = kind & 1 ? 0x60 | in[inner] % 16 : 0x45 + in[inner] % 3;
  const uint8_t protocols[] = {IPPROTO_TCP, kind & 1 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP};
  in[inner + (kind & 1 ? 6 : 9)] = protocols[kind >> 2 & 3];
  if (!(kind & 1)) in[inner + 6] = in[inner + 7] = 0;
  if (is_error) make_error(in + inner + (kind & 1 ? 40 : (in[inner] & 15) * 4), kind & 1);
}

// By open addressing, with a hash of its own spelling: the home is right where nothing else stands.
static void know(int i, const void* words) {
  uint32_t home = written->seed, word;
  for (int at = 0; at < 16; at += 4) {
    memcpy(&word, (const uint8_t*)words + at, 4);
    home = (home ^ word) * 0x9e3779b1u;
    home ^= home >> 15;
  }
  filled[i] = &written->known[home % (1 << KNOWN_BITS)];
  // The other one's home: the next place is empty.
  if (i == 1 && filled[1] == filled[0]) filled[1] = &written->known[(home + 1) % (1 << KNOWN_BITS)];
  memcpy(filled[i], words, 16);
}

static void set_known(uint8_t shape) {
  const uint8_t what = shape & 128 ? in[0] : 1;
  for (int i = 0; i < 2; i++) if (filled[i]) memset(filled[i], 0, sizeof *filled[i]);
  filled[0] = filled[1] = NULL;
  written->seed = shape;
  knows_destination = knows_hop = false;
  asks_hops = written->asks_known_hops = what >> 1 & 1;
  const uint32_t inner = 50 + 4 * in[49];
  uint8_t words[16] = {0};
  if (what & 1 && in_length >= inner + 40) {
    const bool is_ipv6 = in[43] == IPPROTO_IPV6;
    if (!is_ipv6) memset(words, 0xff, 8);
    memcpy(is_ipv6 ? words : words + 12, in + inner + (is_ipv6 ? 24 : 16), is_ipv6 ? 16 : 4);
    knows_destination = true;
    know(0, words);
  }
  if (what & 4 && in_length >= 54 + 4 * in[48]) {
    memset(words, 0xff, 12);
    memcpy(words + 12, in + 50 + 4 * in[48], 4);
    knows_hop = true;
    know(1, words);
  }
}

static void set_scene(struct input* input, struct __sk_buff* skb) {
  const uint8_t shape = take8(input);
  const uint8_t packet = take8(input);
  const uint32_t linear = shape & 1 ? take8(input) : MOST;
  has_socket = shape >> 1 & 1;
  cookie_fits = shape >> 2 & 1;
  socket_found.state = shape & 8 ? BPF_TCP_LISTEN : BPF_TCP_ESTABLISHED;
  written->server = take32(input);
  for (int i = 0; i < GUE_PORTS; i++) written->ports[i] = i < 2 ? take16(input) : 0;
  in_length = input->left < MOST ? (uint32_t)input->left : MOST;
  memcpy(in, input->at, in_length);
  if (packet & 1) make_tunnel(packet >> 1 & 7, packet >> 4, shape & 128);
  if (shape & 16 && in_length >= 38) {
    memcpy(&written->server, in + 30, 4);
    memcpy(&written->ports[3], in + 36, 2);
  }
  set_known(shape);
  memset(numbers, 0, sizeof numbers);
  held = 0;
  sent_on = 0;
  put_frame(in, in_length, linear, shape >> 5 & 1);
  *skb = (struct __sk_buff){.pkt_type = shape & 64 ? 3 : 0, .ifindex = 7, .protocol = bpf_htons(ETH_P_IP)};
  show_frame(skb);
}

// ---- what must hold

static __u64 counted(void) {
  __u64 all = 0;
  for (int i = 0; i < COUNTERS; i++) all += numbers[i];
  return all;
}

static __u64 dropped(void) {
  return numbers[DROPPED_PACKETS] + numbers[DROPPED_DESTINATION_PACKETS] + numbers[DROPPED_HOP_PACKETS];
}

static void check_sent_on(void) {
  const uint32_t place = in[48];
  CHECK(place < in[49] && in[49] <= GUE_HOPS && numbers[FORWARDED_TO_ALTERNATE_PACKETS] == 1 && sent_on == 7);
  const uint8_t* const hop = in + 50 + 4 * place;
  CHECK(memcmp(hop, "\0\0\0\0", 4) && knows_destination && (!asks_hops || knows_hop));
  CHECK(frame_length == in_length && memcmp(hop, &written->server, 4));
  uint8_t expected[MOST];
  memcpy(expected, in, in_length);
  memcpy(expected + 26, in + 30, 4);
  memcpy(expected + 30, hop, 4);
  expected[48]++;
  memcpy(expected + 24, frame + 24, 2);
  memcpy(expected + 40, frame + 40, 2);
  CHECK(!memcmp(expected, frame, in_length));
  CHECK(residue(in + 14, 20) == residue(frame + 14, 20));
  const size_t datagram = in_length - 34;
  if (be16(in + 40) == 0) CHECK(be16(frame + 40) == 0);
  else if (!frame_partial) CHECK(transport_error(in + 14, in + 34, datagram) == transport_error(frame + 14, frame + 34, datagram));
}

static void check_taken_off(const struct __sk_buff* skb) {
  const uint32_t inner = 50 + 4 * in[49];
  const bool is_ipv6 = in[43] == IPPROTO_IPV6;
  CHECK(frame_length == 14 + in_length - inner && !memcmp(frame + 14, in + inner, in_length - inner) && !memcmp(frame, in, 12));
  CHECK(be16(frame + 12) == (is_ipv6 ? ETH_P_IPV6 : be16(in + 12)) && skb->protocol == bpf_htons(is_ipv6 ? ETH_P_IPV6 : ETH_P_IP));
  CHECK(dropped() == 0);
  const uint8_t* const ip = in + inner;
  const bool is_check = !is_ipv6 && !memcmp(ip + 16, &written->server, 4) && ip[9] == IPPROTO_ICMP && ip[4 * (ip[0] & 15)] == ECHO_REQUEST;
  const bool is_own = !is_ipv6 && !memcmp(ip + 16, &written->server, 4);
  CHECK(is_check || (knows_destination && !is_own) || in_length < inner + 40);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  struct input input = {data, size};
  struct __sk_buff skb;
  set_scene(&input, &skb);
  const int action = lb4_server(&skb);
  open_frame();
  CHECK(held == 0 && counted() <= 3 && numbers[TOTAL_PACKETS] <= 1);
  if (numbers[TOTAL_PACKETS] == 0) {
    CHECK(action == TC_ACT_UNSPEC && counted() == 0 && frame_length == in_length && !memcmp(frame, in, in_length));
    return 0;
  }
  CHECK(!memcmp(in + 30, &written->server, 4) && in[23] == IPPROTO_UDP && (be16(in + 20) & 0x3fff) == 0);
  CHECK(action == TC_ACT_SHOT || action == TC_ACT_REDIRECT || action == TC_ACT_UNSPEC);
  if (action == TC_ACT_SHOT) CHECK(dropped() == 1);
  if (action == TC_ACT_REDIRECT) check_sent_on();
  if (action == TC_ACT_UNSPEC) check_taken_off(&skb);
  return 0;
}
