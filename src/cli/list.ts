/** `lb4 list`: frontends and their servers in a table, as ipvsadm has them. */
import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Listing } from '../control/listing.ts';
import { columns, short } from './columns.ts';
import { type Asked, ask, askingCommand, show } from './control-client.ts';
import { withExamples } from './manual.ts';
import { ratesBetween } from './rates.ts';

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
      show(ratesBetween(first, await ask<Listing>(options, 'GET', '/v1/servers'), RATE_MS / 1000), options, (listing) =>
        listText(listing, options),
      );
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
        [numeric ? undefined : backend.balance, frontend.silent ? 'silent' : undefined, ...frontend.refusals.flatMap(refusalText)]
          .filter((one) => one !== undefined)
          .join(', '),
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

/** What a rule about its clients has done, if anything. */
function refusalText({ rule, refused, would_refuse: wouldRefuse }: Listing['frontends'][number]['refusals'][number]): string[] {
  const counts = [
    { count: refused, words: 'refused by' },
    { count: wouldRefuse, words: 'would be refused by' },
  ];
  return counts.filter(({ count }) => count > 0).map(({ count, words }) => `${short(count)} ${words} ${rule}`);
}

function numbers({ current, total, bytes_tx, bytes_rx }: Totals): string[] {
  return [current, total, bytes_tx, bytes_rx].map(short);
}

/** A part of it while it starts slowly. */
export function weightText(weight: number): string {
  return Number.isInteger(weight) ? String(weight) : weight.toFixed(1);
}

/** What an operator should know of a server beside its state. */
export function remarks({ set, backup, damped, silent, dead_ends: deadEnds }: Backend['servers'][number]): string {
  const parts = [
    set?.state === undefined ? undefined : `${set.state} by control`,
    set?.weight === undefined ? undefined : `weight ${set.weight} by control`,
    backup ? 'backup' : undefined,
    damped ? 'held down: it flapped' : undefined,
    silent ? 'silent' : undefined,
    deadEnds > 0 ? 'no way' : undefined,
  ];
  return parts.filter((part) => part !== undefined).join(', ');
}
