/** A connection that has ended as a line of the connection log. Whatever a name holds, a line is one line, and its fields can be told apart. */

/** A connection, or the flow of a client's datagrams, that has ended. Times in milliseconds since 1970. */
export interface Ended {
  readonly at: number;
  readonly protocol: string;
  /** "IP:PORT"; of a ping an address. */
  readonly client: string;
  /** As the file names it; undefined: nobody knows any more. */
  readonly frontend: string | undefined;
  readonly to: string;
  /** BACKEND/SERVER; undefined: none was reached. */
  readonly server: string | undefined;
  /** Whom the server saw, and where it is. */
  readonly via: string | undefined;
  readonly address: string | undefined;
  /** Undefined: before lb4, or its connection log, was there. */
  readonly beganAt: number | undefined;
  /** From its first packet to its last one; undefined as above. */
  readonly seconds: number | undefined;
  /** Payload bytes; undefined: they do not come by. */
  readonly tx: number | undefined;
  readonly rx: number | undefined;
  readonly end: string;
}

export const FORMATS = ['text', 'json'] as const;
export type Format = (typeof FORMATS)[number];

export type Fields = Readonly<Record<string, string | number | undefined>>;

/** Longer names are cut: a line must fit into a datagram. */
const LONGEST = 200;
/** Control characters, and what else ends a line for some. */
const UNSEEN = /[\p{Cc}\u2028\u2029]/gu;
/** What needs no quotes. */
const PLAIN = /^[^\s"=\\\p{Cc}]+$/u;

/** In the order in which they stand. `time` is left to syslog and journal, which have their own. */
export function fieldsOf(ended: Ended): Fields {
  const { protocol, client, frontend, to, server, via, address, beganAt, seconds, tx, rx, end } = ended;
  const began = beganAt === undefined ? undefined : new Date(beganAt).toISOString();
  return { protocol, client, frontend: cut(frontend), to, server: cut(server), via, address, began, seconds, tx, rx, end };
}

export function timed(at: number, fields: Fields): Fields {
  return { time: new Date(at).toISOString(), ...fields };
}

/** `key=value` or `{"key":value}`; what is not known is `-`, or null. */
export function render(fields: Fields, format: Format): string {
  if (format === 'json') return seen(JSON.stringify(fields, (_, value: unknown) => (value === undefined ? null : value)));
  return Object.entries(fields)
    .map(([key, value]) => `${key}=${value === undefined ? '-' : plain(String(value))}`)
    .join(' ');
}

/**
 * An entry of the journal, as its socket takes it (systemd.io, Native Journal Protocol): the fields, and for people the same as text. Unknown ones
 * are left out.
 */
export function journalEntry(fields: Fields): string {
  const own = Object.entries(fields).flatMap(([key, value]) => {
    return value === undefined ? [] : [`LB4_${key.toUpperCase()}=${String(value).replaceAll(UNSEEN, escaped)}\n`];
  });
  return `PRIORITY=6\nSYSLOG_IDENTIFIER=lb4\nMESSAGE=${render(fields, 'text')}\n${own.join('')}`;
}

function plain(text: string): string {
  return PLAIN.test(text) && text !== '-' ? text : seen(JSON.stringify(text));
}

function seen(json: string): string {
  return json.replaceAll(UNSEEN, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

function cut(name: string | undefined): string | undefined {
  return name !== undefined && name.length > LONGEST ? `${name.slice(0, LONGEST)}…` : name;
}
