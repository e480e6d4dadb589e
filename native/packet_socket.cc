#include "packet_socket.h"

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>

#include "checksum.h"

namespace lb4 {
namespace {

// A super-packet (64 KB, headers, room to grow) needs more than 64 KB, so slots are about 128 KB. Not exactly: 64 slots a
// power of two apart share one set of the first- and second-level caches, and a batch would evict itself between the
// pipeline's passes. 128 bytes less, and neighbours lie two cache lines apart. 32 such slots are 1023 pages: one
// order-10 allocation, and blocks follow each other without a gap, so slot i is at i * slotBytes.
constexpr uint32_t STAGGERED_SLOT = 128 * 1024 - 128;
constexpr uint32_t PLAIN_SLOT = 128 * 1024;
constexpr uint32_t SLOTS_A_BLOCK = 32;
static_assert(STAGGERED_SLOT * SLOTS_A_BLOCK % 4096 == 0, "blocks are whole pages");

// tpacket_rcv() puts the IP header at TPACKET_ALIGN(TPACKET2_HDRLEN + 16) + reserve + vnet header. 6 + 10 keep it aligned; the rest is room for the
// headers of a tunnel.
constexpr int RESERVE = 6 + LB4_FRAME_HEADROOM;
// The shortest IP header, and the longest IP and TCP headers.
constexpr uint32_t IP_MIN = 20;
constexpr uint32_t HEADERS_MAX = 60 + 60;
constexpr uint32_t NETWORK_OFFSET = TPACKET_ALIGN(TPACKET2_HDRLEN + 16) + RESERVE + VNET_BYTES;
static_assert(NETWORK_OFFSET == 144 && NETWORK_OFFSET % 4 == 0, "an Int32Array must be able to read the IP header");
static_assert(NETWORK_OFFSET - LB4_FRAME_HEADROOM - HEAD_BYTES - TAG_BYTES >= TPACKET2_HDRLEN, "frames may not reach back into the slot's own header");

// Bounds what one socket keeps in device queues; above it sendmmsg waits, which is back-pressure instead of loss. 4 MB
// (the kernel doubles what it is told) are about 50 super-packets.
constexpr int SEND_BUFFER = 2 << 20;
// Bounds the copies of frames larger than a slot (BIG TCP) that wait to be fetched; the kernel doubles it, too.
constexpr int COPY_BUFFER = 8 << 20;
constexpr timeval SEND_TIMEOUT = {0, 100'000};

void setOption(int fd, int level, int name, const void* value, socklen_t bytes, const char* attempted) {
  check(::setsockopt(fd, level, name, value, bytes), attempted);
}

void setPacketOption(const Fd& fd, int name, int value, const char* attempted) {
  setOption(fd.get(), SOL_PACKET, name, &value, sizeof value, attempted);
}

int packetOption(const Fd& fd, int name, int value, const char* attempted) {
  socklen_t bytes = sizeof value;
  check(::getsockopt(fd.get(), SOL_PACKET, name, &value, &bytes), attempted);
  return value;
}

tpacket2_hdr* header(uint8_t* slot) { return reinterpret_cast<tpacket2_hdr*>(slot); }

const sockaddr_ll* sender(const uint8_t* slot) {
  return reinterpret_cast<const sockaddr_ll*>(slot + TPACKET_ALIGN(sizeof(tpacket2_hdr)));
}

// packet_mmap.rst, "What TPACKET versions are available": status is the lock of a slot; acquire before its bytes are read.
bool ready(uint8_t* slot) { return __atomic_load_n(&header(slot)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER; }

void release(uint8_t* slot) { __atomic_store_n(&header(slot)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE); }

// The slot's header and its address, the virtio-net header, and the IP and transport headers: three lines.
void prefetch(const uint8_t* slot) {
  __builtin_prefetch(slot);
  __builtin_prefetch(slot + 64);
  __builtin_prefetch(slot + 128);
}

bool hasEthernet(const sockaddr_ll* from, const tpacket2_hdr* head) {
  const bool type = from->sll_hatype == ARPHRD_ETHER || from->sll_hatype == ARPHRD_LOOPBACK;
  return type && head->tp_net - head->tp_mac == static_cast<int>(ETHERNET_BYTES);
}

// Copied out and in: at OFFSET-24 it is only two-byte aligned, like the struct, but the slab is bytes to the compiler.
virtio_net_hdr loadVnet(const uint8_t* from) {
  virtio_net_hdr vnet;
  std::memcpy(&vnet, from, sizeof vnet);
  return vnet;
}

// Where there is no link header the kernel puts the virtio-net header right before the IP header. Moved to OFFSET-24, with
// its offsets counted from an Ethernet header, every frame looks the same.
void moveBeforeEthernet(virtio_net_hdr& vnet) {
  if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) vnet.csum_start += ETHERNET_BYTES;
  if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) vnet.hdr_len += ETHERNET_BYTES;
}

uint32_t flagsOf(const virtio_net_hdr& vnet) {
  uint32_t flags = vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? uint32_t{LB4_FRAME_FLAG_PARTIAL} : 0;
  if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) flags |= LB4_FRAME_FLAG_GSO | uint32_t{vnet.gso_size} << 16;
  return flags;
}

// The FLAGS word rules: whoever turns a super-packet into a small answer in place clears its flags, nothing more.
void applyFlags(uint8_t* at, uint32_t flags) {
  virtio_net_hdr vnet = loadVnet(at);
  if (!(flags & LB4_FRAME_FLAG_PARTIAL)) vnet.flags = 0;
  if (flags & LB4_FRAME_FLAG_GSO) {
    vnet.gso_size = static_cast<uint16_t>(flags >> 16);
  } else {
    vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
    vnet.gso_size = vnet.hdr_len = 0;
  }
  std::memcpy(at, &vnet, sizeof vnet);
}

// Of the headers of a tunnel that the frame's packet is in; 0: it is in none.
uint32_t wrappedBytes(const int32_t* frame) {
  return frame[LB4_FRAME_FLAGS] & LB4_FRAME_FLAG_TUNNEL ? static_cast<uint32_t>(frame[LB4_FRAME_TUNNEL]) : 0;
}

// BIG TCP (include/net/ip.h, iph_totlen()): a super-packet that no 16 bits can tell the length of says 0.
bool isBig(const uint8_t* ip, uint32_t length, uint32_t flags) {
  return (flags & LB4_FRAME_FLAG_GSO) && length > 0xffff && ip[2] == 0 && ip[3] == 0;
}

// Total length 0 becomes 65535 or the other way round. To a one's complement sum both are zero: the checksum stays right.
void setTotalLength(uint8_t* ip, uint8_t value) { ip[2] = ip[3] = value; }

// The EtherType, or length, of the frame whose virtio-net header is at `start`, as it stands there.
uint16_t typeAt(const uint8_t* start) {
  uint16_t type;
  std::memcpy(&type, start + VNET_BYTES + ADDRESSES_BYTES, sizeof type);
  return type;
}

// What sockaddr_ll says of a frame of that EtherType; below 0x600 it is a length (IEEE 802.3), as eth_type_trans() of the kernel has it.
uint16_t protocolOf(uint16_t type) { return ntohs(type) >= ETH_P_802_3_MIN ? type : htons(ETH_P_802_2); }

// The tag that the kernel has taken off (packet(7), TP_STATUS_VLAN_VALID) as the VLAN word; 0: none.
uint32_t tagOf(const tpacket2_hdr* head) {
  if (!(head->tp_status & TP_STATUS_VLAN_VALID)) return 0;
  const uint32_t type = head->tp_status & TP_STATUS_VLAN_TPID_VALID ? head->tp_vlan_tpid : ETH_P_8021Q;
  return type << 16 | head->tp_vlan_tci;
}

// Puts it back where it stood, and returns where the virtio-net header is now.
uint8_t* insertTag(uint8_t* start, uint32_t tag) {
  std::memmove(start - TAG_BYTES, start, VNET_BYTES + ADDRESSES_BYTES);
  start -= TAG_BYTES;
  const uint16_t words[] = {htons(static_cast<uint16_t>(tag >> 16)), htons(static_cast<uint16_t>(tag))};
  std::memcpy(start + VNET_BYTES + ADDRESSES_BYTES, words, sizeof words);
  virtio_net_hdr vnet = loadVnet(start);
  if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) vnet.csum_start += TAG_BYTES;
  if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) vnet.hdr_len += TAG_BYTES;
  std::memcpy(start, &vnet, sizeof vnet);
  return start;
}

