/** Programs in the file, of checks or to find servers, that this host cannot run. */
import { accessSync, constants, statSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { type Finding, show } from './finding.ts';
import { tables } from './places.ts';

/**
 * A warning for each program, given by its absolute path, that is missing here or not executable: no error, since the file may be
 * meant for another host. Asks the file system, which may have to wait for a network: not for a running lb4.
 */
export function programFindings(root: TomlNode): Finding[] {
  return [...tables(root, 'backends'), ...tables(root, 'fan_out')].flatMap(({ path, node }): Finding[] => {
    const servers = tables(root, ...path, 'servers');
    return [
      findings(node, [...path, 'health_check_command']),
      ...servers.map((server) => findings(server.node, [...server.path, 'exec'])),
    ].flat();
  });
}

/** @param path of a program and its arguments; the last of its words is their key in `table` */
function findings(table: TomlNode, path: readonly string[]): Finding[] {
  const program = nodeAt(table, [path.at(-1) ?? '', 0]);
  if (typeof program?.value !== 'string' || !isAbsolute(program.value)) return [];
  const problem = problemOf(program.value);
  if (problem === undefined) return [];
  return [{ severity: 'warning', path: [...path, 0], position: program.at, message: `${show(program.value)} ${problem}` }];
}

function problemOf(program: string): string | undefined {
  try {
    if (!statSync(program).isFile()) return 'is not a program';
    accessSync(program, constants.X_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES' ? 'is not executable here' : 'does not exist here';
  }
}
