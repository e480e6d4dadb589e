/** Asks /stats and /healthz again and again, and has the page drawn. */
import { Charts } from './charts.js';
import { OrderDialog } from './orders.js';
import { KEPT, sampleOf, serversOf, short } from './samples.js';
import { Table } from './table.js';

/** Between two answers, in ms; longer where an answer takes long: the page is not to be what keeps lb4 busy. */
const INTERVAL = 1000;
const SHARE = 10;
const PATIENCE = 10_000;

const at = (id) => document.getElementById(id);
const samples = [];
const charts = new Charts(at('charts'));
const dialog = new OrderDialog(at('order'), at('said'));
const table = new Table({
  heads: at('heads'),
  body: at('servers'),
  shown: at('shown'),
  more: at('more'),
  filter: at('filter'),
  order: (row) => dialog.open(row),
});
let last;
let isPaused = false;

async function fetchJson(path) {
  const response = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
  return response.json();
}

async function look() {
  const began = performance.now();
  try {
    const [stats, health] = await Promise.all([fetchJson('stats'), fetchJson('healthz')]);
    take({ at: Date.now() / 1000, stats }, health);
    notice(undefined);
  } catch (error) {
    notice(
      `no answer since ${last === undefined ? 'the page was opened' : new Date(last.at * 1000).toLocaleTimeString()} (${error.message}); trying again`,
    );
  }
  setTimeout(
    isPaused || document.hidden ? wait : look,
    Math.max(INTERVAL, SHARE * (performance.now() - began)) - (performance.now() - began),
  );
}

/** Paused, or in a tab that nobody sees. */
function wait() {
  setTimeout(isPaused || document.hidden ? wait : look, INTERVAL);
}

function take(answer, health) {
  const sample = sampleOf(last, answer);
  // Of the first answer nothing is known but states and what is open.
  if (last !== undefined) samples.push(sample);
  if (samples.length > KEPT) samples.shift();
  table.take(serversOf(last, answer));
  last = answer;
  charts.draw(samples);
  figures(sample);
  say(answer.stats, health);
}

function figures({ connections, opened, packets, bitsIn, bitsOut }) {
  const all = {
    Connections: connections,
    'New a second': opened,
    'Packets a second': packets,
    'Bits from clients': bitsIn,
    'Bits to clients': bitsOut,
  };
  const known = Object.entries(all).filter(([, value]) => value !== undefined);
  at('figures').replaceChildren(
    ...known.map(([name, value]) => {
      const [box, title, figure] = ['div', 'dt', 'dd'].map((tag) => document.createElement(tag));
      title.textContent = name;
      figure.textContent = short(value);
      box.append(title, figure);
      return box;
    }),
  );
}

function say({ lb4 }, { status, reasons = [] }) {
  at('mode').textContent = lb4.mode;
  document.body.classList.toggle('read-only', lb4.dashboard !== 'write');
  const lines = [status, ...reasons];
  if (!lb4.reload.last_succeeded) lines.push(`the last reload failed: ${lb4.reload.last_error}`);
  const text = lines.join('; ');
  // Read aloud when it changes, and only then.
  if (at('health').textContent !== text) at('health').textContent = text;
  at('health').className = status === 'ok' && lb4.reload.last_succeeded ? 'ok' : 'bad';
}

function notice(text) {
  at('notice').hidden = text === undefined;
  if (text !== undefined) at('notice').textContent = text;
}

const THEMES = { '': 'as the system', light: 'light', dark: 'dark' };

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  at('theme').textContent = `Theme: ${THEMES[theme]}`;
  charts.restyle(samples);
}

at('theme').addEventListener('click', () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme ?? '') + 1) % names.length];
  localStorage.setItem('lb4-theme', next);
  setTheme(next);
});
at('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  at('pause').setAttribute('aria-pressed', String(isPaused));
  at('pause').textContent = isPaused ? 'Go on' : 'Pause';
});
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.target instanceof HTMLInputElement) return;
  event.preventDefault();
  at('filter').focus();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => charts.restyle(samples));

const kept = localStorage.getItem('lb4-theme');
setTheme(kept !== null && kept in THEMES ? kept : '');
void look();
