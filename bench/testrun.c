/*
 * What a tc program takes for a frame, by itself: of bench/encap, whose packets are others after a run, so that each run begins anew.
 *
 *   testrun OBJECT PROGRAM DEVICE CALLS < frames, a line of hexadecimal digits each
 *       prints for each what the program returns, and nanoseconds of a run, on average over CALLS; of all frames in turn, so that noise falls on all alike
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRAMES = 16, BYTES = 2048, WARM = 200 };

static unsigned char frames[FRAMES][BYTES], out[BYTES];
static unsigned lengths[FRAMES];

static void die(const char *what) { perror(what); exit(1); }

static int read_frames(void) {
  static char line[2 * BYTES + 2];
  int count = 0;
  for (; count < FRAMES && fgets(line, sizeof line, stdin); count++)
    for (unsigned byte; sscanf(line + 2 * lengths[count], "%2x", &byte) == 1; lengths[count]++) frames[count][lengths[count]] = byte;
  return count;
}

/* Its counters are pinned by name: those of a server that runs here are not to be these. */
static int load(const char *path, const char *program) {
  struct bpf_object *object = bpf_object__open_file(path, NULL);
  struct bpf_map *map;
  if (!object) die(path);
  bpf_object__for_each_map(map, object) if (bpf_map__set_pin_path(map, NULL)) die("set_pin_path");
  if (bpf_object__load(object)) die("load");
  return bpf_program__fd(bpf_object__find_program_by_name(object, program));
}

int main(int argc, char **argv) {
  if (argc != 5) return fputs("usage: see testrun.c\n", stderr), 2;
  const int program = load(argv[1], argv[2]), count = read_frames();
  const long calls = atol(argv[4]);
  struct __sk_buff from = {.ifindex = if_nametoindex(argv[3])};
  double sums[FRAMES] = {0};
  int returned[FRAMES];
  for (long call = -WARM; call < calls; call++)
    for (int i = 0; i < count; i++) {
      LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frames[i], .data_size_in = lengths[i], .data_out = out, .data_size_out = sizeof out,
                  .ctx_in = &from, .ctx_size_in = sizeof from, .repeat = 1);
      if (bpf_prog_test_run_opts(program, &run)) die("BPF_PROG_TEST_RUN");
      if (call >= 0) sums[i] += run.duration;
      returned[i] = run.retval;
    }
  for (int i = 0; i < count; i++) printf("%d %.1f\n", returned[i], sums[i] / calls);
  return 0;
}
