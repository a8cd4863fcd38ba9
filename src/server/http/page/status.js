// Asks for the server's state again and again, and shows it with its last minutes.

import {ApiError, getJson} from './api.js';
import {Plot} from './plot.js';

const INTERVAL_MS = 2000;
const SPAN_MS = 5 * 60 * 1000;
// Percentiles are of what was observed in this time: one interval alone has too few of them.
const WINDOW_MS = 10 * 1000;

const $ = (id) => document.getElementById(id);

// The value that `fraction` of the observations between two snapshots of a histogram do not exceed,
// taken as spread evenly within a bucket, as Prometheus does; null if there are none. The last
// bucket has no upper bound: its lower one.
export function quantile(before, after, fraction) {
  if (!before || !after) return null;
  const cumulative = after.cumulative.map((count, i) => count - before.cumulative[i]);
  const bounds = after.upper_bounds;
  const total = cumulative.at(-1);
  if (total <= 0) return null;
  const rank = fraction * total;
  const bucket = cumulative.findIndex((count) => count >= rank);
  if (bucket >= bounds.length) return bounds.at(-1);
  const lower = bucket === 0 ? 0 : bounds[bucket - 1];
  const below = bucket === 0 ? 0 : cumulative[bucket - 1];
  return lower + (bounds[bucket] - lower) * (rank - below) / (cumulative[bucket] - below);
}

function mean(before, after) {
  if (!before || !after) return null;
  const count = after.cumulative.at(-1) - before.cumulative.at(-1);
  return count > 0 ? (after.sum - before.sum) / count : null;
}

function duration(seconds) {
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  return `${Number(seconds.toPrecision(3))} s`;
}

function uptime(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

const count = (value) => Math.round(value).toLocaleString('en');
const decimal = (value) => Number(value.toPrecision(3)).toLocaleString('en');
const share = (value) => (value > 0 && value < 0.001 ? '< 0.1 %' : `${Number((100 * value).toPrecision(3))} %`);
const rate = (value) => `${value >= 100 ? count(value) : Number(value.toPrecision(3))}/s`;

// A live region speaks when its text is set, though it be the same.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export class Status {
  constructor() {
    this.samples = [];  // {time, status, and what the plots show}
    this.plots = [
      {title: 'Requests', series: [['running', 'running'], ['waiting', 'waiting']], format: count, least: 2},
      {title: 'Tokens', series: [['out', 'tokensOut'], ['in', 'tokensIn']], format: rate, least: 10},
      {title: 'Batch', series: [['sequences a step', 'batch']], format: decimal, least: 2},
      {title: 'KV cache', series: [['used', 'kv']], format: share, least: 0.05},
      {title: 'First token', series: [['p50', 'ttft50'], ['p95', 'ttft95']], format: duration, least: 0.01},
      {title: 'Next token', series: [['p50', 'itl50'], ['p95', 'itl95']], format: duration, least: 0.001},
      {title: 'Engine step', series: [['mean', 'step']], format: duration, least: 0.001},
    ].map(({series, ...rest}) => new Plot({
      ...rest,
      series: series.map(([name, field]) => ({name, value: (sample) => sample[field]})),
      spanMs: SPAN_MS,
    }));
    $('plots').replaceChildren(...this.plots.map((plot) => plot.element));
    document.addEventListener('visibilitychange', () => document.hidden || this.poll());
  }

  // Now, and then every INTERVAL_MS while the page can be seen.
  async poll() {
    clearTimeout(this.timer);
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      this.add(await getJson('/status'));
    } catch (error) {
      this.fail(error);
    }
    this.isAsking = false;
    if (!document.hidden && !this.isRefused) this.timer = setTimeout(() => this.poll(), INTERVAL_MS);
  }

  // After a refusal for want of a key.
  resume() {
    this.isRefused = false;
    this.poll();
  }

  fail(error) {
    this.isRefused = error instanceof ApiError && error.status === 401;
    write($('health'), this.isRefused ? 'key needed' : 'no answer');
    $('health').className = 'health bad';
    $('status-note').textContent = this.isRefused ? 'needs a key' : 'The server does not answer. Trying again.';
  }

  add(status) {
    const time = performance.now();
    const last = this.samples.at(-1);
    // A server that started anew counts from zero.
    if (last && status.uptime_seconds < last.status.uptime_seconds) this.samples = [];
    this.samples = this.samples.filter((sample) => time - sample.time <= SPAN_MS);
    this.samples.push(this.sample(time, status));
    for (const plot of this.plots) plot.draw(this.samples);
    this.write(status, this.samples.at(-1));
  }

  sample(time, status) {
    const previous = this.samples.at(-1);
    const start = this.samples.findLast((sample) => time - sample.time >= WINDOW_MS) ?? this.samples[0];
    const seconds = previous ? (time - previous.time) / 1000 : 0;
    const perSecond = (name) => (previous ? (status[name] - previous.status[name]) / seconds : null);
    const between = (name, fraction) => quantile(start?.status[name], status[name], fraction);
    return {
      time,
      status,
      isGap: previous && time - previous.time > 5 * INTERVAL_MS,  // the page was hidden
      running: status.running,
      waiting: status.waiting,
      kv: status.kv_blocks_total > 0 ? status.kv_blocks_used / status.kv_blocks_total : 0,
      tokensOut: perSecond('generated_tokens'),
      tokensIn: perSecond('prompt_tokens'),
      ttft50: between('time_to_first_token_seconds', 0.5),
      ttft95: between('time_to_first_token_seconds', 0.95),
      itl50: between('inter_token_latency_seconds', 0.5),
      itl95: between('inter_token_latency_seconds', 0.95),
      batch: mean(start?.status.step_sequences, status.step_sequences),
      step: mean(start?.status.step_duration_seconds, status.step_duration_seconds),
    };
  }

  write(status, sample) {
    const isWell = status.live && status.ready;
    write($('health'), isWell ? 'ready' : status.live ? 'not ready' : 'stuck');
    $('health').className = `health ${isWell ? 'good' : 'bad'}`;
    $('server').textContent = `${status.version} · ${status.device} · ${status.models.length === 1 ?
      status.models[0].profile : `${status.models.length} models`}`;
    $('status-note').textContent = 'and the last 5 minutes';
    const {prefix_cache_queries: queries, prefix_cache_hits: hits} = status;
    const refused = Object.values(status.refused).reduce((sum, n) => sum + n, 0);
    const finished = Object.values(status.finished).reduce((sum, n) => sum + n, 0);
    const tiles = [
      ['running', 'Running', count(status.running)],
      ['waiting', 'Waiting', count(status.waiting)],
      ['kv', 'KV cache', share(sample.kv)],
      ['rate', 'Tokens out', sample.tokensOut === null ? '–' : rate(sample.tokensOut)],
      ['prefix', 'Prefix hits', queries > 0 ? share(hits / queries) : '–'],
      ['finished', 'Finished', count(finished)],
      ['refused', 'Refused', count(refused)],
      ['uptime', 'Up', uptime(status.uptime_seconds)],
    ];
    for (const [id, name, value] of tiles) this.tile(id, name).textContent = value;
  }

  tile(id, name) {
    const known = $(`tile-${id}`);
    if (known) return known;
    const tile = document.createElement('div');
    const term = document.createElement('dt');
    const value = document.createElement('dd');
    term.textContent = name;
    value.id = `tile-${id}`;
    tile.append(term, value);
    $('tiles').append(tile);
    return value;
  }
}
