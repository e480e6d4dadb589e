/*
 * The load of bench/fastpath, bench/encap and bench/udp: 64-byte frames (60 without the frame check sequence) of connections that `traffic open` has opened.
 *
 *   generator OBJECT DEVICE MAC SOURCE DESTINATION PORT FLOWS SECONDS
 *       sends them in turn for SECONDS by generator.bpf.c, which OBJECT is; prints how many
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "frames.h"

/* Runs a call: some ten ms. */
enum { RUNS = 1 << 16 };

static struct bpf_object *load(const char *path, const unsigned settings[2], unsigned flows) {
  struct bpf_object *object = bpf_object__open_file(path, NULL);
  if (!object) die(path);
  size_t size;
  struct bpf_map *map;
  /* count and interface, in the order of generator.bpf.c */
  bpf_object__for_each_map(map, object) {
    if (strstr(bpf_map__name(map), ".rodata")) memcpy((void *)bpf_map__initial_value(map, &size), settings, 2 * sizeof *settings);
    if (!strcmp(bpf_map__name(map), "frames") && bpf_map__set_max_entries(map, flows)) die("frames");
  }
  if (bpf_object__load(object)) die("load");
  return object;
}

int main(int argc, char **argv) {
  if (argc != 9) return fputs("usage: see generator.c\n", stderr), 2;
  struct ifreq request;
  open_device(argv[2], &request);
  const unsigned flows = atoi(argv[7]), settings[2] = {flows, if_nametoindex(argv[2])};
  const struct frame common = blank(&request, argv[3], argv[4], argv[5], argv[6]);
  struct bpf_object *object = load(argv[1], settings, flows);
  const int frames = bpf_object__find_map_fd_by_name(object, "frames");
  struct frame frame;
  for (unsigned i = 0; i < flows; i++) {
    frame = segment_of(&common, i);
    if (bpf_map_update_elem(frames, &i, &frame, BPF_ANY)) die("frames");
  }
  LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = &frame, .data_size_in = FRAME, .repeat = RUNS, .flags = BPF_F_TEST_XDP_LIVE_FRAMES);
  const int program = bpf_program__fd(bpf_object__find_program_by_name(object, "generate"));
  const double begun = now(), until = begun + atof(argv[8]);
  long sent = 0;
  puts("sending"), fflush(stdout);
  for (; now() < until; sent += RUNS)
    if (bpf_prog_test_run_opts(program, &run)) die("BPF_PROG_TEST_RUN");
  printf("sent %ld in %f s\n", sent, now() - begun);
  return 0;
}
