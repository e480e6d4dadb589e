/*
 * Both ends of benchmarks of TCP connections, a thread each, over epoll(7).
 *
 *   peers shut PORT             accepts and closes at once, until killed
 *   peers echo PORT             sends back what it gets, until killed
 *   peers open ADDRESS PORT CONNECTIONS SECONDS
 *       keeps CONNECTIONS under way: each connects, waits for the other side's FIN and closes; prints how many did, and how many failed
 *   peers ask ADDRESS PORT CONNECTIONS SECONDS
 *       over each of CONNECTIONS a request of 64 bytes, its answer, and the next one; prints how many, and the 50th, 99th and 99.9th
 *       percentile of the time between them in microseconds. The first tenth is left out
 *   peers pace ADDRESS PORT CONNECTIONS
 *       keeps CONNECTIONS to test/lab/backend.ts's echo port and asks one of them each millisecond, in turn, passing over who still waits.
 *       A line on standard input: as soon as everyone alive has had an answer once more, it prints the longest time between two answers of
 *       all, the longest wait of one connection (both in microseconds), how many have died so far, and forgets the times
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, BYTES = 64, MOST = 1 << 25, FILES = 65536 };

static void die(const char *what) { perror(what); exit(1); }

static long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000L + t.tv_nsec;
}

static void watch(int set, int fd, unsigned events) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static struct sockaddr_in at(const char *address, int port) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
  if (inet_pton(AF_INET, address, &in.sin_addr) != 1) die("inet_pton");
  return in;
}

static void without_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void serve(int port, int echo) {
  int set = epoll_create1(0), on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in in = at("0.0.0.0", port);
  if (set < 0 || listener < 0) die("socket");
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, (struct sockaddr *)&in, sizeof in) || listen(listener, 4096)) die("listen");
  watch(set, listener, EPOLLIN);
  puts("listening"), fflush(stdout);
  for (;;) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(set, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd, got;
      char buffer[4096];
      if (fd == listener)
        while ((got = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0)
          if (echo) without_delay(got), watch(set, got, EPOLLIN);
          else close(got);
      else if ((got = read(fd, buffer, sizeof buffer)) > 0) {
        if (write(fd, buffer, got) != got) close(fd);
      } else if (got == 0 || errno != EAGAIN) close(fd);
    }
  }
}

static int start(int set, const struct sockaddr_in *to) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0 || fd >= FILES) die("socket");
  if (connect(fd, (const struct sockaddr *)to, sizeof *to) && errno != EINPROGRESS) { close(fd); return -1; }
  watch(set, fd, EPOLLIN);
  return fd;
}

static int open_all(const struct sockaddr_in *to, int connections, double seconds) {
  int set = epoll_create1(0), running = 0;
  long done = 0, failed = 0, end = now() + (long)(seconds * 1e9);
  while (now() < end) {
    while (running < connections)
      if (start(set, to) >= 0) running++;
      else { failed++; break; }
    struct epoll_event events[EVENTS];
    int count = epoll_wait(set, events, EVENTS, 100);
    for (int i = 0; i < count; i++) {
      char byte;
      if (read(events[i].data.fd, &byte, 1) == 0) done++;
      else failed++;
      close(events[i].data.fd), running--;
    }
  }
  printf("%ld %ld\n", done, failed);
  return 0;
}

static int compare(const void *a, const void *b) {
  const unsigned *x = a, *y = b;
  return *x < *y ? -1 : *x > *y;
}

static int ask(const struct sockaddr_in *to, int connections, double seconds) {
  static long began[FILES];
  static char request[BYTES], answer[BYTES];
  int set = epoll_create1(0);
  unsigned *taken = malloc(MOST * sizeof *taken);
  long count = 0, first = now(), end = first + (long)(seconds * 1e9), counted = first + (long)(seconds * 1e8);
  for (int i = 0; i < connections; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || fd >= FILES || connect(fd, (const struct sockaddr *)to, sizeof *to)) die("connect");
    without_delay(fd), watch(set, fd, EPOLLIN);
    began[fd] = now();
    if (write(fd, request, BYTES) != BYTES) die("write");
  }
  for (long t = first; t < end && count < MOST;) {
    struct epoll_event events[EVENTS];
    int ready = epoll_wait(set, events, EVENTS, 1000);
    if (ready == 0) { fputs("no answer for a second\n", stderr); return 1; }
    for (int i = 0; i < ready && count < MOST; i++) {
      int fd = events[i].data.fd;
      if (recv(fd, answer, BYTES, MSG_WAITALL) != BYTES) die("recv");
      t = now();
      if (t >= counted) taken[count++] = t - began[fd];
      began[fd] = now();
      if (write(fd, request, BYTES) != BYTES) die("write");
    }
  }
  qsort(taken, count, sizeof *taken, compare);
  printf("%ld %.1f %.1f %.1f\n", count, taken[count / 2] / 1e3, taken[count * 99 / 100] / 1e3, taken[count * 999 / 1000] / 1e3);
  return 0;
}

struct pace {
  long began[FILES]; /* when the question went out that has no answer yet; 0: none */
  char told[FILES];  /* has been answered since the line on standard input */
  long last, gap, wait;
  int asked, left, dead;
};

