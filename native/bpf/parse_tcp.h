// TCP (RFC 9293): a segment that changes nothing of its connection. The same questions as src/flow/tcp.ts asks.
#pragma once

#include "packet.h"

#define TCP_MIN 20
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

// Bytes of the header of a segment in an IP packet of `length` bytes; 0: there cannot be so many.
INLINE __u32 tcp_header(const struct packet* at, const void* end, __u32 length) {
  if ((const void*)at->transport + TCP_MIN > end) return 0;
  const __u32 header = (((const __u8*)at->transport)[12] >> 4) * 4;
  return header < TCP_MIN || length < IP_MIN + header ? 0 : header;
}

// Those of its flags that are of its connection.
INLINE __u8 tcp_control(const struct packet* at) {
  return ((const __u8*)at->transport)[13] & (TCP_FIN | TCP_SYN | TCP_RST | TCP_ACK);
}

// Bytes of payload of a segment that needs nothing but a rewrite; negative: it goes up. `length` is that of the IP packet.
INLINE int tcp_payload(const struct packet* at, const void* end, __u32 length, __u32* acknowledgement) {
  const struct tcphdr* tcp = (const struct tcphdr*)at->transport;
  const __u32 header = tcp_header(at, end, length);
  if (!header || tcp_control(at) != TCP_ACK) return -1;
  *acknowledgement = tcp->ack_seq;
  return tcp->check == CHECKSUM_UNCLEAR ? -1 : (int)(length - IP_MIN - header);
}
