/** Settings of sockets. */

/** What both sides of a connection have in common. */
export const SOCKET_OPTIONS = {
  /** A FIN is passed on; the other direction goes on. */
  allowHalfOpen: true,
  noDelay: true,
  /** A peer that vanished without a word is found by the kernel, should timeouts be off. */
  keepAlive: true,
  keepAliveInitialDelay: 60_000,
  /**
   * Bytes that may wait in user space, a direction, before the other side is no longer read. Two of libuv's reads (64 KB): a
   * stream counts a write as waiting until it has returned, so that with one each full read would stop the reading.
   */
  highWaterMark: 131_072,
} as const;

/** More than the kernel allows (net.core.somaxconn), which caps it: workers call listen(2) again on the shared socket. */
export const BACKLOG = 4096;
