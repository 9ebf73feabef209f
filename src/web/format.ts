import { html, type Html, raw } from './html.ts';

/** Between a number and its unit, which stay together. */
const NB = '\u00a0';
const THIN = '\u202f';
/** Characters that a brief text has at the most. */
const BRIEF = 24;

/** A whole number, its digits in groups: `12 345`. */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, THIN);
}

/** How many of something: `1 request`, `12 requests`. */
export function plural(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/** Bytes with their unit. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)}${NB}${units[unit]}`;
}

/** A duration given in ms, in three digits and its unit. */
export function duration(ms: number): string {
  if (ms < 1) return `${count(ms * 1_000)}${NB}µs`;
  if (ms < 10) return `${ms.toFixed(2)}${NB}ms`;
  if (ms < 100) return `${ms.toFixed(1)}${NB}ms`;
  if (ms < 1_000) return `${Math.round(ms)}${NB}ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 2 : 1)}${NB}s`;
  return age(ms);
}

/** How long something has lasted, coarsely, from ms: `45 s`, `3 min`, `5 h 20 min`, `12 d`. */
export function age(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds}${NB}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}${NB}min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 10) return minutes % 60 === 0 ? `${hours}${NB}h` : `${hours}${NB}h ${minutes % 60}${NB}min`;
  if (hours < 48) return `${hours}${NB}h`;
  return `${Math.floor(hours / 24)}${NB}d`;
}

/** A number in three digits. */
export function number(value: number): string {
  const digits = value === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return digits === 0 ? count(value) : value.toFixed(digits);
}

/** Requests per second. */
export function rate(perSecond: number): string {
  return `${number(perSecond)}${NB}req/s`;
}

/** A share between 0 and 1 in percent. */
export function percent(share: number): string {
  const value = share * 100;
  if (value > 0 && value < 0.01) return `${+value.toFixed(4)}${NB}%`;
  const digits = value === 0 || value >= 10 ? 0 : value >= 1 ? 1 : 2;
  return `${value.toFixed(digits)}${NB}%`;
}

/**
 * A moment. Without a script it is shown in UTC; the page's script shows it in the reader's zone, and exactly on hover.
 * `clock`: hours to seconds; `minute`: hours and minutes; `day`: with its date.
 */
export function moment(iso: string, form: 'clock' | 'minute' | 'day' = 'clock'): Html {
  const ms = Date.parse(iso);
  if (Number.isNaN(ms)) return html`${iso}`;
  const full = `${new Date(ms).toISOString().slice(0, 19)}Z`;
  const [date, time = ''] = full.split('T');
  const texts = { clock: time.slice(0, 8), minute: time.slice(0, 5), day: `${date} ${time.slice(0, 5)}` };
  const named = form === 'day' ? '' : ` data-form="${form}"`;
  return raw(`<time datetime="${full}"${named}>${texts[form]} UTC</time>`);
}

/** What is told in full close by: its begin and its end, which tell revisions apart. */
export function brief(text: string): string {
  const characters = Array.from(text);
  if (characters.length <= BRIEF) return text;
  const half = (BRIEF - 2) / 2;
  return `${characters.slice(0, half).join('')}…${characters.slice(-half).join('')}`;
}

/** As people and text answers name a hash or an id. */
export function short(id: string): string {
  return id.slice(0, 8);
}
