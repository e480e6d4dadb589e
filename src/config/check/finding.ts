/** What the checks find, before it is known in which file. */
import { type Mistake, type Position, quote } from '../../errors.ts';
import { formatPath, type TomlNode } from '../read/toml.ts';

/** A mistake before its file is known. */
export interface Finding {
  readonly severity: Mistake['severity'];
  readonly path: readonly PropertyKey[];
  readonly position: Position;
  readonly message: string;
}

/** Makes the line of the report that a finding becomes. */
export function mistakeOf(finding: Finding, file: string): Mistake {
  return { ...finding, path: formatPath(finding.path), file: finding.position.file ?? file };
}

/** A finding of severity "error" about a value. */
export function error(node: TomlNode, path: Finding['path'], message: string): Finding {
  return { severity: 'error', path, position: node.at, message };
}

/** A finding of severity "warning" about a key. */
export function warning(node: TomlNode, path: Finding['path'], message: string): Finding {
  return { severity: 'warning', path, position: node.keyAt, message };
}

/** A value as TOML would have it, cut where it is long. */
export function show(value: unknown): string {
  if (typeof value !== 'string') return value instanceof Date ? '' : String(value);
  return quote(value);
}
