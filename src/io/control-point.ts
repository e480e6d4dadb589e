/** Where a running lb4 takes orders unless its configuration says otherwise. */

/** Of this process's user; undefined: it has no such directory. */
export function defaultControlPath(): string | undefined {
  const home = process.geteuid?.() === 0 ? '/run' : process.env['XDG_RUNTIME_DIR'];
  return home === undefined ? undefined : `${home}/lb4/control.sock`;
}