static void settle(struct pace *p, int fd) {
  if (p->asked && !p->told[fd]) p->told[fd] = 1, p->left--;
}

static void take(struct pace *p, int fd) {
  char buffer[BYTES];
  if (recv(fd, buffer, sizeof buffer, 0) <= 0) {
    close(fd), p->dead++, p->began[fd] = -1, settle(p, fd);
    return;
  }
  long t = now();
  if (t - p->last > p->gap) p->gap = t - p->last;
  if (t - p->began[fd] > p->wait) p->wait = t - p->began[fd];
  p->last = t, p->began[fd] = 0, settle(p, fd);
}

static int greeted(const struct sockaddr_in *to) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  char byte = 0;
  if (fd < 0 || fd >= FILES || connect(fd, (const struct sockaddr *)to, sizeof *to)) die("connect");
  while (byte != '\n') if (recv(fd, &byte, 1, 0) != 1) die("greeting");
  without_delay(fd);
  return fd;
}

static int pace(const struct sockaddr_in *to, int connections) {
  static struct pace p;
  static int fds[FILES];
  struct itimerspec each = {{0, 1000000}, {0, 1000000}};
  int set = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, 0), next = 0;
  char line[BYTES];
  for (int i = 0; i < connections; i++) watch(set, fds[i] = greeted(to), EPOLLIN);
  watch(set, timer, EPOLLIN), watch(set, 0, EPOLLIN);
  if (timerfd_settime(timer, 0, &each, 0)) die("timerfd_settime");
  puts("holding"), fflush(stdout);
  for (p.last = now();;) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(set, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == 0) {
        if (read(0, line, sizeof line) <= 0) return 0;
        memset(p.told, 0, sizeof p.told), p.asked = 1, p.left = connections - p.dead;
      } else if (fd == timer) {
        if (read(timer, line, 8) != 8) die("timerfd");
        int to_ask = fds[next++ % connections];
        if (p.began[to_ask] == 0 && (p.began[to_ask] = now()) && write(to_ask, ".", 1) != 1) p.began[to_ask] = 1;
      } else take(&p, fd);
    }
    if (p.asked && p.left == 0) {
      printf("%ld %ld %d\n", p.gap / 1000, p.wait / 1000, p.dead), fflush(stdout);
      p.asked = p.gap = p.wait = 0;
    }
  }
}

int main(int argc, char **argv) {
  if (argc == 3 && !strcmp(argv[1], "shut")) serve(atoi(argv[2]), 0);
  if (argc == 3 && !strcmp(argv[1], "echo")) serve(atoi(argv[2]), 1);
  if (argc == 6 && (!strcmp(argv[1], "open") || !strcmp(argv[1], "ask"))) {
    struct sockaddr_in to = at(argv[2], atoi(argv[3]));
    return argv[1][0] == 'o' ? open_all(&to, atoi(argv[4]), atof(argv[5])) : ask(&to, atoi(argv[4]), atof(argv[5]));
  }
  if (argc == 5 && !strcmp(argv[1], "pace")) {
    struct sockaddr_in to = at(argv[2], atoi(argv[3]));
    return pace(&to, atoi(argv[4]));
  }
  fputs("see the comment in bench/peers.c\n", stderr);
  return 2;
}
