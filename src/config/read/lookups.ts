/** How the kernel finds a file: name by name, each in a directory, through every symbolic link (path_resolution(7)). */
import { readlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** As many links as the kernel follows before it gives up with ELOOP. */
const MOST_LINKS = 40;

/**
 * Walks from the root to the file at `path` and tells each name and the directory where it is looked up, which has no link in
 * its own path. `visit` comes before the name is read, so that one who begins to watch there misses no change of it. Names that
 * do not exist are told, too, and those below them.
 */
export function eachLookup(path: string, visit: (directory: string, name: string) => void): void {
  // Not path.resolve(): it takes `link/..` for nothing, the kernel for the parent of where the link leads.
  const names = (path.startsWith('/') ? path : `${process.cwd()}/${path}`).split('/');
  let directory = '/';
  let links = 0;
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (name === '..') directory = dirname(directory);
    if (name === '' || name === '.' || name === '..') continue;
    visit(directory, name);
    const target = linkTarget(join(directory, name));
    if (target === undefined) {
      directory = join(directory, name);
      continue;
    }
    if (++links > MOST_LINKS) return;
    if (target.startsWith('/')) directory = '/';
    names.unshift(...target.split('/'));
  }
}

function linkTarget(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
