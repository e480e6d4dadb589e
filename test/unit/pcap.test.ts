/** What the pcap driver makes out of frames that libpcap tells nothing of, and which of them it asks for. */
import { describe, expect, test } from 'vitest';
import { captureFilter } from '../../src/io/pcap-filter.ts';
import { finishChecksum, flagsOf, segmentBytes } from '../../src/io/pcap-frame.ts';
import { FLAG_GSO, FLAG_PARTIAL } from '../../src/layout/frames.ts';
import { addressNumber } from '../../src/packet/address.ts';
import { sum } from '../../src/packet/checksum.ts';
import { type Slab, slabOf } from '../../src/packet/fields.ts';
import { buildIp, pattern, type TcpPart, wrongChecksums } from '../lab/packets.ts';

const IP = 64;

function inSlab(tcp: Partial<TcpPart>): { slab: Slab; length: number; sumOf: (offset: number, length: number) => number } {
  const ip = buildIp({ source: '10.0.0.9', destination: '192.0.2.1', tcp: { from: 5000, to: 80, ...tcp } });
  const slab = slabOf(new ArrayBuffer(128 * 1024));
  slab.bytes.set(ip, IP);
  return { slab, length: ip.length, sumOf: (offset, length) => sum(slab.bytes, offset, length) };
}

describe('a frame of which nothing is told', () => {
  test.each([0, 1, 999, 1000])('with %i bytes has a whole checksum, or one that is finished', (bytes) => {
    const whole = inSlab({ payload: pattern(bytes) });
    expect(flagsOf(whole.slab, IP, whole.length, 1500, whole.sumOf)).toBe(0);
    const partial = inSlab({ payload: pattern(bytes), partial: true });
    expect(flagsOf(partial.slab, IP, partial.length, 1500, partial.sumOf)).toBe(FLAG_PARTIAL);
    finishChecksum(partial.slab, IP, partial.sumOf);
    expect(wrongChecksums(partial.slab.bytes.slice(IP, IP + partial.length))).toEqual([]);
  });

  test('with a wrong checksum keeps it', () => {
    const { slab, length, sumOf } = inSlab({ payload: pattern(100) });
    slab.bytes[IP + 60] ^= 1;
    expect(flagsOf(slab, IP, length, 1500, sumOf)).toBe(0);
  });

  test('larger than the MTU is a super-packet, and cut to what links take, or to less where the next one takes less', () => {
    const { slab, length, sumOf } = inSlab({ payload: pattern(4000) });
    expect(flagsOf(slab, IP, length, 1500, sumOf) & 0xffff).toBe(FLAG_GSO | FLAG_PARTIAL);
    expect(flagsOf(slab, IP, length, 9000, sumOf)).toBe(0);
    expect([segmentBytes(slab, IP, 1500), segmentBytes(slab, IP, 1000)]).toEqual([1240, 960]);
  });

  test('that is not all there, or no packet, is left to the pipeline', () => {
    const { slab, length, sumOf } = inSlab({ payload: pattern(100) });
    expect(flagsOf(slab, IP, length - 1, 1500, sumOf)).toBe(0);
    slab.bytes[IP] = 0x41;
    expect(flagsOf(slab, IP, length, 1500, sumOf)).toBe(0);
  });
});

describe('the filter', () => {
  const at = (ip: string, port: number) => ({ address: addressNumber(ip), port, protocol: 6 });
  const ports = { firstPort: 33_768, lastPort: 61_000 };
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 0x1a);

  test('names frontends, replies, ICMP errors and fragments, for this interface', () => {
    const frontends = [at('192.0.2.1', 80), at('192.0.2.1', 443), at('192.0.2.2', 80)];
    expect(captureFilter({ frontends, servers: [at('172.16.0.1', 8080)], ...ports }, mac)).toBe(
      'ether dst 02:00:00:00:00:1a and ip and (dst host 192.0.2.1 or dst host 192.0.2.2) and ' +
        '((ip proto 6 and (dst port 80 or dst port 443 or dst portrange 33768-61000)) or ' +
        '(icmp and (icmp[0] = 3 or icmp[0] = 11 or icmp[0] = 12)) or (ip[6:2] & 0x3fff != 0))',
    );
  });

  test('names what servers answer clients by its port, and pings where they are asked for', () => {
    const frontends = [at('192.0.2.1', 80)];
    const echo = { addresses: [], servers: [], returning: [1] };
    expect(captureFilter({ frontends, servers: [], returning: [at('172.16.0.1', 8080)], echo, ...ports }, mac)).toBe(
      'ether dst 02:00:00:00:00:1a and ip and (((dst host 192.0.2.1) and ' +
        '((ip proto 6 and (dst port 80)) or (icmp and (icmp[0] = 3 or icmp[0] = 11 or icmp[0] = 12)) or (ip[6:2] & 0x3fff != 0))) or ' +
        '(ip proto 6 and (src port 8080)) or (icmp and (icmp[0] = 3 or icmp[0] = 11 or icmp[0] = 12 or icmp[0] = 0)))',
    );
    const pinged = { addresses: [1], servers: [] };
    expect(captureFilter({ frontends, servers: [], echo: pinged, ...ports }, mac)).toMatch(
      /\(icmp and \(icmp\[0\] = 8 or icmp\[0\] = 0\)\)/,
    );
  });

  test('asks for no replies in DSR', () => {
    expect(captureFilter({ frontends: [at('192.0.2.1', 80)], servers: [], ...ports }, mac)).not.toMatch(/portrange/);
  });

  // "inbound" costs the first frame of a capture.
  test.each([
    ['without Ethernet', new Uint8Array()],
    ['loopback', new Uint8Array(6)],
  ])('leaves out what this host sends where no MAC address tells: %s', (_, none) => {
    expect(captureFilter({ frontends: [at('192.0.2.1', 80)], servers: [], ...ports }, none)).toMatch(/^inbound and ip and (?!ether)/);
  });

  test('is coarse where there are many', () => {
    const frontends = Array.from({ length: 200 }, (_, i) => at(`192.0.2.${i}`, 1000 + i));
    expect(captureFilter({ frontends, servers: [], ...ports }, mac)).not.toMatch(/dst (host|port)/);
  });
});
