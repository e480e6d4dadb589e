/**
 * Every error that lb4 itself raises: a class, a stable `code` and the exit status of a process that ends on it.
 * docs/errors.md explains each code to the person who meets it; a unit test holds the two lists together.
 */

/**
 * Exit statuses. 3 and 4 are those of systemctl for what does not run and for a name that there is not, 124 is timeout(1)'s. 69, 71, 75, 77 and 78 are EX_UNAVAILABLE, EX_OSERR, EX_TEMPFAIL, EX_NOPERM and EX_CONFIG of sysexits(3). bin/lb4 ends
 * with 71, too.
 */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  absent: 3,
  unknown: 4,
  refused: 5,
  unavailable: 69,
  resources: 71,
  takeover: 75,
  missing: 77,
  config: 78,
  timeout: 124,
} as const;

/** The common parent: `message` is written for a terminal, without a stack trace. */
export class Lb4Error extends Error {
  readonly code: string = 'LB4_FAILURE';
  readonly exitCode: number = EXIT.failure;
  override get name(): string {
    return this.constructor.name;
  }
}

/** Something went wrong at run time that no other class names; `cause` says what. */
export class FailureError extends Lb4Error {}

/** The native addon is missing or does not load. */
export class NativeAddonError extends Lb4Error {
  override readonly code = 'LB4_NATIVE_ADDON';
}

/** What an error of loading the addon comes to; undefined for others. */
export function addonError(error: unknown): NativeAddonError | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ERR_NATIVE_ADDON' ? new NativeAddonError(error.message, { cause: error }) : undefined;
}

/** A wrong command line or environment variable. */
export class UsageError extends Lb4Error {
  override readonly code = 'LB4_USAGE';
  override readonly exitCode = EXIT.usage;
}

/** No lb4 runs that could be asked; the message says where one was looked for. */
export class AbsentError extends Lb4Error {
  override readonly code = 'LB4_ABSENT';
  override readonly exitCode = EXIT.absent;
}

/** A running lb4 knows no server or frontend of that name; the message has the nearest. */
export class UnknownNameError extends Lb4Error {
  override readonly code = 'LB4_UNKNOWN_NAME';
  override readonly exitCode = EXIT.unknown;
}

/** A running lb4 does not carry out an order; the message says why. */
export class RefusedError extends Lb4Error {
  override readonly code = 'LB4_REFUSED';
  override readonly exitCode = EXIT.refused;
}

/** What was waited for has not happened in time. */
export class TimeoutError extends Lb4Error {
  override readonly code = 'LB4_TIMEOUT';
  override readonly exitCode = EXIT.timeout;
}

/** Nothing can be taken over; whoever runs goes on. */
export class TakeoverError extends Lb4Error {
  override readonly code = 'LB4_TAKEOVER';
  override readonly exitCode = EXIT.takeover;
}

/** The process may not do what the mode needs; the message names the privilege (CAP_NET_RAW …). */
export class PrivilegeError extends Lb4Error {
  override readonly code = 'LB4_PRIVILEGE';
  override readonly exitCode = EXIT.missing;
}

/** The process may not have as much of something (open files, threads, memory) as it needs; the message names the limit. */
export class ResourceError extends Lb4Error {
  override readonly code = 'LB4_RESOURCES';
  override readonly exitCode = EXIT.resources;
}

const MORE = {
  EMFILE: 'this process may not open more files: raise `ulimit -Hn`, or LimitNOFILE in the systemd unit',
  ENFILE: 'this host may not open more files: raise it with `sysctl -w fs.file-max=…`',
  EAGAIN: 'no further thread or process may be started: raise `ulimit -Hu`, or TasksMax in the systemd unit',
  ENOMEM: 'there is not enough memory, or not enough is allowed: see `free`, `ulimit -a`, and MemoryMax in the systemd unit',
} as const;

/** What a system's error that wants more of something comes to; undefined for others. */
export function resourceError(error: unknown): ResourceError | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code = '' } = error as NodeJS.ErrnoException;
  // Node's own: a worker thread that cannot be started, or has no memory.
  const means = code === 'ERR_WORKER_INIT_FAILED' ? 'EAGAIN' : code === 'ERR_WORKER_OUT_OF_MEMORY' ? 'ENOMEM' : code;
  return means in MORE ? new ResourceError(`${error.message}: ${MORE[means as keyof typeof MORE]}`, { cause: error }) : undefined;
}

/** `io = "pcap"`, and one of the npm packages for it is not installed or does not load; the message says what to install. */
export class PcapPackagesError extends Lb4Error {
  override readonly code = 'LB4_PCAP_PACKAGES';
  override readonly exitCode = EXIT.unavailable;
}

/** The running kernel lacks something; the message names it (act_nat, CONFIG_PACKET …). */
export class KernelFeatureError extends Lb4Error {
  override readonly code = 'LB4_KERNEL_FEATURE';
  override readonly exitCode = EXIT.missing;
}

/** `fast_path` asks for what this host or this build has not; the message says what that is. */
export class FastPathError extends Lb4Error {
  override readonly code = 'LB4_FAST_PATH';
  override readonly exitCode = EXIT.missing;
}

/** The file is well formed, yet this host has no such address; the message lists the interfaces and their addresses. */
export class ListenAddressError extends Lb4Error {
  override readonly code = 'LB4_LISTEN_ADDRESS';
  override readonly exitCode = EXIT.config;
}

/** Line and column count from 1; columns count UTF-16 units, as editors do. */
export interface Position {
  readonly line: number;
  readonly column: number;
  /** Where it is another one than the file that is read. */
  readonly file?: string;
}

/** One thing to mend in a configuration file. A warning does not stop lb4. */
export interface Mistake {
  readonly severity: 'error' | 'warning';
  readonly file: string;
  /** Undefined where the file as a whole is meant: it cannot be read. */
  readonly position: Position | undefined;
  /** Dotted key path, `backends.web.servers.a.addr`; empty where no key is meant. */
  readonly path: string;
  readonly message: string;
}

/** One line: `lb4.toml:12:9: frontends.web.listen_addr: "foo:80" is a hostname; allowed: …`. */
export function formatMistake(mistake: Mistake): string {
  const { file, position, path, message } = mistake;
  const where = position === undefined ? file : `${file}:${position.line}:${position.column}`;
  const severity = mistake.severity === 'warning' ? 'warning: ' : '';
  return `${where}: ${severity}${path === '' ? '' : `${path}: `}${message}`;
}

/** A configuration that lb4 refuses. The message has one line for every mistake and warning, in the file's order. */
export class ConfigError extends Lb4Error {
  override readonly code = 'LB4_CONFIG';
  override readonly exitCode = EXIT.config;
  /** Errors and warnings; at least one is an error. */
  readonly mistakes: readonly Mistake[];

  constructor(mistakes: readonly Mistake[], options?: ErrorOptions) {
    super(mistakes.map(formatMistake).join('\n'), options);
    this.mistakes = mistakes;
  }
}

/** What is longer than this nobody reads in a message. */
const QUOTED_CHARACTERS = 60;

/** Text of somebody's file in quotes, for a terminal: cut where it is long, and no character of it controls anything. */
export function quote(text: string): string {
  const whole = JSON.stringify(text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}…` : text);
  return whole.replaceAll(/[\x7f-\x9f]/g, (one) => `\\u00${one.charCodeAt(0).toString(16)}`);
}

/** An error's message; of what is thrown and no Error, its text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