int64_t clockNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int32_t clockMs() { return static_cast<int32_t>(static_cast<uint32_t>(clockNs() / 1'000'000)); }

// Has the other thread of this core go on, and costs less energy than looking again at once.
void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

// Protocol 0 first: the socket hears nothing before its filter and ring stand (packet(7)).
PacketSocket::PacketSocket(uint32_t slots, const std::vector<sock_filter>& filter, uint32_t busyPollUs, bool all)
    : fd_(check(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), "socket(AF_PACKET)")),
      wake_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd()")),
      busyPollNs_(int64_t{busyPollUs} * 1000),
      all_(all) {
  setFilter(filter);
  configure();
  mapRing(slots);
  bindToAllInterfaces();
}

// A mapping of the ring keeps the kernel's socket alive after close(2) (it holds the file). Where JavaScript still holds
// the slab, at least nothing more is copied into it: a filter that accepts nothing.
PacketSocket::~PacketSocket() {
  sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program = {1, &nothing};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

// SO_ATTACH_FILTER swaps the program under RCU (socket(7), sk_attach_filter): every frame sees the old or the new one.
void PacketSocket::setFilter(const std::vector<sock_filter>& filter) {
  const sock_fprog program = {static_cast<unsigned short>(filter.size()), const_cast<sock_filter*>(filter.data())};
  setOption(fd_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program, "setsockopt(SO_ATTACH_FILTER)");
}

void PacketSocket::configure() {
  setPacketOption(fd_, PACKET_VERSION, TPACKET_V2, "setsockopt(PACKET_VERSION)");
  setPacketOption(fd_, PACKET_VNET_HDR, 1, "setsockopt(PACKET_VNET_HDR)");
  setPacketOption(fd_, PACKET_RESERVE, RESERVE, "setsockopt(PACKET_RESERVE)");
  setPacketOption(fd_, PACKET_IGNORE_OUTGOING, 1, "setsockopt(PACKET_IGNORE_OUTGOING)");
  // FORCE passes net.core.wmem_max, but needs CAP_NET_ADMIN; less is slower, not wrong.
  const int bytes = SEND_BUFFER;
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
    setOption(fd_.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes, "setsockopt(SO_SNDBUF)");
  setPacketOption(fd_, PACKET_COPY_THRESH, 1, "setsockopt(PACKET_COPY_THRESH)");
  const int copies = COPY_BUFFER;
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &copies, sizeof copies) < 0)
    setOption(fd_.get(), SOL_SOCKET, SO_RCVBUF, &copies, sizeof copies, "setsockopt(SO_RCVBUF)");
  setOption(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &SEND_TIMEOUT, sizeof SEND_TIMEOUT, "setsockopt(SO_SNDTIMEO)");
  if (packetOption(fd_, PACKET_HDRLEN, TPACKET_V2, "getsockopt(PACKET_HDRLEN)") != sizeof(tpacket2_hdr) ||
      packetOption(fd_, PACKET_RESERVE, 0, "getsockopt(PACKET_RESERVE)") != RESERVE ||
      packetOption(fd_, PACKET_VNET_HDR, 0, "getsockopt(PACKET_VNET_HDR)") != 1)
    throw SystemError(EPROTO, "setsockopt(PACKET_RESERVE, PACKET_VNET_HDR: the IP header would not be aligned)");
}

