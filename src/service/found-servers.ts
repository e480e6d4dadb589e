/** Servers that the file names without an address: the configuration as it is with those that were found by now. */
import { familyAndPort, isAny, isLoopback } from '../config/address.ts';
import type { Address, Backend, Config, Finder } from '../config/model.ts';
import { isPacketMode, MODES, type Mode } from '../config/modes.ts';
import { type Answers, answersIn } from '../discovery/answer.ts';
import { Discovery } from '../discovery/discovery.ts';
import { expand, type Refuse } from '../discovery/expand.ts';
import { messageOf } from '../errors.ts';
import { readProxyNote, removeProxyNote, writeProxyNote } from '../io/proxy-note.ts';
import type { Logger } from '../log.ts';
import { isOwn } from './host.ts';
import { KeptNote, readNote } from './kept-note.ts';

/** A start waits so long for first answers, and goes on without; … */
const START_MS = 4000;
/** … a reload not as long, for no other change is made meanwhile: what comes later is a change of its own. */
const RELOAD_MS = 500;
/** Where a change could not be made: so long until the next try. */
const RETRY_MS = 1000;

export class FoundServers {
  readonly #mode: Mode;
  readonly #file: string;
  readonly #log: Pick<Logger, 'info' | 'warn'>;
  readonly #discovery: Discovery;
  readonly #note: KeptNote;
  /** Called when there are others than before. */
  #changed: () => void = () => (this.#isDue = true);
  /** There have been, before anybody was to be called. */
  #isDue = false;
  #told: ReadonlySet<string> = new Set();
  #retry: NodeJS.Timeout | undefined;

  /** @param file the configuration's: in proxy mode there may be many lb4, each with its own */
  constructor(mode: Mode, file: string, log: Pick<Logger, 'info' | 'warn'>) {
    this.#mode = mode;
    this.#file = file;
    this.#log = log;
    this.#discovery = new Discovery({ families: isPacketMode(mode) ? [4] : [4, 6], changed: () => this.#changed(), log });
    const write = isPacketMode(mode) ? undefined : (_name: string, text: string) => writeProxyNote(file, text);
    this.#note = new KeptNote('found', log, write);
  }

  /** Finders whose last look-up failed. */
  get failing(): number {
    return this.#discovery.failing;
  }

  /** Asks for what `written`, as the file has it, needs; where there is no answer within a few seconds it goes by those of an lb4 that died or was restarted. */
  async start(written: Config): Promise<Config> {
    this.#discovery.seed(this.#lastAnswers());
    await this.#discovery.follow(written, START_MS);
    return this.expand(written);
  }

  /** The same for another file; where there is no answer at once, it goes by the last ones. */
  async follow(written: Config): Promise<Config> {
    await this.#discovery.follow(written, RELOAD_MS);
    return this.expand(written);
  }

  /** `written` with the servers that are known now. Says once which of them cannot be servers. */
  expand(written: Config): Config {
    const { config, left } = expand(written, (finder) => this.#discovery.answer(finder, written), refusal(written, this.#mode));
    for (const line of left) if (!this.#told.has(line)) this.#log.warn(`a server that was found is left out: ${line}`);
    this.#told = new Set(left);
    return config;
  }

  /** From now on `changed` is called for each change, and the next lb4 finds what this one has. */
  begin(changed: () => void): void {
    this.#changed = () => {
      this.#keep();
      changed();
    };
    if (this.#isDue) this.#changed();
    else this.#keep();
  }

  /** The last change could not be made. */
  again(): void {
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#changed(), RETRY_MS);
  }

  stop(): void {
    this.#changed = () => {};
    clearTimeout(this.#retry);
    this.#discovery.stop();
  }

  #keep(): void {
    const answers = this.#discovery.answers();
    if (answers.length > 0) this.#note.write(JSON.stringify(answers));
  }

  /** In proxy mode nothing is left to the next lb4: this one was stopped. What a packet path keeps it takes away itself. Never throws. */
  forget(): void {
    if (isPacketMode(this.#mode)) return;
    try {
      removeProxyNote(this.#file);
    } catch (error) {
      this.#log.warn({ reason: messageOf(error) }, 'which servers were found is still written down');
    }
  }

  /** Nobody vouches for what stands there: what is no good is as if it were not there. */
  #lastAnswers(): Answers {
    const text = this.#lastNote();
    try {
      return text === undefined ? [] : answersIn(text);
    } catch (error) {
      this.#log.warn({ reason: messageOf(error) }, 'which servers were found before cannot be told: they are asked for anew');
      return [];
    }
  }

  #lastNote(): string | undefined {
    try {
      return isPacketMode(this.#mode) ? readNote('found') : readProxyNote(this.#file);
    } catch {
      return undefined;
    }
  }
}

/** The configuration with the servers that are found right now, for commands. */
export async function withFound(written: Config, mode: Mode, warn: (message: string) => void): Promise<Config> {
  const say = (fields: unknown, message?: string) => warn(message === undefined ? String(fields) : `${message} ${JSON.stringify(fields)}`);
  const found = new FoundServers(mode, written.file, { info: () => {}, warn: say });
  try {
    return await found.start(written);
  } finally {
    found.stop();
  }
}

/** What no file may have either (config/check/own.ts), of addresses that no file has. */
function refusal({ frontends }: Config, mode: Mode): Refuse {
  return (addr, backend, { finder }) => {
    if (isPacketMode(mode) && addr.family !== 4) return 'is no IPv4 address';
    const isHere = isLoopback(addr) || isOwn(addr);
    if (isPacketMode(mode) && MODES[mode].ownsAddresses && isHere)
      return 'is an address of this host, whose packets no packet mode can balance';
    // Or whoever answers for a name could show clients what listens here for this host alone.
    if (isLoopback(addr) && !mayBeLoopback(finder)) return 'is a loopback address, and the DNS gives none of this host';
    const own = frontends.find((frontend) => sameProtocol(frontend.backend, backend) && leadsTo(frontend.listen, addr, isHere));
    return own === undefined ? undefined : `leads back to frontend ${JSON.stringify(own.name)}`;
  };
}

/** The file's own words, or a name that stands for nothing else (RFC 6761, 6.3). */
function mayBeLoopback(finder: Finder): boolean {
  return finder.kind === 'exec' || (finder.kind === 'name' && /(?:^|\.)localhost\.?$/i.test(finder.host));
}

function sameProtocol(a: Backend, b: Backend): boolean {
  return a.protocol.number === b.protocol.number;
}

function leadsTo(listen: Address, addr: Address, isHere: boolean): boolean {
  return listen.text === addr.text || (isHere && isAny(listen) && familyAndPort(listen) === familyAndPort(addr));
}
