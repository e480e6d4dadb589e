// TCP (RFC 9293): a segment that changes nothing of its connection. The same questions as src/flow/tcp.ts asks.
#pragma once

#include "packet.h"

#define TCP_MIN 20
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

// Bytes of payload of a segment that needs nothing but a rewrite; negative: it goes up. `length` is that of the IP packet.
INLINE int tcp_payload(const struct packet* at, const void* end, __u32 length, __u32* acknowledgement) {
  const struct tcphdr* tcp = (const struct tcphdr*)at->transport;
  if ((const void*)tcp + TCP_MIN > end) return -1;
  const __u32 header = (((const __u8*)tcp)[12] >> 4) * 4;
  const __u8 flags = ((const __u8*)tcp)[13];
  if (header < TCP_MIN || length < IP_MIN + header) return -1;
  if ((flags & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK)) != TCP_ACK) return -1;
  *acknowledgement = tcp->ack_seq;
  return tcp->check == CHECKSUM_UNCLEAR ? -1 : (int)(length - IP_MIN - header);
}
