/*
 * Both ends of a packet-rate benchmark over AF_PACKET, without a TCP stack in the way. A PORT is TCP's, or, as 53/udp, UDP's: there every step
 * is one and the same datagram, and an answer is what came.
 *
 *   traffic answer DEVICE PORT                          answers every SYN to PORT with a SYN+ACK, until killed
 *   traffic send DEVICE MAC SOURCE DESTINATION PORT FLOWS SECONDS
 *       64-byte segments (60 without the frame check sequence) of the first FLOWS connections that `traffic open` has opened from
 *       SOURCE alone, in turn for SECONDS, as fast as sendmmsg(2) takes them; prints how many were sent
 *   traffic flood DEVICE MAC SOURCE ADDRESSES DESTINATION PORT RATE SECONDS COUNT STEP…
 *       an attack: for COUNT clients at most (ADDRESSES addresses from SOURCE on, each with its ports from 1024 on), RATE new
 *       ones a second (0: as many as sendmmsg(2) takes) for SECONDS at most, each STEP 50 ms behind the one before. A step is
 *       syn; none, a segment without any flag, or ack, both with a sequence number as if the handshake had ended, and an
 *       acknowledgement of what no server has sent; rst, with the sequence number behind the SYN's; open, what ends a handshake
 *       with `traffic answer`; fragment, a first fragment that no other follows; or ping, an ICMP echo request. Prints `flooding`, then how
 *       many segments were sent
 *   traffic open DEVICE MAC SOURCE ADDRESSES DESTINATION PORT COUNT WINDOW
 *       the connections of the first COUNT clients of a flood, to `traffic answer`, WINDOW at a time: a SYN, each second again, until
 *       a SYN+ACK comes back, which is acknowledged; prints how often a SYN was sent again
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <poll.h>
#include <unistd.h>

#include "frames.h"

enum { BATCH = 64 };
/* Of a flood: ports of an address, milliseconds between two steps and what may pass at most, and an acknowledgement that is wrong. */
enum { PORTS = 65536 - FIRST_PORT, LAG = 50, LONGEST = 60000, STEPS = 8, WRONG = 0x2badcafe };

/* Has the socket hear, on frames without IP options, what goes to a port (`at` 36) or comes from one (34): of TCP what has these flags. */
static void hear(int fd, const char *port, int flags, int at) {
  struct sock_filter tcp[] = {{0x30, 0, 0, 47}, {0x15, 0, 3, flags}, {0x28, 0, 0, at}, {0x15, 0, 1, atoi(port)}, {6, 0, 0, -1}, {6, 0, 0, 0}};
  struct sock_filter udp[] = {{0x30, 0, 0, 23}, {0x15, 0, 3, IPPROTO_UDP}, {0x28, 0, 0, at}, {0x15, 0, 1, atoi(port)}, {6, 0, 0, -1}, {6, 0, 0, 0}};
  struct sock_fprog program = {6, names_udp(port) ? udp : tcp};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)) die("SO_ATTACH_FILTER");
}

static int answer(const char *device, const char *port) {
  struct ifreq request;
  int fd = open_device(device, &request);
  hear(fd, port, 2 /* SYN */, 36);
  for (;;) {
    struct frame in, out;
    if (recv(fd, &in, sizeof in, 0) < (int)sizeof in - 6) continue;
    out = in;
    memcpy(out.ether.ether_dhost, in.ether.ether_shost, 6), memcpy(out.ether.ether_shost, in.ether.ether_dhost, 6);
    out.ip.saddr = in.ip.daddr, out.ip.daddr = in.ip.saddr, out.tcp.source = in.tcp.dest, out.tcp.dest = in.tcp.source;
    if (!is_udp(&in)) out.tcp.seq = htonl(SERVER_ISN), out.tcp.ack_seq = htonl(ntohl(in.tcp.seq) + 1), out.tcp.ack = 1;
    checksums(&out);
    if (send(fd, &out, FRAME, 0) < 0 && errno != ENOBUFS) die("send");
  }
}

