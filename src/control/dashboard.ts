/** The page at `/`, and its parts: files of lb4's own (dashboard/), nothing from elsewhere. */
import { readFileSync } from 'node:fs';
import type { Hono } from 'hono';
import { ownFile } from '../own-files.ts';

const SCRIPT = 'text/javascript; charset=utf-8';
const STYLE = 'text/css; charset=utf-8';
const PARTS = {
  'main.js': SCRIPT,
  'samples.js': SCRIPT,
  'charts.js': SCRIPT,
  'table.js': SCRIPT,
  'orders.js': SCRIPT,
  'uPlot.iife.min.js': SCRIPT,
  'uPlot.min.css': STYLE,
  'dashboard.css': STYLE,
} as const;

/** What names of servers, whoever chose them, could make of the page: nothing. It loads, and asks, only where it came from. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
} as const;

/** Serves the page. Returns its paths. */
export function addDashboard(app: Hono): readonly string[] {
  const kept = new Map<string, string>();
  const read = (name: string): string => {
    const text = kept.get(name) ?? readFileSync(ownFile('dashboard', name), 'utf8');
    kept.set(name, text);
    return text;
  };
  app.get('/', (context) => context.body(read('index.html'), 200, { ...HEADERS, 'content-type': 'text/html; charset=utf-8' }));
  for (const [name, type] of Object.entries(PARTS))
    app.get(`/dashboard/${name}`, (context) => context.body(read(name), 200, { ...HEADERS, 'content-type': type }));
  return ['/', ...Object.keys(PARTS).map((name) => `/dashboard/${name}`)];
}