void PacketSocket::mapRing(uint32_t slots) {
  slotBytes_ = ::sysconf(_SC_PAGESIZE) == 4096 ? STAGGERED_SLOT : PLAIN_SLOT;
  tpacket_req request{};
  request.tp_block_size = slotBytes_ * SLOTS_A_BLOCK;
  request.tp_block_nr = (slots + SLOTS_A_BLOCK - 1) / SLOTS_A_BLOCK;
  request.tp_frame_size = slotBytes_;
  request.tp_frame_nr = slots_ = request.tp_block_nr * SLOTS_A_BLOCK;
  setOption(fd_.get(), SOL_PACKET, PACKET_RX_RING, &request, sizeof request, "setsockopt(PACKET_RX_RING)");
  ring_ = std::make_shared<Mapping>(fd_, size_t{slots_} * slotBytes_, "mmap(PACKET_RX_RING)");
}

void PacketSocket::setPorts(const std::vector<int32_t>& ports) {
  const auto has = [](const std::vector<int32_t>& all, int32_t port) { return std::find(all.begin(), all.end(), port) != all.end(); };
  for (const int32_t port : ports)
    if (!has(ports_, port)) setPromiscuous(port, PACKET_ADD_MEMBERSHIP);
  for (const int32_t port : ports_)
    if (!has(ports, port)) setPromiscuous(port, PACKET_DROP_MEMBERSHIP);
  ports_ = ports;
}

