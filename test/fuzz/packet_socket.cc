// The packet socket (native/packet_socket.cc) over a ring that the input fills, as tpacket_rcv() of the kernel does, and descriptors in which it changes
// what it likes between receive and transmit: a wrong word may lose its own frame, never send another's bytes or memory that is no frame's. The kernel is
// played here: system calls are functions of this file.
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"

namespace {

constexpr size_t SLOT = 128 * 1024 - 128;
constexpr size_t SLOTS = 32;
constexpr int FIRST_INTERFACE = 100;
constexpr uint32_t FRAMES = 3;

// What transmit() may send from: the ring, its frames' slots open.
alignas(4096) uint8_t ring[SLOT * SLOTS];
input* source;
int options[3];

// Every byte of it is somebody's: this reads them all.
void readAll(const void* bytes, size_t length) {
  CHECK(__asan_region_is_poisoned(const_cast<void*>(bytes), length) == nullptr);
  const auto at = static_cast<const uint8_t*>(bytes);
  if (at < ring || at >= ring + sizeof ring) return;
  const size_t slot = static_cast<size_t>(at - ring) / SLOT;
  CHECK(static_cast<size_t>(at - ring) >= slot * SLOT + TPACKET2_HDRLEN && at + length <= ring + (slot + 1) * SLOT);
}

void readMessage(const msghdr& message) {
  CHECK(message.msg_iovlen == 1);
  readAll(message.msg_iov[0].iov_base, message.msg_iov[0].iov_len);
  if (message.msg_namelen != sizeof(sockaddr_ll)) return;
  const auto to = static_cast<const sockaddr_ll*>(message.msg_name);
  const auto at = static_cast<const uint8_t*>(message.msg_iov[0].iov_base);
  CHECK(message.msg_iov[0].iov_len >= 10);
  if (at >= ring && at < ring + sizeof ring && to->sll_ifindex >= FIRST_INTERFACE)
    CHECK(static_cast<size_t>(at - ring) / SLOT == static_cast<size_t>(to->sll_ifindex - FIRST_INTERFACE));
}

int refusal() {
  const int errors[] = {ENETDOWN, EAGAIN, EMSGSIZE, EINVAL};
  errno = errors[take8(source) % 4];
  return -1;
}

}  // namespace

static int hostSetOption(int, int level, int name, const void* value, socklen_t) {
  if (level == SOL_PACKET && name == PACKET_RESERVE) options[0] = *static_cast<const int*>(value);
  if (level == SOL_PACKET && name == PACKET_VNET_HDR) options[1] = *static_cast<const int*>(value);
  return 0;
}

static int hostGetOption(int, int, int name, void* value, socklen_t*) {
  const int answer = name == PACKET_RESERVE ? options[0] : name == PACKET_VNET_HDR ? options[1] : static_cast<int>(sizeof(tpacket2_hdr));
  if (name == PACKET_STATISTICS) return 0;
  *static_cast<int*>(value) = answer;
  return 0;
}

static void* hostMap(void*, size_t bytes, int, int, int, off_t) {
  CHECK(bytes == sizeof ring);
  return ring;
}

// The copy of a frame larger than its slot, which may not be there any more, or be another one.
static ssize_t hostReceive(int, void* to, size_t length, int) {
  if (take8(source) & 1) return -1;
  std::memset(to, 0x45, length);
  return static_cast<ssize_t>(length);
}

static int hostSendMany(int, mmsghdr* messages, unsigned count, int) {
  const unsigned taken = take8(source) & 1 ? count : take8(source) % (count + 1);
  for (unsigned i = 0; i < taken; i++) readMessage(messages[i].msg_hdr);
  return taken > 0 ? static_cast<int>(taken) : refusal();
}

static ssize_t hostSend(int, const msghdr* message, int) {
  readMessage(*message);
  return take8(source) & 1 ? refusal() : 0;
}

static int hostPoll(pollfd* fds, nfds_t, int) {
  fds[0].revents = take8(source) & 1 ? POLLERR : 0;
  fds[1].revents = 0;
  return 0;
}

#define socket(...) eventfd(0, EFD_CLOEXEC)
#define setsockopt(...) hostSetOption(__VA_ARGS__)
#define getsockopt(...) hostGetOption(__VA_ARGS__)
#define bind(...) hostSetOption(0, 0, 0, nullptr, 0)
#define mmap(...) hostMap(__VA_ARGS__)
#define munmap(...) hostSetOption(0, 0, 0, nullptr, 0)
#define recv(...) hostReceive(__VA_ARGS__)
#define sendmmsg(...) hostSendMany(__VA_ARGS__)
#define sendmsg(...) hostSend(__VA_ARGS__)
#define poll(...) hostPoll(__VA_ARGS__)

#include "../../native/packet_socket.cc"
#include "../../native/raw_socket.cc"

