/**
 * What operators have set at run time, by backend and server as the file names them. It survives a reload unless the file names something
 * else for that server, and ends with the process: nobody writes it down.
 */
import type { Backend, Config, Server, ServerTemplate } from '../config/model.ts';

export interface Setting {
  /** `drain`: as of weight 0; `down`: as a server that has failed. */
  readonly state?: 'drain' | 'down' | undefined;
  /** In place of the file's. */
  readonly weight?: number | undefined;
}

/** What is asked for: `ready` takes a state back, the file's own weight a weight. */
export interface Patch {
  readonly state?: 'ready' | 'drain' | 'down' | undefined;
  readonly weight?: number | undefined;
}

export interface SetServer {
  /** As the file has it. */
  readonly backend: string;
  readonly server: string;
  readonly setting: Setting;
}

interface Entry extends SetServer {
  /** Whose it is: a name that moves to another address is another server. */
  readonly address: string;
  /** What the file said when it was set. */
  readonly fileWeight: number;
}

/** What a reload takes away, and why. */
export interface Forgotten {
  readonly server: string;
  readonly reason: string;
}

export class RuntimeSettings {
  #entries: ReadonlyMap<string, Entry> = new Map();

  get all(): readonly SetServer[] {
    return [...this.#entries.values()];
  }

  /** Of a server that is there, or that has left the file and drains; undefined: nothing. */
  of(backend: Backend, server: Server): Setting | undefined {
    const entry = this.#entries.get(keyOf(backend.label ?? backend.name, server.name));
    return entry?.address === server.addr.text ? entry.setting : undefined;
  }

  /** Returns what takes it back. */
  set(backend: Backend, server: Server, { state, weight }: Patch): () => void {
    const before = this.#entries;
    const last = this.of(backend, server);
    const setting: Setting = {
      state: state === 'ready' ? undefined : (state ?? last?.state),
      weight: weight === server.weight ? undefined : (weight ?? last?.weight),
    };
    const label = backend.label ?? backend.name;
    const entries = new Map(before);
    if (setting.state === undefined && setting.weight === undefined) entries.delete(keyOf(label, server.name));
    else
      entries.set(keyOf(label, server.name), {
        backend: label,
        server: server.name,
        address: server.addr.text,
        fileWeight: templateOf(backend.templates ?? [], server.name)?.weight ?? server.weight,
        setting,
      });
    this.#entries = entries;
    return () => (this.#entries = before);
  }

  /** Keeps what the file does not name otherwise: a weight for as long as its own `weight` stays, all of it while the server keeps its `addr`. */
  follow({ backends }: Pick<Config, 'backends'>): { readonly forgotten: readonly Forgotten[]; readonly takeBack: () => void } {
    const before = this.#entries;
    const here = new Map(
      backends.flatMap(({ name, label = name, servers, templates = [] }) =>
        servers.map((server) => {
          const template = templateOf(templates, server.name);
          return [keyOf(label, server.name), template === undefined ? server : { ...server, weight: template.weight }] as const;
        }),
      ),
    );
    const templates = new Map(backends.map(({ name, label = name, templates: own = [] }) => [label, own]));
    const forgotten: Forgotten[] = [];
    const entries = new Map<string, Entry>();
    for (const [key, entry] of before) {
      const server = here.get(key);
      // Who is not found just now may be again in a second, and must not come back into service by that.
      if (server === undefined && templateOf(templates.get(entry.backend) ?? [], entry.server) !== undefined) {
        entries.set(key, entry);
        continue;
      }
      const kept = entry.setting.weight !== undefined && server?.weight !== entry.fileWeight ? withoutWeight(entry) : entry;
      const reason = reasonOf(entry, server, kept);
      if (reason !== undefined) forgotten.push({ server: `${entry.backend}/${entry.server}`, reason });
      if (server?.addr.text === entry.address && kept !== undefined) entries.set(key, { ...kept, fileWeight: server.weight });
    }
    this.#entries = entries;
    return { forgotten, takeBack: () => (this.#entries = before) };
  }
}

/** Of a server that was found; what its answer gives it as weight is not the file's. */
function templateOf(templates: readonly ServerTemplate[], server: string): ServerTemplate | undefined {
  return templates.find(({ name }) => server.startsWith(`${name}@`));
}

/** As people read it: `drain, weight 5`. */
export function settingText({ state, weight }: Setting): string {
  return [state, weight === undefined ? undefined : `weight ${weight}`].filter((part) => part !== undefined).join(', ');
}

function withoutWeight({ setting: { state }, ...entry }: Entry): Entry | undefined {
  return state === undefined ? undefined : { ...entry, setting: { state } };
}

function reasonOf(entry: Entry, server: Server | undefined, kept: Entry | undefined): string | undefined {
  if (server === undefined) return 'it has left the file';
  if (server.addr.text !== entry.address) return `the file has another addr, ${server.addr.text}`;
  return kept === entry ? undefined : `the file has another weight, ${server.weight}`;
}

function keyOf(backend: string, server: string): string {
  return JSON.stringify([backend, server]);
}
