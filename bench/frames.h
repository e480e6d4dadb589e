/* The frames that the generators of the packet-rate benchmarks send (traffic.c, generator.c). */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

enum { FRAME = 60, CLIENT_ISN = 5000, SERVER_ISN = 1000, FIRST_PORT = 1024 };

struct frame {
  struct ether_header ether;
  struct iphdr ip;
  union { struct tcphdr tcp; struct udphdr udp; struct icmphdr icmp; unsigned char transport[26]; } __attribute__((packed));
} __attribute__((packed));
_Static_assert(sizeof(struct frame) == FRAME, "a 64-byte frame less its check sequence");

static void die(const char *what) { perror(what); exit(1); }

static unsigned long sum(const void *data, int length) {
  const unsigned short *words = data;
  unsigned long total = 0;
  for (; length > 1; length -= 2) total += *words++;
  return total;
}
static unsigned short finish(unsigned long total) {
  while (total >> 16) total = (total & 0xffff) + (total >> 16);
  return ~total;
}
static int is_udp(const struct frame *f) { return f->ip.protocol == IPPROTO_UDP; }

/* A port of a command line is one of TCP's, or says so: 53/udp. */
static int names_udp(const char *port) { return strstr(port, "/udp") != NULL; }

static void checksums(struct frame *f) {
  int length = ntohs(f->ip.tot_len) - 20;
  f->ip.check = 0, f->ip.check = finish(sum(&f->ip, 20));
  if (is_udp(f)) f->udp.check = 0;
  else f->tcp.check = 0;
  unsigned short whole = finish(sum(&f->ip.saddr, 8) + htons(f->ip.protocol) + htons(length) + sum(f->transport, length));
  if (is_udp(f)) f->udp.check = whole ? whole : 0xffff;
  else f->tcp.check = whole;
}

/* A datagram that fills the frame. */
static void datagram(struct frame *f) {
  f->ip.tot_len = htons(FRAME - sizeof f->ether), f->udp.len = htons(sizeof f->transport);
  checksums(f);
}

static int open_device(const char *device, struct ifreq *request) {
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0) die("socket");
  memset(request, 0, sizeof *request), strncpy(request->ifr_name, device, IFNAMSIZ - 1);
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = if_nametoindex(device)};
  if (bind(fd, (struct sockaddr *)&address, sizeof address)) die("bind");
  if (ioctl(fd, SIOCGIFHWADDR, request)) die("SIOCGIFHWADDR");
  return fd;
}

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }

static void shape(struct frame *f, int syn, int ack, int payload) {
  f->ip.tot_len = htons(40 + payload), f->tcp.syn = syn, f->tcp.ack = ack;
  f->tcp.seq = htonl(CLIENT_ISN + !syn), f->tcp.ack_seq = htonl(ack ? SERVER_ISN + 1 : 0);
  checksums(f);
}

/* What all frames of a sender have in common. */
static struct frame blank(const struct ifreq *device, const char *to, const char *source, const char *destination, const char *port) {
  struct frame f = {0};
  unsigned char *mac = f.ether.ether_dhost;
  sscanf(to, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5);
  memcpy(f.ether.ether_shost, device->ifr_hwaddr.sa_data, 6), f.ether.ether_type = htons(ETH_P_IP);
  f.ip.version = 4, f.ip.ihl = 5, f.ip.ttl = 64, f.ip.protocol = names_udp(port) ? IPPROTO_UDP : IPPROTO_TCP, f.ip.frag_off = htons(IP_DF);
  f.ip.saddr = inet_addr(source), f.ip.daddr = inet_addr(destination);
  f.tcp.dest = htons(atoi(port));
  if (!is_udp(&f)) f.tcp.doff = 5, f.tcp.window = htons(65535);
  return f;
}

/* A segment of established connection `i` of an address, as it is sent again and again; or a datagram. */
static struct frame segment_of(const struct frame *common, int i) {
  struct frame f = *common;
  f.tcp.source = htons(FIRST_PORT + i);
  if (is_udp(&f)) datagram(&f);
  else shape(&f, 0, 1, 6);
  return f;
}
