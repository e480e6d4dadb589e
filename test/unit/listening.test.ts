/** From when on a running lb4 listens for answers. */
import { afterEach, expect, test, vi } from 'vitest';
import type { DataPath } from '../../src/service/data-path.ts';
import { Listening } from '../../src/service/listening.ts';
import type { Plan } from '../../src/service/plan.ts';

afterEach(() => vi.useRealTimers());

interface Given {
  readonly type: string;
  readonly protocol?: string;
  readonly flows?: number;
  /** The check was answered. */
  readonly isTwoWay?: boolean;
}

function told({ type, protocol = 'tcp', flows = 4, isTwoWay = false }: Given): unknown[] {
  vi.useFakeTimers();
  const lines: unknown[] = [];
  const health = { passedAt: () => (type === 'none' ? undefined : performance.now()), suspect: () => {}, answersDatagrams: () => isTwoWay };
  const listening = new Listening({
    mode: 'dsr',
    health,
    log: { info: () => {}, warn: (_: unknown, text: unknown) => lines.push(text) } as never,
  });
  const server = { key: 'a', index: 0, draining: false, state: 'up', server: { addr: { ip: '192.0.2.9', family: 4 } } };
  const backend = { name: 'app', healthCheck: { type }, protocol: { name: protocol } };
  const plan = { frontends: [], backends: [{ backend, servers: [server] }] } as unknown as Plan;
  let due = 0;
  listening.start({ answers: () => ({ due, answered: 0 }), server: () => ({ bytesRx: 0 }) } as unknown as DataPath, () => plan);
  due = flows;
  vi.advanceTimersByTime(20_000);
  listening.stop();
  return lines;
}

test.each([
  ['tcp', 'servers pass their health checks, yet answer none of 3 connections or more'],
  ['none', 'servers that are not checked answer none of 3 connections or more'],
])('connections of the first second count; servers are checked by: %s', (type, line) => expect(told({ type })).toEqual([line]));

const FELL = 'servers pass their health checks, yet answer none of 16 flows of datagrams or more, of a protocol that is answered otherwise';
test.each<[string, Given, string[]]>([
  ['nobody knows that an answer is due', { type: 'udp', flows: 50 }, []],
  ['a check was answered', { type: 'udp', flows: 16, isTwoWay: true }, [FELL]],
  ['a few may be scans', { type: 'udp', flows: 15, isTwoWay: true }, []],
])('datagrams: %s', (_, given, lines) => expect(told({ protocol: 'udp', ...given })).toEqual(lines));