static long blast(int fd, struct frame *frames, int flows, double until) {
  struct mmsghdr messages[BATCH];
  struct iovec vectors[BATCH];
  long sent = 0;
  for (int next = 0; now() < until;) {
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BATCH; i++, next = next + 1 == flows ? 0 : next + 1) {
      vectors[i] = (struct iovec){&frames[next], FRAME};
      messages[i].msg_hdr.msg_iov = &vectors[i], messages[i].msg_hdr.msg_iovlen = 1;
    }
    int taken = sendmmsg(fd, messages, BATCH, 0);
    if (taken > 0) sent += taken;
    else if (errno != ENOBUFS && errno != EAGAIN) die("sendmmsg");
  }
  return sent;
}

static int send_all(char **argv) {
  struct ifreq request;
  int fd = open_device(argv[2], &request), flows = atoi(argv[7]);
  struct frame *frames = calloc(flows, sizeof *frames), common = blank(&request, argv[3], argv[4], argv[5], argv[6]);
  for (int i = 0; i < flows; i++) frames[i] = segment_of(&common, i);
  puts("sending"), fflush(stdout);
  usleep(300000);
  printf("sent %ld\n", blast(fd, frames, flows, now() + atof(argv[8])));
  return 0;
}

/* In the place of a segment. */
static void ping(struct frame *f, long i) {
  f->ip.protocol = IPPROTO_ICMP, f->ip.check = 0, f->ip.check = finish(sum(&f->ip, 20));
  memset(f->transport, 0, sizeof f->transport);
  f->icmp.type = ICMP_ECHO, f->icmp.un.echo.id = htons(i), f->icmp.checksum = finish(sum(f->transport, ntohs(f->ip.tot_len) - 20));
}

/* The segment of client `i` of a flood from `addresses` addresses. */
static void attack(struct frame *f, const struct frame *common, const char *step, long i, int addresses) {
  int first = !strcmp(step, "syn"), open = !strcmp(step, "open");
  *f = *common;
  f->ip.saddr = htonl(ntohl(common->ip.saddr) + i % addresses), f->ip.tot_len = htons(40);
  f->tcp.source = htons(FIRST_PORT + i / addresses % PORTS);
  if (is_udp(f)) return datagram(f);
  if (!strcmp(step, "ping")) return ping(f, i);
  if (!strcmp(step, "fragment")) f->ip.frag_off = htons(IP_MF), f->ip.id = htons(i), f->ip.tot_len = htons(44);
  f->tcp.syn = first, f->tcp.rst = !strcmp(step, "rst"), f->tcp.ack = open || !strcmp(step, "ack");
  f->tcp.seq = htonl(CLIENT_ISN + !first), f->tcp.ack_seq = htonl(open ? SERVER_ISN + 1 : f->tcp.ack ? WRONG : 0);
  checksums(f);
}

