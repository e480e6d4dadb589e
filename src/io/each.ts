/** Does it to each, also where it fails for one. Throws the first error, at the end. */
export function eachOf<T>(items: Iterable<T>, act: (item: T) => void): void {
  const failed: unknown[] = [];
  for (const item of items) {
    try {
      act(item);
    } catch (error) {
      failed.push(error);
    }
  }
  if (failed.length > 0) throw failed[0];
}
