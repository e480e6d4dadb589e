/**
 * Adds one to a load that threads share, and tells whether it did: never past `limit`, exactly, however many try at a time.
 * @param limit 0: none
 * @param seen what it must be: somebody's choice between a look at it and this makes that look void. -1: whatever it is
 */
export function reserve(loads: Int32Array, element: number, limit: number, seen = -1): boolean {
  let load = Atomics.load(loads, element);
  while ((limit === 0 || load < limit) && (seen < 0 || load === seen)) {
    const found = Atomics.compareExchange(loads, element, load, load + 1);
    if (found === load) return true;
    load = found;
  }
  return false;
}
