/** GET /v1/capture: packets as they come, as a stream of pcapng that goes as fast as whoever reads it, and ends with him. */
import type { CaptureBatch, Captured, CaptureWanted } from './orders.ts';
import { PcapngWriter } from './pcapng.ts';

/** Bytes of a packet that are kept, unless it is asked for others; an IP header with all options and the ports fit the least. */
export const SNAPLEN = { few: 256, least: 96, most: 65_535 } as const;
export const MOST_PACKETS = 1_000_000_000;

/** In ms: whoever reads hears as often as that, so that a connection on which nothing happens is one that is broken. */
const SILENCE = 10_000;

export function pcapngOf(captured: Captured, { snaplen, count = Number.POSITIVE_INFINITY }: CaptureWanted, application: string) {
  const writer = new PcapngWriter(snaplen);
  let told = '';
  /** By a clock that does not jump. */
  let saidAt = performance.now();
  let written = 0;
  /** Statistics where they have changed, or nothing was said for long. */
  const statistics = ({ lost, note }: CaptureBatch, isLast: boolean): Buffer[] => {
    const now = performance.now();
    const text = `${lost} ${note}`;
    if (text === told && !isLast && now - saidAt < SILENCE) return [];
    told = text;
    saidAt = now;
    return [writer.statistics(Date.now(), written, lost, note)];
  };
  /** Bytes to be sent; undefined: that was the last of it. */
  const next = async (): Promise<Buffer | undefined> => {
    const batch = await captured.next();
    if (batch === undefined) return undefined;
    const packets = batch.packets.slice(0, count - written);
    written += packets.length;
    const isLast = written >= count;
    if (isLast) void captured.stop();
    return Buffer.concat([...packets.map((packet) => writer.packet(packet)), ...statistics(batch, isLast)]);
  };
  /** One that fails cancels nothing: nobody else would end the capture. */
  const more = async (): Promise<Buffer | undefined> => {
    try {
      let bytes = written >= count ? undefined : await next();
      while (bytes?.length === 0) bytes = await next();
      return bytes;
    } catch (error) {
      await captured.stop();
      throw error;
    }
  };
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => controller.enqueue(writer.begin(application)),
      pull: async (controller) => {
        const bytes = await more();
        if (bytes === undefined) controller.close();
        else controller.enqueue(bytes);
      },
      cancel: () => captured.stop(),
    },
    { highWaterMark: 1 },
  );
}