void PacketSocket::setPromiscuous(int32_t port, int action) {
  packet_mreq request{};
  request.mr_ifindex = port;
  request.mr_type = PACKET_MR_PROMISC;
  if (::setsockopt(fd_.get(), SOL_PACKET, action, &request, sizeof request) < 0 && action == PACKET_ADD_MEMBERSHIP && errno != ENODEV)
    throw SystemError(errno, "setsockopt(PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC)");
}

// ETH_P_IP where that suffices, not ETH_P_ALL: such a socket taps after tc ingress, and so misses what a fast path there has handled.
void PacketSocket::bindToAllInterfaces() {
  sockaddr_ll any{};
  any.sll_family = AF_PACKET;
  any.sll_protocol = htons(all_ ? ETH_P_ALL : ETH_P_IP);
  check(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&any), sizeof any), all_ ? "bind(AF_PACKET, ETH_P_ALL)" : "bind(AF_PACKET, ETH_P_IP)");
}

uint32_t PacketSocket::receive(int32_t* frames, uint32_t capacity, int timeoutMs) {
  if (batch_ != 0) releaseBatch();
  if (timeoutMs != 0 && !ready(slot(first_)) && !isReadySoon()) wait(timeoutMs);
  // In ring order, up to the first slot that the kernel still fills: another CPU may have finished a later one. Never
  // round the ring: the slots of this batch still say USER.
  capacity = std::min(capacity, slots_);
  uint32_t index = first_;
  int32_t* frame = frames + LB4_FRAME_HEADER;
  for (; batch_ < capacity && ready(slot(index)); batch_++, index = next(index), frame += LB4_FRAME_STRIDE) {
    prefetch(slot(next(index)));
    describe(index, frame);
  }
  frames[LB4_FRAME_CLOCK] = clockMs();
  return batch_;
}

// A wake-up by the kernel costs several microseconds: under load the next frame is here sooner. A few looks for each at the clock.
bool PacketSocket::isReadySoon() {
  if (busyPollNs_ == 0) return false;
  const int64_t end = clockNs() + busyPollNs_;
  do {
    for (int i = 0; i < 16; i++, relax())
      if (ready(slot(first_))) return true;
  } while (clockNs() < end);
  return false;
}