static int flood(int steps, char **step, char **argv) {
  static long begun[LONGEST + 1]; /* clients that had begun by each millisecond */
  struct ifreq request;
  int fd = open_device(argv[2], &request), addresses = atoi(argv[5]), last = 0;
  struct frame frames[BATCH], common = blank(&request, argv[3], argv[4], argv[6], argv[7]);
  double rate = atof(argv[8]), seconds = atof(argv[9]), start = now();
  long count = atol(argv[10]), sent = 0, done[STEPS] = {0};
  if (seconds * 1000 + LAG * steps > LONGEST) return fputs("too long\n", stderr), 2;
  puts("flooding"), fflush(stdout);
  for (;;) {
    struct mmsghdr messages[BATCH] = {0};
    struct iovec vectors[BATCH];
    double t = now() - start;
    int n = 0, ms = t * 1000 < LONGEST ? t * 1000 : LONGEST;
    for (; last < ms; last++) begun[last + 1] = done[0];
    for (int k = steps - 1; k >= 0; k--) {
      long due = k > 0 ? (ms >= LAG * k ? begun[ms - LAG * k] : 0) : t >= seconds ? 0 : rate > 0 ? t * rate : count;
      for (; done[k] < due && done[k] < count && n < BATCH; n++) {
        attack(&frames[n], &common, step[k], done[k]++, addresses);
        vectors[n] = (struct iovec){&frames[n], FRAME};
        messages[n].msg_hdr.msg_iov = &vectors[n], messages[n].msg_hdr.msg_iovlen = 1;
      }
    }
    if (n == 0 && (t >= seconds || done[0] >= count) && done[steps - 1] == done[0]) break;
    if (n == 0) usleep(500);
    for (int i = 0, taken; i < n; i += taken) {
      taken = sendmmsg(fd, messages + i, n - i, 0);
      if (taken > 0) sent += taken;
      else if (errno == ENOBUFS || errno == EAGAIN) taken = 1; /* lost, as on any wire */
      else die("sendmmsg");
    }
  }
  printf("sent %ld segments of %ld clients in %.2f s\n", sent, done[0], now() - start);
  return 0;
}

/* Sends a segment of a client; one that finds no room is lost, as on any wire. */
static void step(int fd, const struct frame *common, const char *name, long i, int addresses) {
  struct frame f;
  attack(&f, common, name, i, addresses);
  if (send(fd, &f, FRAME, 0) < 0 && errno != ENOBUFS && errno != EAGAIN) die("send");
}

/* The client that a SYN+ACK is for. */
static long client_of(const struct frame *in, const struct frame *common, int addresses) {
  long address = (long)ntohl(in->ip.daddr) - ntohl(common->ip.saddr), port = ntohs(in->tcp.dest) - FIRST_PORT;
  return address < 0 || address >= addresses || port < 0 ? -1 : port * addresses + address;
}

static int open_all(char **argv) {
  struct ifreq request;
  int fd = open_device(argv[2], &request), addresses = atoi(argv[5]), window = atoi(argv[9]), open = 0;
  struct frame in, common = blank(&request, argv[3], argv[4], argv[6], argv[7]);
  long count = atol(argv[8]), next = 0, done = 0, again = 0;
  if (count > (long)addresses * PORTS) return fputs("too many\n", stderr), 2;
  hear(fd, argv[7], 18 /* SYN, ACK */, 34);
  char *answered = calloc(count, 1);
  struct { long client; double sent; } *waiting = calloc(window, sizeof *waiting);
  while (done < count) {
    struct pollfd readable = {fd, POLLIN, 0};
    poll(&readable, 1, 10);
    while (recv(fd, &in, sizeof in, MSG_DONTWAIT) >= (int)sizeof in - 6) {
      long i = client_of(&in, &common, addresses);
      if (i < 0 || i >= count) continue;
      done += !answered[i], answered[i] = 1;
      /* A datagram would be answered again, and so on. */
      if (!is_udp(&common)) step(fd, &common, "open", i, addresses);
    }
    double t = now();
    for (int k = 0; k < window; k++) {
      if (k < open && !answered[waiting[k].client]) {
        if (t - waiting[k].sent < 1) continue;
        again++;
      } else if (next < count) {
        waiting[k].client = next++, open += k == open;
      } else continue;
      waiting[k].sent = t;
      step(fd, &common, "syn", waiting[k].client, addresses);
    }
  }
  printf("%ld opened, %ld SYNs again\n", done, again);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 4 && !strcmp(argv[1], "answer")) return answer(argv[2], argv[3]);
  if (argc == 9 && !strcmp(argv[1], "send")) return send_all(argv);
  if (argc > 11 && argc <= 11 + STEPS && !strcmp(argv[1], "flood")) return flood(argc - 11, argv + 11, argv);
  if (argc == 10 && !strcmp(argv[1], "open")) return open_all(argv);
  fprintf(stderr, "usage: see traffic.c\n");
  return 2;
}
