/** contrib/: alerts and the dashboard name metrics that there are, with labels that these have. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { FAMILIES } from '../../src/control/families.ts';

const at = (name: string) => fileURLToPath(new URL(`../../contrib/${name}`, import.meta.url));
const RULES = at('prometheus/lb4.rules.yml');
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
}
interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly query: string | { readonly query: string } }[] };
  readonly annotations: { readonly list: readonly { readonly expr: string }[] };
}

const dashboard = JSON.parse(readFileSync(at('grafana/lb4.json'), 'utf8')) as Dashboard;
const targets = dashboard.panels.flatMap((panel) => panel.targets ?? []);
const rules = readFileSync(RULES, 'utf8');
const queries = {
  alerts: [...rules.matchAll(/expr: (.*)/g)].map(([, expr = '']) => expr),
  dashboard: [...targets, ...dashboard.annotations.list].map(({ expr }) => expr),
};

/** What Prometheus itself adds. */
const OF_PROMETHEUS = ['instance', 'job'];
const families = new Map(FAMILIES.map(({ name, labels, type }) => [name, { labels, type }]));
const namesIn = (text: string) => [...text.matchAll(/lb4_\w+/g)].map(([name]) => name);

describe.each(Object.entries(queries))('the queries of %s', (_, list) => {
  test('name metrics that there are', () => {
    expect(list.length).toBeGreaterThan(10);
    expect(list.flatMap(namesIn).filter((name) => !families.has(name))).toEqual([]);
  });

  test('group and select by labels that these have, and take the rate of counters alone', () => {
    for (const query of list) {
      const labels = namesIn(query).flatMap((name) => families.get(name)?.labels ?? []);
      const used = [...query.matchAll(/by \(([^)]*)\)/g)].flatMap(([, names = '']) => names.split(', '));
      const selected = [...query.matchAll(/(\w+)=~?"/g)].map(([, name = '']) => name);
      const strange = [...used, ...selected].filter((label) => !labels.includes(label) && !OF_PROMETHEUS.includes(label));
      expect(strange, query).toEqual([]);
      for (const [, name = ''] of query.matchAll(/(?:rate|increase) ?\((lb4_\w+)/g))
        expect(families.get(name)?.type, query).toBe('counter');
    }
  });
});

test('texts of alerts and legends name labels that their query leaves', () => {
  for (const { expr, legendFormat } of targets) {
    const labels = [...OF_PROMETHEUS, ...namesIn(expr).flatMap((name) => families.get(name)?.labels ?? [])];
    for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) expect(labels, expr).toContain(label);
  }
  for (const alert of rules.split('- alert: ').slice(1)) {
    const labels = [...OF_PROMETHEUS, ...namesIn(alert).flatMap((name) => families.get(name)?.labels ?? [])];
    for (const [, label = ''] of alert.matchAll(/\$labels\.(\w+)/g)) expect(labels, alert).toContain(label);
  }
});

test('what is of one protocol is not added up with another one, and texts say of which it is', () => {
  const isOfOne = (text: string) => namesIn(text).some((name) => families.get(name)?.labels.includes('protocol'));
  for (const query of Object.values(queries).flat().filter(isOfOne))
    for (const [, names = ''] of query.matchAll(/by \(([^)]*)\)/g)) expect(names.split(', '), query).toContain('protocol');
  for (const { expr, legendFormat } of targets)
    if (isOfOne(expr) && legendFormat !== '') expect(legendFormat, expr).toContain('{{protocol}}');
  for (const alert of rules.split('- alert: ').slice(1)) if (isOfOne(alert)) expect(alert).toContain('{{ $labels.protocol }}');
});

test('variables of the dashboard are asked of metrics that there are', () => {
  const asked = dashboard.templating.list.map(({ query }) => (typeof query === 'string' ? query : query.query));
  expect(asked.flatMap(namesIn).filter((name) => !families.has(name))).toEqual([]);
});

test('panels have numbers of their own and do not cover each other', () => {
  const { panels } = dashboard;
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)} ${y + Math.floor(i / w)}`),
  );
  expect(new Set(cells).size).toBe(cells.length);
});

describe.skipIf(!hasPromtool)(`promtool${hasPromtool ? '' : ' is not installed (scripts/install-deps.sh test)'}`, () => {
  const check = (file: string) => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' });
    return { status, said: stdout + stderr };
  };

  test('takes the alerts', () => expect(check(RULES)).toMatchObject({ status: 0, said: expect.stringContaining('SUCCESS') as string }));

  test('alerts of a SYN flood that lb4 holds: what must come twice, no handshake that makes way', () => {
    const directory = mkdtempSync(join(tmpdir(), 'lb4-contrib-'));
    try {
      const file = join(directory, 'flood.yml');
      const alerts = (eval_time: string, exp_alerts: object[]) => ({ eval_time, alertname: 'Lb4SynFlood', exp_alerts });
      const [, summary = ''] = /Lb4SynFlood[^]*?summary: "([^"]*)"/.exec(rules) ?? [];
      const instance = 'a';
      const firing = {
        exp_labels: { severity: 'warning', instance },
        exp_annotations: { summary: summary.replace('{{ $labels.instance }}', instance) },
      };
      const series = (name: string, values: string) => ({ series: `${name}{instance="${instance}"}`, values });
      const input_series = [series('lb4_syn_floods', '0x4 1x4'), series('lb4_half_open_evicted_total', '0x9')];
      const tests = [{ interval: '1m', input_series, alert_rule_test: [alerts('4m', []), alerts('7m', [firing])] }];
      writeFileSync(file, JSON.stringify({ rule_files: [RULES], tests }));
      const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' });
      expect({ status, said: stdout + stderr }).toMatchObject({ status: 0 });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('takes the queries of the dashboard', () => {
    const directory = mkdtempSync(join(tmpdir(), 'lb4-contrib-'));
    try {
      const file = join(directory, 'rules.yml');
      // As Grafana fills them in.
      const filled = queries.dashboard.map((query) => query.replaceAll('$__rate_interval', '1m').replaceAll(/\$\w+/g, '.*'));
      const records = filled.map((expr, i) => ({ record: `q${i}`, expr }));
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules: records }] }));
      expect(check(file)).toMatchObject({ status: 0 });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
