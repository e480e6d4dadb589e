/** The table of servers: rows are kept and changed in place, so that whoever reads or selects is not disturbed. */
import { arranged, checkText, SPARK, short } from './samples.js';

/** Rows that are drawn until somebody asks for more: a page of thousands takes longer than a second. */
const STEP = 200;
/** A sign of its own beside the colour for each state. */
const SIGNS = { up: '▲', down: '▼', drain: '◐', unknown: '?', damped: '≈', silent: '∅', 'no way': '⊘' };

const COLUMNS = [
  { key: 'backend', head: 'Backend', text: ({ backend }) => backend },
  { key: 'server', head: 'Server', text: ({ server, backup }) => (backup ? `${server} (backup)` : server) },
  { key: 'address', head: 'Address', text: ({ address }) => address },
  {
    key: 'state',
    head: 'State',
    text: ({ state }) => `${SIGNS[state] ?? '?'} ${state}`,
    name: ({ state }) => `state ${state.replace(' ', '-')}`,
  },
  { key: 'byControl', head: 'By control', text: ({ byControl }) => (byControl === '' ? '' : `✎ ${byControl}`), name: () => 'set' },
  { key: 'weight', head: 'Weight', text: ({ weight }) => short(weight), isNumber: true },
  { key: 'sessions', head: 'Sessions', text: ({ sessions }) => short(sessions), isNumber: true },
  { key: 'opened', head: 'New/s', text: ({ opened }) => short(opened), isNumber: true },
  { key: 'bits', head: 'Bits/s', text: ({ bits }) => short(bits), isNumber: true },
  { key: 'spark', head: 'Last minute', isChart: true },
  { key: 'lastCheck', head: 'Last check', text: checkText, name: () => 'reason' },
  { key: 'order', head: 'Order', isButton: true },
];

export class Table {
  #body;
  #shown;
  #more;
  #filter;
  #order;
  #rows = [];
  #lines = new Map();
  #history = new Map();
  #column;
  #isDown = false;
  #most = STEP;

  /** @param order is given the row of which the button was pressed */
  constructor({ heads, body, shown, more, filter, order }) {
    [this.#body, this.#shown, this.#more, this.#filter, this.#order] = [body, shown, more, filter, order];
    for (const column of COLUMNS) heads.append(this.#head(column));
    filter.addEventListener('input', () => this.#draw());
    more.addEventListener('click', () => {
      this.#most += STEP;
      this.#draw();
    });
  }

  /** Takes the servers of a new sample. */
  take(rows) {
    const known = new Set(rows.map(({ key }) => key));
    for (const key of this.#history.keys()) if (!known.has(key)) this.#history.delete(key);
    for (const { key, bits } of rows) {
      const values = this.#history.get(key) ?? [];
      values.push(bits);
      this.#history.set(key, values.slice(-SPARK));
    }
    this.#rows = rows;
    this.#draw();
  }

  #head(column) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.className = column.isNumber ? 'number' : '';
    if (column.isButton) cell.className = 'order';
    if (column.isChart || column.isButton) {
      cell.textContent = column.head;
      return cell;
    }
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = column.head;
    button.addEventListener('click', () => {
      this.#isDown = this.#column === column.key && !this.#isDown;
      this.#column = column.key;
      for (const other of cell.parentElement.children) other.removeAttribute('aria-sort');
      cell.setAttribute('aria-sort', this.#isDown ? 'descending' : 'ascending');
      this.#draw();
    });
    cell.append(button);
    return cell;
  }

  #draw() {
    const found = arranged(this.#rows, this.#filter.value, this.#column, this.#isDown);
    const drawn = found.slice(0, this.#most);
    this.#shown.textContent = found.length === this.#rows.length ? `${found.length}` : `${found.length} of ${this.#rows.length}`;
    this.#more.hidden = drawn.length === found.length;
    const lines = drawn.map((row) => this.#line(row));
    const gone = new Set(this.#lines.keys());
    for (const { key } of drawn) gone.delete(key);
    for (const key of gone) {
      this.#lines.get(key).line.remove();
      this.#lines.delete(key);
    }
    // Only what stands elsewhere is moved: a row that is moved loses its focus and selection.
    for (const [i, line] of lines.entries())
      if (this.#body.children[i] !== line) this.#body.insertBefore(line, this.#body.children[i] ?? null);
  }

  #line(row) {
    const known = this.#lines.get(row.key) ?? newLine((line) => this.#order(line.row));
    this.#lines.set(row.key, known);
    known.row = row;
    for (const [i, { text, name, isChart, isNumber, isButton }] of COLUMNS.entries()) {
      if (isButton) {
        if (known.button.ariaLabel !== `Set ${row.fullName}`) known.button.ariaLabel = `Set ${row.fullName}`;
        continue;
      }
      const cell = known.cells[i];
      if (isChart) {
        drawSpark(known.spark, this.#history.get(row.key) ?? []);
        continue;
      }
      const content = text(row);
      if (cell.textContent !== content) cell.textContent = content;
      const className = isNumber ? 'number' : (name?.(row) ?? '');
      if (cell.className !== className) cell.className = className;
    }
    return known.line;
  }
}

const SVG = 'http://www.w3.org/2000/svg';
const [WIDTH, HEIGHT] = [96, 20];

/** @param press is given the line */
function newLine(press) {
  const line = document.createElement('tr');
  const cells = COLUMNS.map(({ head }) => {
    const cell = document.createElement('td');
    cell.dataset.head = head;
    line.append(cell);
    return cell;
  });
  const svg = document.createElementNS(SVG, 'svg');
  const spark = document.createElementNS(SVG, 'polyline');
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute('class', 'spark');
  svg.setAttribute('aria-hidden', 'true');
  svg.append(spark);
  cells[COLUMNS.findIndex(({ isChart }) => isChart)].append(svg);
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = 'Set …';
  const place = cells[COLUMNS.findIndex(({ isButton }) => isButton)];
  place.className = 'order';
  place.append(button);
  const known = { line, cells, spark, button };
  button.addEventListener('click', () => press(known));
  return known;
}

function drawSpark(polyline, values) {
  const most = Math.max(1, ...values);
  const left = SPARK - values.length;
  const points = values.map(
    (value, i) => `${(((left + i) * WIDTH) / (SPARK - 1)).toFixed(1)},${(HEIGHT - 1 - (value / most) * (HEIGHT - 2)).toFixed(1)}`,
  );
  polyline.setAttribute('points', points.join(' '));
}
