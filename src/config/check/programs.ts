/** Health check commands that this host cannot run. */
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
  return tables(root, 'backends').flatMap(({ path, node }): Finding[] => {
    const program = nodeAt(node, ['health_check_command', 0]);
    if (typeof program?.value !== 'string' || !isAbsolute(program.value)) return [];
    const problem = problemOf(program.value);
    if (problem === undefined) return [];
    const message = `${show(program.value)} ${problem}`;
    return [{ severity: 'warning', path: [...path, 'health_check_command', 0], position: program.at, message }];
  });
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
