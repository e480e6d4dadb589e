/** A chart of panels side by side, as SVG: x by powers of ten, y by powers of ten, the least and the most as a bar at each point. */

interface Point {
  readonly x: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
}

export interface Panel {
  readonly title: string;
  readonly points: readonly Point[];
}

const [WIDTH, HEIGHT] = [380, 300];
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 20, 40, 56];
const TEXT = 'font-family="sans-serif" font-size="12"';

/** @param caption under all of them */
export function chart(caption: string, panels: readonly Panel[]): string {
  const width = WIDTH * panels.length;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${HEIGHT}" width="${width}" height="${HEIGHT}">`,
    `<rect width="${width}" height="${HEIGHT}" fill="#fff"/>`,
    ...panels.map((panel, i) => `<g transform="translate(${i * WIDTH} 0)">\n${draw(panel).join('\n')}\n</g>`),
    `<text ${TEXT} x="${width / 2}" y="${HEIGHT - 10}" text-anchor="middle" fill="#333">${caption}</text>`,
    '</svg>\n',
  ].join('\n');
}

function draw({ title, points }: Panel): string[] {
  const xs = decades(points.map(({ x }) => x));
  const ys = decades(points.flatMap(({ low, high }) => [low, high]));
  const x = scale(xs, LEFT, WIDTH - RIGHT);
  const y = scale(ys, HEIGHT - BOTTOM, TOP);
  const line = (x1: number, y1: number, x2: number, y2: number, style: string) =>
    `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" ${style}/>`;
  return [
    `<text ${TEXT} x="${(LEFT + WIDTH - RIGHT) / 2}" y="24" text-anchor="middle" font-weight="bold">${title}</text>`,
    ...xs.flatMap((value) => [
      line(x(value), TOP, x(value), HEIGHT - BOTTOM, 'stroke="#ddd"'),
      `<text ${TEXT} x="${x(value)}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle" fill="#333">${short(value)}</text>`,
    ]),
    ...ys.flatMap((value) => [
      line(LEFT, y(value), WIDTH - RIGHT, y(value), 'stroke="#ddd"'),
      `<text ${TEXT} x="${LEFT - 6}" y="${y(value) + 4}" text-anchor="end" fill="#333">${short(value)}</text>`,
    ]),
    `<polyline fill="none" stroke="#1f6feb" stroke-width="2" points="${points.map((p) => `${x(p.x)},${y(p.y)}`).join(' ')}"/>`,
    ...points.flatMap((p) => [
      line(x(p.x), y(p.low), x(p.x), y(p.high), 'stroke="#1f6feb"'),
      `<circle cx="${x(p.x)}" cy="${y(p.y)}" r="3" fill="#1f6feb"/>`,
      `<text ${TEXT} x="${x(p.x)}" y="${y(p.high) - 8}" text-anchor="middle">${number(p.y)}</text>`,
    ]),
  ];
}

/** The powers of ten from at most the least value to at least the most. */
function decades(values: readonly number[]): number[] {
  const first = Math.floor(Math.log10(Math.min(...values)));
  const last = Math.max(first + 1, Math.ceil(Math.log10(Math.max(...values))));
  return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
}

function scale(ticks: readonly number[], from: number, to: number): (value: number) => number {
  const [low, high] = [Math.log10(ticks[0]), Math.log10(ticks[ticks.length - 1])];
  return (value) => Math.round((from + ((Math.log10(value) - low) / (high - low)) * (to - from)) * 10) / 10;
}

function number(value: number): string {
  return value < 10 ? value.toPrecision(2) : value.toFixed(0);
}

function short(value: number): string {
  if (value >= 1e6) return `${value / 1e6} M`;
  return value >= 1e3 ? `${value / 1e3} k` : `${Number(value.toPrecision(1))}`;
}
