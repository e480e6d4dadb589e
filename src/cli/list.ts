/** `lb4 list`: frontends and their servers in a table, as ipvsadm has them. */
import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Listing } from '../control/listing.ts';
import { columns, short } from './columns.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';

interface ListOptions extends Asked {
  readonly numeric?: boolean | undefined;
  readonly rate?: boolean | undefined;
  readonly names?: boolean | undefined;
}

type Backend = Listing['backends'][number];
type Totals = Pick<Backend, 'current' | 'total' | 'bytes_tx' | 'bytes_rx'>;

/** Between two looks, for rates. */
const RATE_MS = 1000;

/** The command, for the program to add. */
export function listCommand(): Command {
  const command = askingCommand('list', 'list frontends and their servers, with state, weight and connections')
    .option('-n, --numeric', 'addresses in place of names')
    .option('--rate', 'connections and bytes a second, measured for one')
    .option('--names', 'the names of the servers alone, as other commands take them')
    .action(async (options: ListOptions) => {
      const first = await ask<Listing>(options, 'GET', '/v1/servers');
      if (options.names === true) return void process.stdout.write(serverNames(first));
      if (options.rate !== true) return show(first, options, (listing) => listText(listing, options));
      await setTimeout(RATE_MS);
      show(ratesBetween(first, await ask<Listing>(options, 'GET', '/v1/servers')), options, (listing) => listText(listing, options));
    });
  return withExamples(command, {
    'lb4 list': 'what is balanced over what',
    'lb4 list -n --rate': 'by address, with what is carried now',
  });
}

function serverNames({ backends }: Listing): string {
  const names = backends.flatMap((backend) => backend.servers.map((server) => `${backend.name}/${server.name}\n`));
  return [...new Set(names)].join('');
}

/** Totals become what was added in between; it was a second. */
export function ratesBetween(before: Listing, after: Listing): Listing {
  const rates = <Row extends Totals>(row: Row, last: Totals | undefined): Row => ({
    ...row,
    total: since(last?.total, row.total),
    bytes_tx: since(last?.bytes_tx, row.bytes_tx),
    bytes_rx: since(last?.bytes_rx, row.bytes_rx),
  });
  const same = <Row extends { name: string; protocol: string }>(rows: readonly Row[], { name, protocol }: Row) =>
    rows.find((row) => row.name === name && row.protocol === protocol);
  return {
    ...after,
    frontends: after.frontends.map((row) => rates(row, same(before.frontends, row))),
    backends: after.backends.map((row) => {
      const last = same(before.backends, row);
      const servers = row.servers.map((server) =>
        rates(
          server,
          last?.servers.find(({ name, address }) => name === server.name && address === server.address),
        ),
      );
      return { ...rates(row, last), servers };
    }),
  };
}

/** What begins to count in between has counted from 0. */
function since(before = 0, after: number): number {
  return Math.max(0, after - before);
}

const HEADS = {
  totals: ['Active', 'Conns', 'InBytes', 'OutBytes'],
  rates: ['Active', 'CPS', 'InBPS', 'OutBPS'],
} as const;
/** Numbers, from the weight on. */
const RIGHT = new Set([4, 5, 6, 7, 8]);

export function listText({ frontends, backends, mode }: Listing, { numeric, rate }: Pick<ListOptions, 'numeric' | 'rate'>): string {
  const head = ['Prot', 'Frontend', numeric ? 'Balance' : 'Address', 'State', 'Weight', ...HEADS[rate ? 'rates' : 'totals'], 'Remarks'];
  const rows = backends.flatMap((backend) => {
    const own = frontends.filter((frontend) => frontend.backend === backend.name && frontend.protocol === backend.protocol);
    return [
      ...own.map((frontend) => [
        frontend.protocol,
        numeric ? (frontend.address ?? '') : frontend.name,
        numeric ? (backend.balance ?? '') : (frontend.address ?? ''),
        frontend.draining ? 'drain' : 'open',
        '',
        ...numbers(frontend),
        [numeric ? undefined : backend.balance, frontend.silent ? 'silent' : undefined].filter((one) => one !== undefined).join(', '),
      ]),
      ...backend.servers.map((server) => [
        '  ->',
        numeric ? server.address : `${backend.name}/${server.name}`,
        numeric ? '' : server.address,
        server.state,
        weightText(server.weight),
        ...numbers(server),
        remarks(server),
      ]),
    ];
  });
  return `lb4 ${mode}\n${columns([head, ...rows], RIGHT)}`;
}

function numbers({ current, total, bytes_tx, bytes_rx }: Totals): string[] {
  return [current, total, bytes_tx, bytes_rx].map(short);
}

/** A part of it while it starts slowly. */
function weightText(weight: number): string {
  return Number.isInteger(weight) ? String(weight) : weight.toFixed(1);
}

function remarks({ set, backup, damped, silent }: Backend['servers'][number]): string {
  const parts = [
    set?.state === undefined ? undefined : `${set.state} by control`,
    set?.weight === undefined ? undefined : `weight ${set.weight} by control`,
    backup ? 'backup' : undefined,
    damped ? 'held down: it flapped' : undefined,
    silent ? 'silent' : undefined,
  ];
  return parts.filter((part) => part !== undefined).join(', ');
}
