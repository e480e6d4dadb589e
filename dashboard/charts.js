/** The charts, by uPlot (MIT, dashboard/uPlot.iife.min.js). */
import { KEPT, short, worst } from './samples.js';

/** Okabe and Ito's colours, which the colour-blind can tell apart; lines differ by their dashes as well. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
const DASHES = [[], [8, 4], [2, 3], [12, 3, 2, 3], [5, 2], [1, 2]];
/** Verdicts that are drawn: those with most packets. */
const MOST = 6;
const HEIGHT = 170;

const CHARTS = [
  { title: 'Connections', lines: () => [['open', ({ connections }) => connections]] },
  { title: 'New connections a second', lines: () => [['new', ({ opened }) => opened]] },
  {
    title: 'Packets a second',
    lines: ([first]) => (first?.packets === undefined ? [] : [['packets', ({ packets }) => packets]]),
    none: 'Proxy mode carries connections, and does not see packets.',
  },
  {
    title: 'Bits a second',
    lines: () => [
      ['from clients', ({ bitsIn }) => bitsIn],
      ['to clients', ({ bitsOut }) => bitsOut],
    ],
  },
  {
    title: 'Dropped or refused a second, by verdict',
    lines: (samples) => worst(samples, MOST).map((name) => [name, ({ refused }) => refused[name] ?? 0]),
    none: 'None in these minutes.',
  },
];

/** All charts, in `parent`. */
export class Charts {
  #charts;

  constructor(parent) {
    this.#charts = CHARTS.map((kind) => new Chart(kind, parent));
    new ResizeObserver(() => {
      for (const chart of this.#charts) chart.resize();
    }).observe(parent);
  }

  draw(samples) {
    if (samples.length === 0) return;
    for (const chart of this.#charts) chart.draw(samples);
  }

  /** Colours have changed. */
  restyle(samples) {
    for (const chart of this.#charts) chart.forget();
    this.draw(samples);
  }
}

class Chart {
  #kind;
  #figure = document.createElement('figure');
  #place = document.createElement('div');
  #none = document.createElement('p');
  #plot;
  #names = '';

  constructor(kind, parent) {
    this.#kind = kind;
    const caption = document.createElement('figcaption');
    caption.textContent = kind.title;
    this.#none.className = 'none';
    this.#none.textContent = kind.none ?? '';
    this.#figure.append(caption, this.#place, this.#none);
    parent.append(this.#figure);
  }

  draw(samples) {
    const lines = this.#kind.lines(samples);
    const names = lines.map(([name]) => name).join();
    this.#none.hidden = lines.length > 0;
    if (names !== this.#names) this.forget();
    this.#names = names;
    if (lines.length === 0) return;
    const data = [samples.map(({ at }) => at), ...lines.map(([, read]) => samples.map(read))];
    this.#plot ??= new uPlot(this.#options(lines), data, this.#place);
    this.#plot.setData(data);
    this.#say(lines, samples.at(-1));
  }

  resize() {
    this.#plot?.setSize({ width: this.#place.clientWidth, height: HEIGHT });
  }

  forget() {
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  /** For who cannot see it. */
  #say(lines, last) {
    const values = lines.map(([name, read]) => `${name} ${short(read(last))}`).join(', ');
    this.#place.setAttribute('role', 'img');
    this.#place.setAttribute('aria-label', `${this.#kind.title}: now ${values}`);
  }

  #options(lines) {
    const style = getComputedStyle(document.documentElement);
    const [ink, grid] = ['--faint', '--line'].map((name) => style.getPropertyValue(name).trim());
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: '11px system-ui, sans-serif' };
    return {
      width: this.#place.clientWidth,
      height: HEIGHT,
      cursor: { y: false },
      legend: { live: true },
      // Five minutes, also before so many have passed.
      scales: { x: { range: (_, __, max) => [max - KEPT, max] }, y: { range: (_, __, max) => [0, Math.max(1, max * 1.05)] } },
      axes: [axis, { ...axis, size: 56, values: (_, splits) => splits.map(short) }],
      series: [
        { value: (_, at) => (at === null ? '' : new Date(at * 1000).toLocaleTimeString()) },
        ...lines.map(([label], i) => ({
          label,
          stroke: COLOURS[i % COLOURS.length],
          dash: DASHES[i % DASHES.length],
          width: 2,
          points: { show: false },
          value: (_, value) => (value === null ? '' : short(value)),
        })),
      ],
    };
  }
}