void PacketSocket::wait(int timeoutMs) {
  pollfd fds[] = {{fd_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  if (::poll(fds, 2, timeoutMs) < 0) {
    if (errno == EINTR) return;
    throw SystemError(errno, "poll(AF_PACKET)");
  }
  eventfd_t ignored;
  if (fds[1].revents & POLLIN) ::eventfd_read(wake_.get(), &ignored);
  // Reading the error clears it; poll would not block any more otherwise.
  if (fds[0].revents & POLLERR) {
    int error = 0;
    socklen_t bytes = sizeof error;
    ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &bytes);
  }
}

void PacketSocket::describe(uint32_t index, int32_t* frame) {
  uint8_t* const at = slot(index);
  const tpacket2_hdr* const head = header(at);
  const sockaddr_ll* const from = sender(at);
  virtio_net_hdr vnet = loadVnet(at + head->tp_mac - VNET_BYTES);
  // DATA_VALID speaks of the checksum as received, which we are about to change.
  vnet.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM;
  uint32_t flags = flagsOf(vnet);
  if (!hasEthernet(from, head)) {
    flags |= LB4_FRAME_FLAG_NO_ETHERNET;
    moveBeforeEthernet(vnet);
  }
  std::memcpy(at + head->tp_net - HEAD_BYTES, &vnet, sizeof vnet);
  const uint32_t linkBytes = head->tp_net - head->tp_mac;
  uint32_t length = head->tp_snaplen - std::min(linkBytes, head->tp_snaplen);
  if (head->tp_snaplen < head->tp_len) {
    if ((head->tp_status & TP_STATUS_COPY) && fetchCopy(index, linkBytes)) length = head->tp_len - linkBytes;
    else flags |= LB4_FRAME_FLAG_TRUNCATED;
  }
  if (all_) {
    frame[LB4_FRAME_VLAN] = static_cast<int32_t>(tagOf(head));
    if (!(flags & LB4_FRAME_FLAG_NO_ETHERNET) && typeAt(at + head->tp_net - HEAD_BYTES) != htons(ETH_P_IP)) flags |= LB4_FRAME_FLAG_FOREIGN;
  }
  if (flags & LB4_FRAME_FLAG_FOREIGN) {
    if (head->tp_snaplen < head->tp_len && !(flags & LB4_FRAME_FLAG_TRUNCATED)) flags |= LB4_FRAME_FLAG_BIG;
  } else if (isBig(at + head->tp_net, length, flags)) {
    flags |= LB4_FRAME_FLAG_BIG;
    setTotalLength(at + head->tp_net, 0xff);
  }
  frame[LB4_FRAME_OFFSET] = static_cast<int32_t>(index * slotBytes_ + head->tp_net);
  frame[LB4_FRAME_LENGTH] = static_cast<int32_t>(length);
  frame[LB4_FRAME_INTERFACE] = from->sll_ifindex;
  frame[LB4_FRAME_FLAGS] = static_cast<int32_t>(flags);
  frame[LB4_FRAME_OUT] = LB4_FRAME_DROP;
}

// packet(7), PACKET_COPY_THRESH: a frame larger than its slot stands whole in the socket's queue as well, in the order of
// the slots. It takes the place of the slot's packet when that is sent.
bool PacketSocket::fetchCopy(uint32_t index, uint32_t linkBytes) {
  const size_t frame = VNET_BYTES + header(slot(index))->tp_len;
  // Without a link header its room in front of the packet stays free, and so does a tunnel's.
  const size_t before = LB4_FRAME_HEADROOM + TAG_BYTES + ETHERNET_BYTES - std::min(linkBytes, ETHERNET_BYTES);
  if (copied_ == copies_.size()) copies_.emplace_back();
  Copy& copy = copies_[copied_];
  copy.slot = index;
  copy.frame.resize(before + frame);
  const ssize_t got = ::recv(fd_.get(), copy.frame.data() + before, frame, MSG_DONTWAIT | MSG_TRUNC);
  if (got != static_cast<ssize_t>(frame)) return false;
  copied_++;
  return true;
}

uint32_t PacketSocket::transmit(int32_t* frames, uint32_t count) {
  uint32_t messages = 0;
  uint32_t attempts = 0;
  uint32_t taken = 0;
  uint32_t index = first_;
  int32_t* frame = frames + LB4_FRAME_HEADER;
  for (uint32_t i = 0; i < count; i++, index = next(index), frame += LB4_FRAME_STRIDE) {
    const int32_t out = frame[LB4_FRAME_OUT];
    if (out != LB4_FRAME_SEND && out != LB4_FRAME_ROUTE && out != LB4_FRAME_FLOOD) continue;
    attempts++;
    uint8_t* ip = packet(index, frame);
    const auto flags = static_cast<uint32_t>(frame[LB4_FRAME_FLAGS]);
    if (ip != nullptr && flags & LB4_FRAME_FLAG_BIG) ip = whole(index, ip, frame);
    const uint32_t wrapped = wrappedBytes(frame);
    if (ip == nullptr) {
      frame[LB4_FRAME_OUT] = -EINVAL;
    } else if (out == LB4_FRAME_FLOOD) {
      taken += flush(messages);
      messages = 0;
      taken += flood(ip, frame);
    } else if ((flags & LB4_FRAME_FLAG_CUT) || ((out == LB4_FRAME_ROUTE || wrapped != 0) && (flags & LB4_FRAME_FLAG_GSO))) {
      // What was written down before leaves before.
      taken += flush(messages);
      messages = 0;
      taken += sendPieces(ip, frame);
    } else if (wrapped != 0 && !finishInner(ip, frame)) {
      frame[LB4_FRAME_OUT] = -EINVAL;
    } else if (out == LB4_FRAME_SEND) {
      enqueue(messages++, ip, frame);
    } else {
      const int error = raw_.send(ip, static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]), frame[LB4_FRAME_FLAGS] & LB4_FRAME_FLAG_PARTIAL);
      if (error == 0) taken++;
      else frame[LB4_FRAME_OUT] = -error;
    }
  }
  taken += flush(messages);
  frames[LB4_FRAME_REFUSED] = static_cast<int32_t>(attempts - taken);
  releaseBatch();
  return taken;
}

