// A small line plot over the last minutes, as SVG.

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 320;
const HEIGHT = 64;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, className, ...children) {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

// 1, 2 or 5 times a power of ten, at least `value`.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

// `series`: [{name, value: sample => number or null}], at most two; `format`: number => text;
// `least`: the smallest top of the axis.
export class Plot {
  constructor({title, series, format, least, spanMs}) {
    Object.assign(this, {title, series, format, least, spanMs});
    this.samples = [];
    this.now = html('span', 'now');
    this.top = html('span', 'top quiet');
    this.lines = series.map((_, i) => svg('path', {class: `series s${i}`}));
    this.cursor = svg('line', {class: 'cursor', y1: 0, y2: HEIGHT, visibility: 'hidden'});
    this.svg = svg('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img'},
                   svg('line', {class: 'axis', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5}),
                   svg('line', {class: 'axis', x1: 0, x2: WIDTH, y1: 0.5, y2: 0.5}),
                   ...this.lines, this.cursor);
    const names = series.map(({name}, i) => html('span', `name s${i}`, name));
    this.element = html('figure', 'plot', html('figcaption', '', html('b', '', title), ...names, this.now),
                        html('div', 'frame', this.svg, this.top));
    this.svg.addEventListener('pointermove', (event) => this.point(event));
    this.svg.addEventListener('pointerdown', (event) => this.point(event));
    this.svg.addEventListener('pointerleave', () => this.point(null));
  }

  // `samples`: ascending in time; the last is now.
  draw(samples) {
    this.samples = samples;
    const values = samples.flatMap((sample) => this.series.map(({value}) => value(sample)));
    const top = ceiling(Math.max(this.least, ...values.filter((value) => value !== null)));
    this.top.textContent = this.format(top);
    this.series.forEach(({value}, i) => this.lines[i].setAttribute('d', this.path(value, top)));
    this.write();
    const summary = this.series.map(({name, value}) => {
      const known = samples.map(value).filter((v) => v !== null);
      if (known.length === 0) return `${name}: nothing yet`;
      return `${name}: ${this.text(value(samples.at(-1)))} now, at most ${this.format(Math.max(...known))}`;
    });
    this.svg.setAttribute('aria-label', `${this.title}. ${summary.join('; ')}.`);
  }

  x(sample) {
    return WIDTH * (1 - (this.samples.at(-1).time - sample.time) / this.spanMs);
  }

  // A value alone between two gaps is a short dash.
  path(value, top) {
    let d = '';
    let isDown = false;
    for (const sample of this.samples) {
      const v = sample.isGap ? null : value(sample);
      if (v === null) {
        isDown = false;
        continue;
      }
      const x = this.x(sample).toFixed(1);
      const y = (HEIGHT - 1.5 - (HEIGHT - 3) * v / top).toFixed(1);
      d += isDown ? `L${x} ${y}` : `M${x} ${y}h.5`;
      isDown = true;
    }
    return d;
  }

  text(value) {
    return value === null ? '–' : this.format(value);
  }

  point(event) {
    this.pointed = null;
    if (event && this.samples.length > 0) {
      const box = this.svg.getBoundingClientRect();
      const x = WIDTH * (event.clientX - box.left) / box.width;
      const distance = (sample) => Math.abs(this.x(sample) - x);
      this.pointed = this.samples.reduce((a, b) => (distance(b) < distance(a) ? b : a));
    }
    this.write();
  }

  // The values now, or where the pointer is.
  write() {
    if (this.samples.length === 0) return;
    const sample = this.samples.includes(this.pointed) ? this.pointed : this.samples.at(-1);
    const isNow = sample === this.samples.at(-1);
    const ago = Math.round((this.samples.at(-1).time - sample.time) / 1000);
    const values = this.series.map(({value}) => this.text(value(sample))).join(' / ');
    this.now.textContent = isNow ? values : `${values}, ${ago} s ago`;
    const x = this.x(sample).toFixed(1);
    this.cursor.setAttribute('x1', x);
    this.cursor.setAttribute('x2', x);
    this.cursor.setAttribute('visibility', isNow ? 'hidden' : 'visible');
  }
}
