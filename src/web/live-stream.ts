import { Readable } from 'node:stream';
import { WunderproxyError } from '../errors.ts';
import { SECTIONS, type SectionName, type Sections } from './sections.ts';

/** How often (ms) open pages are told what has changed. */
const TICK = 1_000;
/** Open pages at the most. */
const STREAMS = 64;
/** A page that has taken nothing for so many ticks is let go; its script comes back by itself. */
const LAGGING = 15;

interface Stream {
  readonly out: Readable;
  /** Whether it is still let in. */
  readonly admitted: () => boolean;
  /** For so many ticks it has not taken what it was sent. */
  lag: number;
  /** It missed something: next time it gets everything. */
  behind: boolean;
}

/**
 * The streams of server-sent events (WHATWG HTML, section 9.2) of all open pages. Once a second the page is rendered, once
 * for all of them, and only while there are any; what has changed since is sent. A page that does not read is sent
 * nothing more until it does, so each holds at most one page in memory.
 */
export class LiveStreams {
  readonly #render: () => Sections;
  readonly #streams = new Set<Stream>();
  #timer: NodeJS.Timeout | null = null;
  #last: Sections | null = null;

  constructor(render: () => Sections) {
    this.#render = render;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** A stream for one more page. It ends when its reader does, or when `admitted` no longer holds. Throws `too_many_streams`. */
  open(admitted: () => boolean): Readable {
    if (this.#streams.size >= STREAMS) throw new WunderproxyError('too_many_streams');
    const stream: Stream = { out: new Readable({ read: () => {} }), admitted, lag: 0, behind: false };
    stream.out.on('close', () => this.#forget(stream));
    this.#streams.add(stream);
    this.#timer ??= setInterval(() => this.#tick(), TICK).unref();
    stream.out.push(`retry: 2000\n\n${eventOf(this.#render())}`);
    return stream.out;
  }

  #tick(): void {
    const now = this.#render();
    const changes = this.#last && changedBetween(this.#last, now);
    const news =
      changes === null || Object.keys(changes).length > 0 ? eventOf(changes ?? now) : 'event: tick\ndata:\n\n';
    const everything = eventOf(now);
    this.#last = now;
    for (const stream of this.#streams) {
      if (stream.lag >= LAGGING) stream.out.destroy();
      else if (!stream.admitted()) this.#dismiss(stream);
      else if (stream.out.readableLength > 0) {
        stream.lag++;
        stream.behind = true;
      } else {
        stream.out.push(stream.behind ? everything : news);
        stream.lag = 0;
        stream.behind = false;
      }
    }
  }

  /** Ends it properly, unless that would have to wait for its reader. */
  #dismiss(stream: Stream): void {
    this.#forget(stream);
    if (stream.out.readableLength > 0) stream.out.destroy();
    else stream.out.push(null);
  }

  #forget(stream: Stream): void {
    this.#streams.delete(stream);
    if (this.#streams.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#last = null;
  }
}

type Markup = Partial<Record<SectionName, string>>;

function changedBetween(before: Sections, now: Sections): Markup {
  const changed: Markup = {};
  for (const name of SECTIONS) if (before[name].text !== now[name].text) changed[name] = now[name].text;
  return changed;
}

/** JSON has no raw line breaks, so it is one `data` line. */
function eventOf(sections: Markup | Sections): string {
  return `event: sections\ndata: ${JSON.stringify(sections, (_, value: unknown) => (value instanceof Object && 'text' in value && typeof value.text === 'string' ? value.text : value))}\n\n`;
}
