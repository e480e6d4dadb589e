/** Tells the fast path's programs at which interfaces they stand (layout/links.ts). */
import { PLACES, PROBES } from '../layout/links.ts';
import { type Interface, native } from './native.ts';

/** `struct link` of native/bpf/links.h: index, address, whether it is virtual, takes redirected frames, has tc, has clients. No interface has index 0. */
const BYTES = 16;
const ADDRESS = 4;
const IS_VIRTUAL = 10;
const TAKES_REDIRECTED = 11;
const HAS_TC = 12;
const IS_FRONT = 13;

export class XdpLinks {
  readonly #map: number;
  /** By the interface's index. */
  readonly #places = new Map<number, number>();

  /** @param map its descriptor */
  constructor(map: number) {
    this.#map = map;
  }

  /**
   * It stands there, or goes on to.
   * @param takes whether the interface takes redirected frames
   * @param hasTc whether tc stands there, and whether clients come by it, which is asked only between interfaces
   * @throws Error where others whose index has about the same lower bits have all places
   */
  set({ index, mac, kind }: Pick<Interface, 'index' | 'mac' | 'kind'>, takes: boolean, hasTc = false, isFront = false): void {
    const place = this.#places.get(index) ?? this.#free(index);
    if (place === undefined) throw new Error(`${PROBES} others have the places of interface ${index}`);
    const element = new Uint8Array(BYTES);
    new Uint32Array(element.buffer)[0] = index;
    element.set(mac, ADDRESS);
    element[IS_VIRTUAL] = Number(kind !== '');
    element[TAKES_REDIRECTED] = Number(takes);
    element[HAS_TC] = Number(hasTc);
    element[IS_FRONT] = Number(isFront);
    native().setElement(this.#map, place, element);
    this.#places.set(index, place);
  }

  /** It stands there no more. */
  delete(index: number): void {
    const place = this.#places.get(index);
    if (place === undefined) return;
    native().setElement(this.#map, place, new Uint8Array(BYTES));
    this.#places.delete(index);
  }

  #free(index: number): number | undefined {
    const taken = new Set(this.#places.values());
    return Array.from({ length: PROBES }, (_, i) => (index + i) % PLACES).find((place) => !taken.has(place));
  }
}
