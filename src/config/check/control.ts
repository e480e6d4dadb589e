/** Orders that anybody could give, or nobody. */
import { nodeAt, type TomlNode } from '../read/toml.ts';
import { error, type Finding, warning } from './finding.ts';

export function controlFindings(root: TomlNode): Finding[] {
  const table = nodeAt(root, ['control']);
  if (table?.kind !== 'table') return [];
  const at = (key: string) => table.children.get(key);
  const findings: Finding[] = [];
  const [address, token, file, group] = ['address', 'token', 'token_file', 'group'].map(at);
  if (address !== undefined && token === undefined && file === undefined)
    findings.push(error(address, ['control', 'address'], 'without a token anybody could give orders there; needed: token, or token_file'));
  const secret = token ?? file;
  if (address === undefined && secret !== undefined)
    findings.push(warning(secret, ['control', token === undefined ? 'token_file' : 'token'], 'has no effect without address'));
  if (group !== undefined && at('path') === undefined)
    findings.push(
      error(
        group,
        ['control', 'group'],
        'the default socket is in a directory of root alone; needed: path, "/run/lb4-control/control.sock"',
      ),
    );
  return findings;
}
