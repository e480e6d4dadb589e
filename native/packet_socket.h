// AF_PACKET: a TPACKET_V2 receive ring for the IPv4 frames of all interfaces, or for whatever comes by some, and sendmmsg(2) out of the same memory.
// packet(7), Documentation/networking/packet_mmap.rst. README.md draws a slot.
#pragma once

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <memory>
#include <vector>

#include "cutter.h"
#include "fd.h"
#include "frames.h"
#include "raw_socket.h"

namespace lb4 {

class PacketSocket {
 public:
  // `slots` is rounded up to whole blocks of 32. At most MAX_SLOTS, so that every offset fits an Int32Array.
  static constexpr uint32_t MAX_SLOTS = 16352;

  // `busyPollUs`: how long a wait looks at the ring before it sleeps in poll(2).
  static constexpr uint32_t MAX_BUSY_POLL_US = 10'000;

  // Most ports that a frame is flooded to: a batch of messages.
  static constexpr uint32_t MAX_PORTS = LB4_FRAME_BATCH;

  // `all`: frames of any kind (ETH_P_ALL), with the VLAN tags that the kernel has taken off, to whomever they are addressed by `setPorts`.
  PacketSocket(uint32_t slots, const std::vector<sock_filter>& filter, uint32_t busyPollUs, bool all);
  ~PacketSocket();

  const std::shared_ptr<Mapping>& ring() const { return ring_; }
  uint32_t slotBytes() const { return slotBytes_; }
  uint32_t batch() const { return batch_; }
  int fd() const { return fd_.get(); }
  int wakeFd() const { return wake_.get(); }

  // Describes up to `capacity` (<= BATCH) frames. Slots of a batch that was not transmitted are dropped first. A signal
  // ends the wait early, so that JavaScript may handle it.
  uint32_t receive(int32_t* frames, uint32_t capacity, int timeoutMs);

  // Sends the first `count` (<= batch()) frames of the batch as their OUT words say and releases all its slots. ROUTE
  // frames leave before SEND frames, each kind in order: a flow goes from ROUTE to SEND when its neighbour is found.
  uint32_t transmit(int32_t* frames, uint32_t count);

  void setFilter(const std::vector<sock_filter>& filter);

  // Interfaces that take frames addressed to others as well (PACKET_MR_PROMISC) from now on, until they are no ports any more or the socket
  // goes; FLOOD is to all but the first. One that is gone meanwhile is passed over.
  void setPorts(const std::vector<int32_t>& ports);
  tpacket_stats statistics();

 private:
  struct Copy {
    uint32_t slot;
    std::vector<uint8_t> frame;  // room for a tunnel and a tag, virtio-net header, Ethernet, packet
  };

  void configure();
  void mapRing(uint32_t slots);
  void bindToAllInterfaces();
  void setPromiscuous(int32_t port, int action);
  uint8_t* slot(uint32_t index) const { return ring_->data() + size_t{index} * slotBytes_; }
  uint32_t next(uint32_t index) const { return index + 1 == slots_ ? 0 : index + 1; }
  bool isReadySoon();
  void wait(int timeoutMs);
  void describe(uint32_t index, int32_t* frame);
  bool fetchCopy(uint32_t index, uint32_t linkBytes);
  uint8_t* packet(uint32_t index, const int32_t* frame) const;
  bool finishInner(uint8_t* ip, int32_t* frame) const;
  uint8_t* whole(uint32_t index, uint8_t* ip, int32_t* frame);
  uint32_t sendPieces(uint8_t* ip, int32_t* frame);
  uint32_t sendPiecesHere(uint32_t pieces, int32_t* frame);
  uint32_t routePieces(uint32_t pieces, int32_t* frame);
  void enqueue(uint32_t message, uint8_t* ip, int32_t* frame);
  uint32_t flood(uint8_t* ip, int32_t* frame);
  void address(uint32_t message, uint8_t* start, size_t bytes, int32_t* frame);
  void send(uint32_t message, uint8_t* start, size_t bytes, int32_t* frame);
  uint32_t flush(uint32_t messages);
  void releaseBatch();

  Fd fd_;
  Fd wake_;
  RawSocket raw_;
  std::shared_ptr<Mapping> ring_;
  int64_t busyPollNs_;
  bool all_;
  std::vector<int32_t> ports_;
  uint32_t slotBytes_ = 0;
  uint32_t slots_ = 0;
  uint32_t first_ = 0;  // the batch's first slot; the next to be received when there is no batch
  uint32_t batch_ = 0;  // slots that user space holds
  Cutter cutter_{TAG_BYTES + HEAD_BYTES + LB4_FRAME_HEADROOM};
  // The first `copied_` are frames of this batch that are larger than their slot; the others are room for further ones.
  std::vector<Copy> copies_;
  uint32_t copied_ = 0;

  mmsghdr messages_[LB4_FRAME_BATCH] = {};
  iovec vectors_[LB4_FRAME_BATCH] = {};
  sockaddr_ll addresses_[LB4_FRAME_BATCH] = {};
  int32_t* senders_[LB4_FRAME_BATCH] = {};  // whose OUT word hears of a failed message
};

}  // namespace lb4
