/** Orders that anybody could give, or nobody. */
import { isLoopback, joinPort, readAddress } from '../address.ts';
import { nodeAt, plainValue, type TomlNode } from '../read/toml.ts';
import { error, type Finding, warning } from './finding.ts';

export function controlFindings(root: TomlNode): Finding[] {
  const table = nodeAt(root, ['control']);
  if (table?.kind !== 'table') return [];
  const at = (key: string) => table.children.get(key);
  const findings: Finding[] = [];
  const [address, token, file, group] = ['address', 'token', 'token_file', 'group'].map(at);
  const dashboard = at('dashboard');
  const isWritten = dashboard !== undefined && plainValue(dashboard) === 'write';
  if (address !== undefined && token === undefined && file === undefined)
    findings.push(error(address, ['control', 'address'], 'without a token anybody could give orders there; needed: token, or token_file'));
  const secret = token ?? file;
  if (isWritten) findings.push(...dashboardFindings(root, table, dashboard, secret));
  if (address === undefined && !isWritten && secret !== undefined)
    findings.push(
      warning(secret, ['control', token === undefined ? 'token_file' : 'token'], 'has no effect without address, or dashboard = "write"'),
    );
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

function dashboardFindings(root: TomlNode, table: TomlNode, dashboard: TomlNode, secret: TomlNode | undefined): Finding[] {
  const path = ['control', 'dashboard'];
  if (secret === undefined)
    return [error(dashboard, path, 'without a token anybody could give orders from there; needed: token, or token_file')];
  const enabled = table.children.get('enabled');
  if (enabled !== undefined && plainValue(enabled) === false) return [warning(dashboard, path, 'has no effect with enabled = false')];
  if (nodeAt(root, ['stats']) === undefined) return [warning(dashboard, path, 'has no effect without [stats], where the dashboard is')];
  const address = nodeAt(root, ['stats', 'address']);
  // With a key of lb4's own, as this is, the address that nobody writes is 127.0.0.1. What is none is the schema's.
  const there = typeof address?.value === 'string' ? readAddress(joinPort(address.value, 1)) : undefined;
  if (address === undefined || there === undefined || 'problem' in there || isLoopback(there)) return [];
  const beyond = `the token goes over the wire in the clear, to ${address.value as string}: whoever reads along can give orders; needed: [stats] address`;
  return [warning(dashboard, path, `${beyond} = "127.0.0.1", and ssh -L or a proxy with TLS before it`)];
}