namespace {

// A frame as the kernel leaves it in a slot: bytes of a link header or none, a virtio-net header in front, cut where the slot ends.
void fillSlot(uint32_t index) {
  uint8_t* const slot = ring + index * SLOT;
  const uint8_t shape = take8(source);
  const uint32_t links[] = {14, 0, 24, 40};
  const uint32_t link = links[shape & 3];
  const uint32_t network = TPACKET_ALIGN(TPACKET2_HDRLEN + std::max(link, 16u)) + 54 + 10;
  const uint32_t start = network - link;
  const uint32_t room = SLOT - start;
  uint32_t length = take16(source);
  if (shape & 4) length = 65536 + 4 * length;
  if (length < link) length = link;
  auto* const head = reinterpret_cast<tpacket2_hdr*>(slot);
  *head = {};
  head->tp_len = length;
  head->tp_snaplen = std::min(length, room);
  head->tp_mac = static_cast<uint16_t>(start);
  head->tp_net = static_cast<uint16_t>(network);
  head->tp_status = TP_STATUS_USER | (length > room && !(shape & 8) ? TP_STATUS_COPY : 0) | (shape & 16 ? TP_STATUS_VLAN_VALID : 0);
  head->tp_vlan_tci = 5;
  auto* const from = reinterpret_cast<sockaddr_ll*>(slot + TPACKET_ALIGN(sizeof(tpacket2_hdr)));
  *from = {};
  from->sll_ifindex = FIRST_INTERFACE + static_cast<int>(index);
  from->sll_hatype = link == 14 ? ARPHRD_ETHER : ARPHRD_NONE;
  virtio_net_hdr vnet{};
  vnet.flags = take8(source);
  vnet.gso_type = take8(source);
  vnet.gso_size = take16(source);
  vnet.hdr_len = vnet.csum_start = 34;
  vnet.csum_offset = 16;
  std::memcpy(slot + start - sizeof vnet, &vnet, sizeof vnet);
  // A beginning that is the input's.
  uint8_t* const ip = slot + network;
  if (link == 14) ip[-2] = 8, ip[-1] = shape & 32 ? 6 : 0;
  for (uint32_t i = 0; i < std::min(head->tp_snaplen - link, 60u); i++) ip[i] = take8(source);
}

void checkDescribed(const int32_t* frame, uint32_t index, uint32_t slotBytes) {
  CHECK(slotBytes == SLOT);
  const auto* const head = reinterpret_cast<const tpacket2_hdr*>(ring + index * SLOT);
  const uint32_t inSlot = static_cast<uint32_t>(frame[LB4_FRAME_OFFSET]) - index * slotBytes;
  const uint32_t length = static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]);
  CHECK(inSlot % 4 == 0 && inSlot == head->tp_net && frame[LB4_FRAME_INTERFACE] == FIRST_INTERFACE + static_cast<int>(index));
  const bool isBig = frame[LB4_FRAME_FLAGS] & LB4_FRAME_FLAG_BIG;
  const bool isWhole = length <= slotBytes - inSlot;
  CHECK(isWhole || isBig || length == head->tp_len - (head->tp_net - head->tp_mac));
}

// What a pipeline might write that has gone wrong; mostly what one writes that has not.
void changeWords(int32_t* frame) {
  const uint8_t what = take8(source);
  frame[LB4_FRAME_OUT] = what & 7;
  if (what & 8) frame[LB4_FRAME_FLAGS] ^= take8(source);
  if (what & 16) frame[LB4_FRAME_FLAGS] |= LB4_FRAME_FLAG_CUT;
  frame[LB4_FRAME_LIMIT] = take16(source) % 1600;
  if (what & 32) frame[LB4_FRAME_LENGTH] = take16(source);
  if (what & 64) frame[LB4_FRAME_OFFSET] += static_cast<int8_t>(take8(source)) * 4;
  if (what & 128) frame[LB4_FRAME_LENGTH] = static_cast<int32_t>(take32(source));
  const uint8_t tunnel = take8(source);
  frame[LB4_FRAME_TUNNEL] = tunnel;
  if (tunnel & 1) {
    const int bytes[] = {20, 36, 40, 48};
    frame[LB4_FRAME_FLAGS] |= LB4_FRAME_FLAG_TUNNEL;
    frame[LB4_FRAME_TUNNEL] = tunnel & 64 ? tunnel : bytes[tunnel >> 1 & 3];
    frame[LB4_FRAME_OFFSET] -= frame[LB4_FRAME_TUNNEL];
    frame[LB4_FRAME_LENGTH] = static_cast<int32_t>(static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]) + static_cast<uint32_t>(frame[LB4_FRAME_TUNNEL]));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  input input = {data, size};
  source = &input;
  const uint8_t shape = take8(source);
  std::memset(ring, 0, TPACKET2_HDRLEN);
  lb4::PacketSocket packets(1, {}, 0, shape & 1);
  packets.setPorts({1, 2, 3});
  const uint32_t count = 1 + (shape >> 1) % FRAMES;
  for (uint32_t i = 0; i < FRAMES + 1; i++) reinterpret_cast<tpacket2_hdr*>(ring + i * SLOT)->tp_status = TP_STATUS_KERNEL;
  for (uint32_t i = 0; i < count; i++) fillSlot(i);
  // Nobody's, for now.
  __asan_poison_memory_region(ring + (count + 1) * SLOT, (SLOTS - count - 1) * SLOT);

  std::vector<int32_t> frames(LB4_FRAME_HEADER + LB4_FRAME_BATCH * LB4_FRAME_STRIDE);
  int32_t* const first = frames.data() + LB4_FRAME_HEADER;
  CHECK(packets.receive(frames.data(), LB4_FRAME_BATCH, 1) == count);
  uint32_t attempts = 0;
  for (uint32_t i = 0; i < count; i++) {
    int32_t* const frame = first + i * LB4_FRAME_STRIDE;
    checkDescribed(frame, i, packets.slotBytes());
    changeWords(frame);
    attempts += frame[LB4_FRAME_OUT] >= LB4_FRAME_SEND && frame[LB4_FRAME_OUT] <= LB4_FRAME_FLOOD;
  }
  const uint32_t taken = packets.transmit(frames.data(), count);
  // Floods count their frame once.
  CHECK(taken <= attempts && static_cast<uint32_t>(frames[LB4_FRAME_REFUSED]) == attempts - taken && packets.batch() == 0);
  for (uint32_t i = 0; i < count; i++) CHECK(reinterpret_cast<tpacket2_hdr*>(ring + i * SLOT)->tp_status == TP_STATUS_KERNEL);
  __asan_unpoison_memory_region(ring, sizeof ring);
  return 0;
}