// The frame's IP header, or null where the descriptor points out of the frame's own slot: a wrong word may lose its own
// frame, never send another's bytes.
uint8_t* PacketSocket::packet(uint32_t index, const int32_t* frame) const {
  const uint32_t inSlot = static_cast<uint32_t>(frame[LB4_FRAME_OFFSET]) - index * slotBytes_;
  const uint32_t length = static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]);
  if (inSlot < TPACKET2_HDRLEN + HEAD_BYTES || inSlot > slotBytes_ || length > slotBytes_ - inSlot) return nullptr;
  const uint32_t wrapped = wrappedBytes(frame);
  if (wrapped != 0 && (wrapped > LB4_FRAME_HEADROOM || wrapped + IP_MIN > length)) return nullptr;
  return slot(index) + inSlot;
}

// No device need know that there is a checksum to finish inside of another packet: it is finished here.
bool PacketSocket::finishInner(uint8_t* ip, int32_t* frame) const {
  if (!(frame[LB4_FRAME_FLAGS] & LB4_FRAME_FLAG_PARTIAL)) return true;
  const uint32_t wrapped = wrappedBytes(frame);
  frame[LB4_FRAME_FLAGS] &= ~LB4_FRAME_FLAG_PARTIAL;
  return finishPartialChecksum(ip + wrapped, static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]) - wrapped);
}

// A BIG TCP packet as it came, with the headers as they are now: its IP header, or null as of packet(). LENGTH is true again.
uint8_t* PacketSocket::whole(uint32_t index, uint8_t* ip, int32_t* frame) {
  const tpacket2_hdr* const head = header(slot(index));
  const bool foreign = frame[LB4_FRAME_FLAGS] & LB4_FRAME_FLAG_FOREIGN;
  const uint32_t wrapped = wrappedBytes(frame);
  if (!foreign) setTotalLength(ip + wrapped, 0);
  frame[LB4_FRAME_LENGTH] = static_cast<int32_t>(wrapped + head->tp_len - (head->tp_net - head->tp_mac));
  for (uint32_t i = 0; i < copied_; i++) {
    if (copies_[i].slot != index) continue;
    uint8_t* const copy = copies_[i].frame.data() + LB4_FRAME_HEADROOM - wrapped + TAG_BYTES;
    std::memcpy(copy, ip - HEAD_BYTES, HEAD_BYTES + (foreign ? 0 : wrapped + HEADERS_MAX));
    return copy + HEAD_BYTES;
  }
  return packet(index, frame);
}

// Returns 1 when all pieces were taken; otherwise OUT has an error.
uint32_t PacketSocket::sendPieces(uint8_t* ip, int32_t* frame) {
  const auto flags = static_cast<uint32_t>(frame[LB4_FRAME_FLAGS]);
  const uint32_t mtu = flags & LB4_FRAME_FLAG_CUT ? static_cast<uint32_t>(frame[LB4_FRAME_LIMIT]) : 0xffff;
  const Cuts how = {flags & LB4_FRAME_FLAG_GSO ? flags >> 16 : 0, (flags & LB4_FRAME_FLAG_PARTIAL) != 0, mtu};
  const uint32_t wrapped = wrappedBytes(frame);
  const auto pieces = static_cast<uint32_t>(cutter_.cut(ip + wrapped, static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]) - wrapped, how));
  if (pieces == 0) {
    frame[LB4_FRAME_OUT] = -EMSGSIZE;
    return 0;
  }
  if (wrapped != 0) cutter_.wrap(ip, wrapped);
  if (frame[LB4_FRAME_OUT] == LB4_FRAME_ROUTE) return routePieces(pieces, frame);
  for (uint32_t i = 0; i < pieces; i++) {
    uint8_t* const start = cutter_.packet(i) - HEAD_BYTES;
    std::memset(start, 0, VNET_BYTES);
    std::memcpy(start + VNET_BYTES, ip - ETHERNET_BYTES, ETHERNET_BYTES);
  }
  return sendPiecesHere(pieces, frame);
}

uint32_t PacketSocket::sendPiecesHere(uint32_t pieces, int32_t* frame) {
  uint32_t taken = 0;
  for (uint32_t first = 0; first < pieces; first += LB4_FRAME_BATCH) {
    const uint32_t messages = std::min<uint32_t>(LB4_FRAME_BATCH, pieces - first);
    for (uint32_t i = 0; i < messages; i++)
      send(i, cutter_.packet(first + i) - HEAD_BYTES, HEAD_BYTES + cutter_.length(first + i), frame);
    taken += flush(messages);
  }
  return taken == pieces;
}

