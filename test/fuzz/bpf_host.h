// The kernel's part of a BPF program, in a process: one frame between red zones, and the helpers that programs call (bpf-helpers(7)), as
// net/core/filter.c of Linux 6.1 has them. libbpf's header declares helpers as pointers, which are set here.
//
// A frame lies below 4 GB, where the 32 bits of skb->data reach. All of it is in one piece, and what the program may touch of it ends with the
// linear part: the rest is poisoned while the program runs.
#pragma once

#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

// What a program has as a constant, and its loader writes before it is loaded.
static inline void* write_constant(const volatile void* at, size_t bytes) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t from = (uintptr_t)at / page * page;
  CHECK(!mprotect((void*)from, (uintptr_t)at + bytes - from, PROT_READ | PROT_WRITE));
  // A compiler that saw where it points would leave out what is written there.
  uintptr_t address = (uintptr_t)at;
  __asm__ volatile("" : "+r"(address));
  return (void*)address;
}

enum { ARENA = 1 << 17, HEADROOM = 256, FRAME_MAX = 1 << 16 };

static uint8_t* arena;

// The frame that the program has: where it begins, its bytes, those of them in the linear part.
static uint8_t* frame;
static uint32_t frame_length;
static uint32_t frame_linear;
// Its transport checksum holds the pseudo-header's sum (CHECKSUM_PARTIAL).
static bool frame_partial;

static inline void close_frame(void) {
  __asan_poison_memory_region(arena, ARENA);
  __asan_unpoison_memory_region(frame, frame_linear);
}

static inline void open_frame(void) { __asan_unpoison_memory_region(arena, ARENA); }

static inline void put_frame(const uint8_t* bytes, uint32_t length, uint32_t linear, bool partial) {
  if (!arena) {
    arena = (uint8_t*)mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK(arena != MAP_FAILED);
  }
  open_frame();
  frame = arena + HEADROOM;
  frame_length = length;
  frame_linear = linear < length ? linear : length;
  frame_partial = partial;
  memset(frame - HEADROOM, 0xee, HEADROOM);
  memcpy(frame, bytes, length);
  close_frame();
}

static inline void show_frame(struct __sk_buff* skb) {
  skb->len = frame_length;
  skb->data = (uint32_t)(uintptr_t)frame;
  skb->data_end = skb->data + frame_linear;
}

// ---- helpers

static long host_load_bytes(const void* skb, __u32 offset, void* to, __u32 length) {
  (void)skb;
  if (offset > frame_length || length > frame_length - offset) return -14;
  open_frame();
  memcpy(to, frame + offset, length);
  close_frame();
  return 0;
}

// What changes a frame first has it in its linear part, up to there.
static bool make_writable(struct __sk_buff* skb, __u32 end) {
  if (end > frame_length) return false;
  if (end > frame_linear) frame_linear = end;
  close_frame();
  show_frame(skb);
  return true;
}

__attribute__((unused)) static long host_store_bytes(struct __sk_buff* skb, __u32 offset, const void* from, __u32 length, __u64 flags) {
  (void)flags;
  if (offset > 0xffff || !make_writable(skb, offset + length)) return -14;
  memcpy(frame + offset, from, length);
  return 0;
}

static long host_pull_data(struct __sk_buff* skb, __u32 length) { return make_writable(skb, length ? length : frame_linear) ? 0 : -12; }

__attribute__((unused)) static long host_change_tail(struct __sk_buff* skb, __u32 length, __u64 flags) {
  if (flags || length < ETH_HLEN || length > frame_length) return -22;
  frame_length = length;
  if (frame_linear > length) frame_linear = length;
  close_frame();
  show_frame(skb);
  return 0;
}

static __u32 host_fold(__u64 sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (__u32)sum;
}

// inet_proto_csum_replace_by_diff(), and the two others by what they add.
static void replace_sum(__u16* check, __u64 difference, bool is_pseudo) {
  if (!frame_partial) *check = (__u16)~host_fold(difference + (__u16)~*check);
  else if (is_pseudo) *check = (__u16)host_fold(difference + *check);
}

static __u64 difference_of(__u64 from, __u64 to, __u32 bytes) {
  if (bytes == 0) return (__u32)to;
  const __u32 mask = bytes == 2 ? 0xffff : 0xffffffff;
  return (__u64)(~(__u32)from & mask) + ((__u32)to & mask);
}

static long host_l4_csum_replace(struct __sk_buff* skb, __u32 offset, __u64 from, __u64 to, __u64 flags) {
  const __u32 bytes = flags & BPF_F_HDR_FIELD_MASK;
  if (offset > 0xffff || offset & 1 || !make_writable(skb, offset + 2)) return -14;
  if (bytes != 0 && bytes != 2 && bytes != 4) return -22;
  if (bytes == 0 && from != 0) return -22;
  __u16* const check = (__u16*)(frame + offset);
  if (flags & BPF_F_MARK_MANGLED_0 && !*check) return 0;
  replace_sum(check, difference_of(from, to, bytes), flags & BPF_F_PSEUDO_HDR);
  if (flags & BPF_F_MARK_MANGLED_0 && !*check) *check = 0xffff;
  return 0;
}

// That of the IP header is never partial.
__attribute__((unused)) static long host_l3_csum_replace(struct __sk_buff* skb, __u32 offset, __u64 from, __u64 to, __u64 flags) {
  if (offset > 0xffff || offset & 1 || !make_writable(skb, offset + 2)) return -14;
  __u16* const check = (__u16*)(frame + offset);
  *check = (__u16)~host_fold(difference_of(from, to, flags & BPF_F_HDR_FIELD_MASK) + (__u16)~*check);
  return 0;
}