uint32_t PacketSocket::routePieces(uint32_t pieces, int32_t* frame) {
  for (uint32_t i = 0; i < pieces; i++) {
    const int error = raw_.send(cutter_.packet(i), cutter_.length(i), false);
    if (error == 0) continue;
    frame[LB4_FRAME_OUT] = -error;
    return 0;
  }
  return 1;
}

void PacketSocket::enqueue(uint32_t message, uint8_t* ip, int32_t* frame) {
  uint8_t* const start = ip - HEAD_BYTES;
  applyFlags(start, static_cast<uint32_t>(frame[LB4_FRAME_FLAGS]));
  send(message, start, HEAD_BYTES + static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]), frame);
}

// Returns 1 when every port took it; otherwise OUT has an error.
uint32_t PacketSocket::flood(uint8_t* ip, int32_t* frame) {
  uint8_t* start = ip - HEAD_BYTES;
  applyFlags(start, static_cast<uint32_t>(frame[LB4_FRAME_FLAGS]));
  size_t bytes = HEAD_BYTES + static_cast<uint32_t>(frame[LB4_FRAME_LENGTH]);
  if (const auto tag = static_cast<uint32_t>(frame[LB4_FRAME_VLAN]); tag != 0) {
    start = insertTag(start, tag);
    bytes += TAG_BYTES;
  }
  const int32_t from = frame[LB4_FRAME_INTERFACE];
  uint32_t messages = 0;
  for (size_t i = 1; i < ports_.size(); i++) {
    if (ports_[i] == from) continue;
    address(messages, start, bytes, frame);
    addresses_[messages++].sll_ifindex = ports_[i];
  }
  return flush(messages) == messages;
}

// As address(), with the frame's tag.
void PacketSocket::send(uint32_t message, uint8_t* start, size_t bytes, int32_t* frame) {
  const uint32_t tag = all_ ? static_cast<uint32_t>(frame[LB4_FRAME_VLAN]) : 0;
  if (tag != 0) address(message, insertTag(start, tag), bytes + TAG_BYTES, frame);
  else address(message, start, bytes, frame);
}

// Message `message` is `bytes` from the virtio-net header at `start` on, to the interface of `frame`.
void PacketSocket::address(uint32_t message, uint8_t* start, size_t bytes, int32_t* frame) {
  vectors_[message] = {start, bytes};
  sockaddr_ll& to = addresses_[message];
  to.sll_family = AF_PACKET;
  to.sll_protocol = all_ ? protocolOf(typeAt(start)) : htons(ETH_P_IP);
  to.sll_ifindex = frame[LB4_FRAME_INTERFACE];
  msghdr& head = messages_[message].msg_hdr;
  head.msg_name = &to;
  head.msg_namelen = sizeof to;
  head.msg_iov = &vectors_[message];
  head.msg_iovlen = 1;
  senders_[message] = frame;
}

// sendmmsg(2) stops at the first message that fails and tells why only when that one comes first: mark it, skip it, go on.
uint32_t PacketSocket::flush(uint32_t messages) {
  uint32_t taken = 0;
  int flags = 0;
  for (uint32_t i = 0; i < messages;) {
    const int sent = ::sendmmsg(fd_.get(), messages_ + i, messages - i, flags);
    if (sent > 0) {
      i += static_cast<uint32_t>(sent);
      taken += static_cast<uint32_t>(sent);
    } else if (errno != EINTR) {
      // One batch waits for a stuck device once, not once a frame.
      if (errno == EAGAIN) flags = MSG_DONTWAIT;
      senders_[i++][LB4_FRAME_OUT] = -errno;
    }
  }
  return taken;
}

void PacketSocket::releaseBatch() {
  copied_ = 0;
  for (; batch_ != 0; batch_--, first_ = next(first_)) release(slot(first_));
}

// tp_packets counts the dropped ones too (packet(7), PACKET_STATISTICS); reading resets both.
tpacket_stats PacketSocket::statistics() {
  tpacket_stats stats{};
  socklen_t bytes = sizeof stats;
  check(::getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &stats, &bytes), "getsockopt(PACKET_STATISTICS)");
  return stats;
}

}  // namespace lb4
